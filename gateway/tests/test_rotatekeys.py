"""`manage.py rotatekeys` moves everything to the newest secrets while others read and write."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone
from pytest_django import Settings

from billing import redemptions
from billing.models import RedemptionCode
from billing.tests.test_admission import wait_for_a_waiting_backend
from channels import account_keys, api_keys, catalogue, secret_checks, team
from channels.audit import COMMAND_LINE, Actor
from channels.models import ApiKey, Invitation, Membership, Provider, SecretCheck, User
from channels.sealing import API_KEYS, PROVIDER_KEYS
from channels.tests.factories import Site, make_site
from common.crypto import DecryptionError
from gateway import rotation
from tests.support.clients import ApiClient

pytestmark = pytest.mark.django_db

FACTOR_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def encoded(letter: str) -> str:
    return base64.b64encode(letter.encode() * 32).decode()


NEW_RING, NEW_PEPPER = f"k2:{encoded('n')}", encoded("q")


class Installation:
    """One row of everything that is encrypted or digested with a secret."""

    def __init__(self) -> None:
        self.site = make_site()
        self.provider = Provider.objects.get(name="groq")
        catalogue.set_provider_key(provider=self.provider, clear="sk-secret")
        self.invitation = team.invite(
            account=self.site.channel.account,
            email="new@example.com",
            role=Membership.Role.EDITOR,
            actor=COMMAND_LINE,
        )
        (self.code,) = redemptions.make_codes(
            reference="a test", count=1, amount_microcredits=1_000_000, actor=COMMAND_LINE
        )
        self.account_key = account_keys.issue_account_key(
            account=self.site.channel.account, name="script", actor=COMMAND_LINE
        )
        self.user = User.objects.create_user("new@example.com", "a-long-password-1")
        TOTP.activate(self.user, FACTOR_SECRET)

    def works(self) -> None:
        """Assert that everything that needs a secret still works."""
        for key in (self.site.api_key, self.site.test_key):
            assert ApiClient(key).get("/api/key").status_code == 200
        listed = ApiClient(self.account_key.clear).get("/api/manage/channels")
        assert listed.status_code == 200
        shown = {api_keys.reveal_api_key(row) for row in ApiKey.objects.all()}
        assert shown == {self.site.api_key, self.site.test_key}
        self.provider.refresh_from_db()
        assert PROVIDER_KEYS.unseal(self.provider) == "sk-secret"
        digests = team.digests_of(self.invitation.secret)
        found = team.find_invitation(digests)
        assert found is not None
        assert found.id == self.invitation.record.id
        assert redemptions.find_code(self.code.code) == self.code
        factor = Authenticator.objects.get(user=self.user)
        assert factor.wrap().validate_code("") is False  # decrypted, and found wrong


def rotate(*arguments: str) -> Any:
    out = StringIO()
    with suppress(SystemExit):
        call_command("rotatekeys", "--json", *arguments, stdout=out)
    return json.loads(out.getvalue())


def recorded() -> set[tuple[str, str]]:
    return set(SecretCheck.objects.values_list("setting", "name"))


def ids() -> set[tuple[str, str]]:
    settings = ("ENCRYPTION_KEYS", "KEY_DIGEST_PEPPER")
    return {(setting, rotation.newest(setting)) for setting in settings}


def add_ring(settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = f"{NEW_RING},{settings.ENCRYPTION_KEYS}"


def drop_ring(settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = NEW_RING


def add_pepper(settings: Settings) -> None:
    settings.KEY_DIGEST_PEPPER_FALLBACKS = settings.KEY_DIGEST_PEPPER
    settings.KEY_DIGEST_PEPPER = NEW_PEPPER


def drop_pepper(settings: Settings) -> None:
    settings.KEY_DIGEST_PEPPER_FALLBACKS = ""


Change = Callable[[Settings], None]
CHANGES = pytest.mark.parametrize(
    ("add", "drop"),
    [
        pytest.param([add_ring], [drop_ring], id="ring"),
        pytest.param([add_pepper], [drop_pepper], id="pepper"),
        pytest.param([add_ring, add_pepper], [drop_pepper, drop_ring], id="both"),
    ],
)


@CHANGES
def test_everything_works_before_while_and_after(
    settings: Settings, add: list[Change], drop: list[Change]
) -> None:
    installation = Installation()
    for change in add:
        change(settings)
    installation.works()
    result = rotate()
    assert (result["unreadable"], result["still_needed"]) == ([], [])
    assert list(result["ENCRYPTION_KEYS"].values()) == [7]
    assert list(result["KEY_DIGEST_PEPPER"].values()) == [5]
    installation.works()
    for change in drop:
        change(settings)
    installation.works()
    assert recorded() == ids()
    assert rotate()["rewritten"] == 0


def test_a_machine_that_is_not_told_yet_finds_what_was_rewritten(settings: Settings) -> None:
    """If the new secrets are first added at the end everywhere, restarts can come in any order."""
    installation = Installation()
    ring, pepper = settings.ENCRYPTION_KEYS, settings.KEY_DIGEST_PEPPER
    add_ring(settings)
    add_pepper(settings)
    rotate()
    settings.ENCRYPTION_KEYS = f"{ring},{NEW_RING}"
    settings.KEY_DIGEST_PEPPER, settings.KEY_DIGEST_PEPPER_FALLBACKS = pepper, NEW_PEPPER
    installation.works()
    # What that machine writes meanwhile needs the old secrets again. The next rotation covers it.
    api_keys.issue_api_key(channel=installation.site.channel, is_test=True).record.delete()
    api_keys.issue_api_key(channel=make_site(owner="late@example.com").channel, is_test=False)
    assert ("ENCRYPTION_KEYS", "t1") in recorded()
    settings.ENCRYPTION_KEYS = NEW_RING
    assert secret_checks.find_problems()
    settings.ENCRYPTION_KEYS = f"{NEW_RING},{ring}"
    settings.KEY_DIGEST_PEPPER, settings.KEY_DIGEST_PEPPER_FALLBACKS = NEW_PEPPER, pepper
    assert rotate()["rewritten"] == 3
    assert recorded() == ids()


def test_a_rotation_that_was_killed_goes_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation = Installation()
    add_ring(settings)
    add_pepper(settings)
    monkeypatch.setattr(rotation, "BATCH", 1)
    next(rotation.rewrite_all())
    left = rotation.count_left()
    assert left["ENCRYPTION_KEYS", "k2"] == 1
    assert left["ENCRYPTION_KEYS", "t1"] == 6
    installation.works()
    assert rotate()["rewritten"] == 6
    installation.works()
    assert recorded() == ids()


def test_what_cannot_be_read_keeps_its_key_and_nothing_else(settings: Settings) -> None:
    installation = Installation()
    row = ApiKey.objects.get(mode="live")
    ApiKey.objects.filter(id=row.id).update(key_ciphertext=b"x" * 80)
    add_ring(settings)
    result = rotate()
    assert result["still_needed"] == ["ENCRYPTION_KEYS t1"]
    assert len(result["unreadable"]) == 1
    assert str(row.id) in result["unreadable"][0]
    assert result["ENCRYPTION_KEYS"] == {"k2": 6, "t1": 1}
    assert ApiClient(installation.site.api_key).get("/api/key").status_code == 200
    assert rotate("--drop-unreadable")["still_needed"] == []
    drop_ring(settings)
    assert secret_checks.find_problems() == []
    assert ApiClient(installation.site.api_key).get("/api/key").status_code == 200
    with pytest.raises(DecryptionError):
        api_keys.reveal_api_key(ApiKey.objects.get(id=row.id))
    assert rotate()["unreadable"] == []


def test_a_second_factor_that_cannot_be_read_is_named_and_keeps_its_key(
    settings: Settings,
) -> None:
    Installation()
    factor = Authenticator.objects.get()
    kept = {name: f"{text[:-8]}AAAAAAA=" for name, text in factor.data.items()}
    Authenticator.objects.update(data=kept)
    add_ring(settings)
    result = rotate()
    assert result["still_needed"] == ["ENCRYPTION_KEYS t1"]
    assert [str(factor.pk) in words for words in result["unreadable"]] == [True]


def test_what_cannot_be_read_keeps_its_pepper_until_it_is_revoked(settings: Settings) -> None:
    Installation()
    row = ApiKey.objects.get(mode="live")
    ApiKey.objects.filter(id=row.id).update(key_ciphertext=b"x" * 80)
    add_pepper(settings)
    assert len(rotate("--drop-unreadable")["still_needed"]) == 1
    api_keys.revoke_api_key(api_key=row)
    assert rotate()["still_needed"] == []
    drop_pepper(settings)
    assert secret_checks.find_problems() == []


def test_an_open_invitation_without_a_ciphertext_keeps_its_pepper_until_it_ends(
    settings: Settings,
) -> None:
    """As invitations from before this version are."""
    installation = Installation()
    old = Invitation.objects.filter(id=installation.invitation.record.id)
    old.update(secret_ciphertext=None, encryption_key_id="", pepper_id="")
    add_pepper(settings)
    result = rotate()
    assert result["KEY_DIGEST_PEPPER"]["older than these ids"] == 1
    assert len(result["still_needed"]) == 1
    installation.works()
    old.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert rotate()["still_needed"] == []
    drop_pepper(settings)
    assert secret_checks.find_problems() == []


def test_an_invitation_opened_before_is_accepted_after(settings: Settings, client: Any) -> None:
    """The browser that opened the link keeps its digests, but the rotation changes the row's."""
    installation = Installation()
    client.force_login(installation.user)
    settings.KEY_DIGEST_PEPPER_FALLBACKS = NEW_PEPPER
    client.get(f"/join/{installation.invitation.secret}/")
    pepper, settings.KEY_DIGEST_PEPPER = settings.KEY_DIGEST_PEPPER, NEW_PEPPER
    settings.KEY_DIGEST_PEPPER_FALLBACKS = pepper
    rotate()
    drop_pepper(settings)
    client.post("/join/accept/")
    assert Membership.objects.filter(user=installation.user, role="editor").exists()


