"""A mailbox gets only a few requested e-mails a day, whatever their sources, even concurrently."""

from __future__ import annotations

from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.test import Client

from channels import daily_counts, team
from channels.audit import Actor
from channels.errors import TooManyInvitations
from channels.models import Account, DailyCount, Invitation, User
from channels.team import Role
from channels.tests.factories import Site
from dashboard.login.adapter import LINKS_PER_DAY
from dashboard.tests.test_accounts import PASSWORD, sign_up
from tests.support.threads import run_in_threads

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("forget_attempts")]

SOMEBODY = Actor("somebody")


@pytest.fixture
def account(site: Site) -> Account:
    return Account.objects.get(id=site.account_id)


def invite(account: Account, email: str) -> Invitation:
    return team.invite(account=account, email=email, role=Role.VIEWER, actor=SOMEBODY).record


def test_invitations_and_those_sent_again_count_alike(account: Account, clock: Any) -> None:
    invitations = [invite(account, f"{number}@example.com") for number in range(10)]
    clock.shift(61)
    for invitation in invitations:
        team.renew_invitation(invitation=invitation, actor=SOMEBODY)
    clock.shift(61)
    with pytest.raises(TooManyInvitations):
        team.renew_invitation(invitation=invitations[0], actor=SOMEBODY)
    with pytest.raises(TooManyInvitations):
        invite(account, "another@example.com")
    before = Invitation.objects.get(id=invitations[0].id).secret_digest
    clock.shift(86_400)
    team.renew_invitation(invitation=invitations[0], actor=SOMEBODY)
    assert Invitation.objects.get(id=invitations[0].id).secret_digest != before


def test_withdrawing_gives_nothing_back(account: Account) -> None:
    for number in range(team.INVITATIONS_PER_DAY):
        invitation = invite(account, f"{number}@example.com")
        team.withdraw_invitation(invitation=invitation, actor=SOMEBODY)
    with pytest.raises(TooManyInvitations):
        invite(account, "another@example.com")


def test_one_mailbox_gets_few_from_all_accounts_together(db: None) -> None:
    accounts = [Account.objects.create(name=str(number)) for number in range(6)]
    spellings = ["v@x.example", "V@X.example", "v+1@x.example", "v+2@x.EXAMPLE", "v+3@x.example"]
    for account, email in zip(accounts, spellings, strict=False):
        invite(account, email)
    with pytest.raises(TooManyInvitations):
        invite(accounts[5], "v@x.example")
    assert not Invitation.objects.filter(account=accounts[5]).exists()
    invite(accounts[5], "w@x.example")


@pytest.mark.django_db(transaction=True)
def test_the_bounds_hold_for_many_at_once() -> None:
    one = Account.objects.create(name="One")
    many = [Account.objects.create(name=str(number)) for number in range(12)]

    def try_invite(account: Account, email: str) -> bool:
        try:
            invite(account, email)
        except TooManyInvitations:
            return False
        return True

    sent = run_in_threads(lambda n: try_invite(one, f"{n}@example.com"), 24)
    assert sum(sent) == team.INVITATIONS_PER_DAY == one.invitations.count()
    sent = run_in_threads(lambda n: try_invite(many[n], "victim@example.com"), 12)
    assert sum(sent) == team.INVITATIONS_PER_DAY_TO_ONE
    assert Invitation.objects.filter(email="victim@example.com").count() == sum(sent)


@pytest.mark.django_db(transaction=True)
def test_a_count_is_exact_and_rolled_back_with_its_deed() -> None:
    counted = run_in_threads(lambda _: daily_counts.count("x", "y", most=5), 16)
    assert sum(counted) == 5
    assert DailyCount.objects.get().count == 5
    assert not connection.in_atomic_block


def test_counts_begin_anew_each_utc_day_and_are_forgotten(clock: Any) -> None:
    assert daily_counts.count("x", "y", most=1)
    assert not daily_counts.count("x", "y", most=1)
    clock.shift(12 * 3600)
    assert daily_counts.count("x", "y", most=1)
    clock.shift(86_400)
    assert daily_counts.forget_earlier_days() == 1
    (row,) = DailyCount.objects.all()
    assert len(row.subject_digest) == 64, "what was typed is not kept"


def test_links_to_one_mailbox_are_few_a_day(clock: Any, settings: Any) -> None:
    settings.TRUSTED_PROXY_COUNT = 1
    User.objects.create_user("anna@example.com", PASSWORD)
    answer: Any = None
    for number in range(LINKS_PER_DAY + 3):
        clock.shift(301)
        answer = Client().post(
            "/accounts/password/reset/",
            {"email": "anna@example.com" if number % 2 else "Anna+x@example.com"},
            headers={"X-Forwarded-For": f"192.0.2.{number}"},
            follow=True,
        )
    assert len(mail.outbox) == LINKS_PER_DAY
    assert "We sent many e-mails to this address today" in answer.content.decode()
    Client().post("/accounts/password/reset/", {"email": "other@example.com"})
    assert len(mail.outbox) == LINKS_PER_DAY + 1


# --- Another mail ---------------------------------------------------------------------------------


def test_a_second_mail_can_be_had_after_a_minute(clock: Any) -> None:
    client = sign_up()
    page = client.get("/accounts/confirm-email/").content.decode()
    assert 'action="/accounts/mail-again/"' in page
    early = client.post("/accounts/mail-again/", follow=True).content.decode()
    assert "Wait a minute" in early
    clock.shift(61)
    assert (
        "We are sending another e-mail"
        in client.post("/accounts/mail-again/", follow=True).content.decode()
    )
    assert [one.to for one in mail.outbox] == [["anna.smith@example.com"]] * 2


def test_of_a_taken_address_the_answer_is_the_same(clock: Any) -> None:
    User.objects.create_user("anna.smith@example.com", PASSWORD)
    client = sign_up()
    clock.shift(61)
    answer = client.post("/accounts/mail-again/", follow=True).content.decode()
    assert "We are sending another e-mail" in answer
    assert "already" in str(mail.outbox[-1].body)


def test_nobody_else_can_have_a_mail_sent() -> None:
    sign_up()
    answer = Client().post("/accounts/mail-again/", {"email": "anna.smith@example.com"})
    assert answer["Location"] == "/accounts/login/"
    assert len(mail.outbox) == 1
    assert Client().get("/accounts/mail-again/").status_code == 302
    assert len(mail.outbox) == 1


def test_another_mail_of_a_reset_finds_the_address_filled_in() -> None:
    client = Client()
    client.post("/accounts/password/reset/", {"email": "anna@example.com"})
    assert "Send another e-mail" in client.get("/accounts/password/reset/done/").content.decode()
    assert 'value="anna@example.com"' in client.get("/accounts/password/reset/").content.decode()
    assert "anna@" not in Client().get("/accounts/password/reset/").content.decode()
