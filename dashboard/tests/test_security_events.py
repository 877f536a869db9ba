"""Log-ins, refused log-ins, and changes to a log-in: in the log, and visible to owners."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP
from django.core import mail
from django.test import Client

from channels.models import Account, AuditEntry, Membership, User
from channels.tests.factories import Site
from dashboard.login.events import abridged
from dashboard.tests.test_accounts import PASSWORD, SECRET, code_now, link_in_mail, sign_up
from tests.support.clients import log_in, owner_of, try_password

# Codes and attempt counts last for seconds. A frozen clock keeps a test within one period.
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock", "forget_attempts")]

ADDRESS = "198.51.100.7"


@pytest.fixture
def owner(site: Site) -> User:
    user = owner_of(site)
    user.set_password(PASSWORD)
    user.save()
    return user


@pytest.fixture(autouse=True)
def _hear(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.accounts")


def browser() -> Client:
    return Client(REMOTE_ADDR=ADDRESS)


def try_log_in(name: str, password: str) -> Client:
    return try_password(name, password, browser())


def lines(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    return [vars(one) for one in caplog.records if one.getMessage() == event]


def entries(site: Site, event: str) -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(account_id=site.account_id, action=event))


def test_a_log_in_is_written_down_with_person_and_address(
    site: Site, owner: User, caplog: pytest.LogCaptureFixture
) -> None:
    client = try_log_in(owner.email, PASSWORD)
    (line,) = lines(caplog, "login.succeeded")
    assert (line["person"], line["address"], line["by"]) == (owner.email, ADDRESS, "password")
    (entry,) = entries(site, "login.succeeded")
    assert (entry.actor, entry.address) == (owner, ADDRESS)
    User.objects.filter(pk=owner.pk).update(is_staff=True)
    for log_out in ("/log-out/", "/accounts/logout/", "/admin/logout/"):
        client = try_log_in(owner.email, PASSWORD)
        client.post(log_out)
        assert "_auth_user_id" not in client.session, log_out
    assert len(lines(caplog, "login.ended")) == len(entries(site, "login.ended")) == 3


def test_a_wrong_password_is_written_down_for_the_accounts_it_opens(
    site: Site, stranger: Site, owner: User, caplog: pytest.LogCaptureFixture
) -> None:
    second = Account.objects.get(id=stranger.account_id)
    Membership.objects.create(account=second, user=owner, role="viewer")
    try_log_in(owner.email.upper(), "hunter2-typed-wrong")
    (line,) = lines(caplog, "login.failed")
    assert (line["person"], line["address"]) == (owner.email, ADDRESS)
    for one in (site, stranger):
        (entry,) = entries(one, "login.failed")
        assert entry.changes == {"by": [None, "password"]}
    assert "hunter2" not in caplog.text + str(list(AuditEntry.objects.values()))


def test_a_name_that_nobody_has_is_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    for typed in ("my-secret@example.com", "my-other@secret.example"):
        try_log_in(typed, "x")
    (first, second) = lines(caplog, "login.failed")
    assert (first["name_typed"], second["name_typed"]) == (
        "my… (21 characters)",
        "my… (23 characters)",
    )
    assert first["address"] == ADDRESS
    assert "secret" not in str([vars(one) for one in caplog.records])
    assert abridged("") == ""


def test_whoever_must_wait_is_written_down_once_a_minute(
    site: Site, owner: User, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(9):
        try_log_in(owner.email, "wrong")
    assert len(lines(caplog, "login.failed")) == 5
    assert len(lines(caplog, "login.limited")) == 1
    assert len(entries(site, "login.limited")) == 1


def test_an_address_that_must_wait_is_told_and_written_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    form = {"email": "a@example.com", "password1": "short"}
    answers = [browser().post("/accounts/signup/", form) for _ in range(13)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429] * 3
    assert answers[-1]["Retry-After"] == "60"
    (line,) = lines(caplog, "login.limited")
    assert (line["page"], line["address"]) == ("account_signup", ADDRESS)


@pytest.mark.django_db(transaction=True)
def test_changes_of_a_log_in_are_written_down(
    site: Site, owner: User, caplog: pytest.LogCaptureFixture
) -> None:
    client = try_log_in(owner.email, PASSWORD)
    new = "another-good-password"
    form = {"oldpassword": PASSWORD, "password1": new, "password2": new}
    client.post("/accounts/password/change/", form)
    client.post("/accounts/email/", {"email": "new@example.com", "action_add": "yes"})
    client.post(link_in_mail())
    page = client.get("/accounts/2fa/totp/activate/").content.decode()
    found = re.search(r'id="authenticator_secret" value="([A-Z2-7]+)"', page)
    assert found
    client.post("/accounts/2fa/totp/activate/", {"code": code_now(found[1])})
    client.post("/accounts/2fa/recovery-codes/generate/")
    client.post("/accounts/2fa/totp/deactivate/")
    client.post("/accounts/reauthenticate/", {"password": "wrong"})
    client.post("/accounts/reauthenticate/", {"password": new})
    for event in (
        "password.changed",
        "email.change_requested",
        "email.changed",
        "second_factor.added",
        "recovery_codes.generated",
        "second_factor.removed",
        "login.confirmation_failed",
        "login.confirmed",
    ):
        assert len(lines(caplog, event)) == 1, event
        assert len(entries(site, event)) == 1, event
    secrets = (PASSWORD, new, found[1])
    written = caplog.text + str(list(AuditEntry.objects.values()))
    assert not [secret for secret in secrets if secret in written]


def test_a_wrong_code_is_a_failed_log_in(
    site: Site, owner: User, caplog: pytest.LogCaptureFixture
) -> None:
    TOTP.activate(owner, SECRET)
    RecoveryCodes.activate(owner)
    client = try_log_in(owner.email, PASSWORD)
    client.post("/accounts/2fa/authenticate/", {"code": "000000"})
    (entry,) = entries(site, "login.failed")
    assert entry.changes == {"by": [None, "code"]}
    client.post("/accounts/2fa/authenticate/", {"code": code_now()})
    assert lines(caplog, "login.succeeded")[0]["by"] == "password, mfa"


def test_a_reset_and_a_sign_up_are_written_down(
    site: Site, owner: User, caplog: pytest.LogCaptureFixture
) -> None:
    browser().post("/accounts/password/reset/", {"email": owner.email})
    client = browser()
    page = client.get(link_in_mail())["Location"]
    new = "another-good-password"
    client.post(page, {"password1": new, "password2": new})
    assert len(entries(site, "password.reset")) == 1
    sign_up("newcomer@example.com", browser())
    (line,) = lines(caplog, "person.signed_up")
    assert line["person"] == "newcomer@example.com"
    theirs = Account.objects.get(members__email="newcomer@example.com")
    assert AuditEntry.objects.get(account=theirs).action == "account.created"
    assert mail.outbox


def test_an_ended_session_is_written_down(site: Site, owner: User) -> None:
    here = try_log_in(owner.email, PASSWORD)
    try_log_in(owner.email, PASSWORD)
    sessions = here.get("/accounts/sessions/").context["sessions"]
    mark = next(one.mark for one in sessions if not one.is_this)
    here.post("/accounts/sessions/end/", {"session": mark})
    (entry,) = entries(site, "session.ended")
    assert entry.changes["at"] == [None, ADDRESS]
    here.post("/accounts/sessions/end-all/")
    assert len(entries(site, "session.all_ended")) == 1


def test_what_the_staff_do_to_a_log_in_is_told_to_its_accounts(
    site: Site, owner: User, admin_client: Client
) -> None:
    TOTP.activate(owner, SECRET)
    factor = Authenticator.objects.get(user=owner)
    admin_client.post(f"/admin/mfa/authenticator/{factor.id}/delete/", {"post": "yes"})
    new = {
        "usable_password": "true",
        "password1": "a-good-password",
        "password2": "a-good-password",
    }
    assert admin_client.post(f"/admin/channels/user/{owner.id}/password/", new).status_code == 302
    for event in ("second_factor.removed_by_staff", "password.set_by_staff"):
        (entry,) = entries(site, event)
        assert (entry.actor_name, entry.target) == ("admin@example.com", owner.email)
        assert AuditEntry.objects.filter(action=event, account=None).count() == 1
    assert "a-good-password" not in str(list(AuditEntry.objects.values()))


def test_the_staffs_are_the_gateways_own(owner: User, caplog: pytest.LogCaptureFixture) -> None:
    boss = User.objects.create_superuser("boss@example.com", PASSWORD)
    try_log_in(boss.email, PASSWORD)
    entry = AuditEntry.objects.get(actor=boss)
    assert (entry.action, entry.account) == ("login.succeeded", None)
    assert log_in(boss).get("/admin/channels/auditentry/").status_code == 200