@pytest.mark.django_db
def test_a_rotation_ends_although_there_is_always_more_to_rewrite(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation = Installation()
    add_ring(settings)
    monkeypatch.setattr(rotation, "PASSES", 1)
    assert rotate()["still_needed"] == []
    installation.works()


@pytest.mark.django_db(transaction=True)
def test_nothing_that_is_written_meanwhile_is_lost(settings: Settings) -> None:
    installation = Installation()
    add_ring(settings)
    add_pepper(settings)
    stop = threading.Event()
    last: list[str] = []

    def write() -> None:
        number = 0
        try:
            while not stop.is_set():
                number += 1
                last[:] = [f"sk-{number}"]
                provider = Provider.objects.get(name="groq")
                catalogue.set_provider_key(provider=provider, clear=last[0])
                api_keys.revoke_api_key(
                    api_key=api_keys.issue_api_key(
                        channel=installation.site.channel, is_test=False
                    ).record
                )
        finally:
            connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            rotate()
    finally:
        stop.set()
        writer.join()
    provider = Provider.objects.get(name="groq")
    assert PROVIDER_KEYS.unseal(provider) == last[0]
    assert rotate()["still_needed"] == []
    keys = ApiKey.objects.all()
    assert all(API_KEYS.unseal(row) for row in keys)
    assert (
        not keys.filter(revoked_at=None)
        .exclude(id__in=[row.id for row in keys if row.created_at < timezone.now()])
        .exists()
    )
    assert keys.filter(revoked_at=None).count() == 2


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="row locks")
def test_a_row_that_is_being_written_is_left_for_the_next_pass(settings: Settings) -> None:
    installation = Installation()
    add_ring(settings)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            ApiKey.objects.select_for_update().get(mode="live")
            held.set()
            done.wait(60)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(60)
    result = rotate()
    assert result["still_needed"] == ["ENCRYPTION_KEYS t1"]
    assert result["ENCRYPTION_KEYS"]["t1"] == 1
    done.set()
    holder.join()
    assert rotate()["still_needed"] == []
    installation.works()


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="row locks")
def test_a_secret_is_not_forgotten_while_somebody_writes_under_it(
    settings: Settings, site: Site
) -> None:
    old = settings.ENCRYPTION_KEYS
    writing = threading.Event()

    def write() -> None:
        with transaction.atomic():
            api_keys.issue_api_key(channel=site.channel, is_test=False)
            writing.set()
            wait_for_a_waiting_backend()  # it wants to forget the secret
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    assert writing.wait(60)
    settings.ENCRYPTION_KEYS = f"{NEW_RING},{old}"
    ApiKey.objects.all().delete()  # only those that this connection can see
    needed = lambda: rotation.count_left()["ENCRYPTION_KEYS", "t1"] > 0  # noqa: E731
    assert not secret_checks.forget("ENCRYPTION_KEYS", "t1", is_needed=needed)
    writer.join()


def test_people_are_told_what_may_go(settings: Settings) -> None:
    Installation()
    add_ring(settings)
    out = StringIO()
    call_command("rotatekeys", stdout=out)
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("Rewrote 7 rows.")
    assert "  ENCRYPTION_KEYS k2: 7" in lines
    assert lines[-1] == "Older keys and peppers can be taken out of the settings."


def test_a_redeemed_code_is_the_same_code_under_another_pepper(
    settings: Settings, site: Site
) -> None:
    (code,) = redemptions.make_codes(
        reference="a test", count=1, amount_microcredits=1_000_000, actor=COMMAND_LINE
    )
    add_pepper(settings)
    again = redemptions.make_codes(
        reference="a test", count=1, amount_microcredits=1_000_000, actor=COMMAND_LINE
    )
    assert [row.id for row in again] == [code.id]
    rotate()
    drop_pepper(settings)
    redemptions.redeem(account=site.channel.account, text=code.code, actor=Actor("a"))
    assert RedemptionCode.objects.get().redeemed_count == 1


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("errors", "options", "is_shown"),
    [(Terminal(), (), True), (Terminal(), ("--json",), False), (StringIO(), (), False)],
    ids=["terminal", "terminal with --json", "file"],
)
def test_progress_is_shown_on_a_terminal_to_people(
    monkeypatch: pytest.MonkeyPatch, errors: StringIO, options: tuple[str, ...], is_shown: bool
) -> None:
    Installation()
    monkeypatch.setattr("sys.stderr", errors)
    call_command("rotatekeys", *options, stdout=StringIO())
    assert ("rows: 100%" in errors.getvalue()) == is_shown
    assert bool(errors.getvalue()) == is_shown
