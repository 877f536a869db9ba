"""The database knows which secrets it was written with, and refuses writes under others."""

from __future__ import annotations

import base64
import hmac
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings as real_settings
from django.core import checks
from django.db import DatabaseError
from pytest_django import DjangoAssertNumQueries, Settings

from billing import redemptions
from channels import (
    accounts,
    api_keys,
    authentication,
    catalogue,
    channel_changes,
    secret_checks,
    team,
)
from channels.audit import COMMAND_LINE
from channels.errors import WrongSecrets
from channels.models import ApiKey, Channel, Invitation, Membership, Provider, SecretCheck
from channels.tests.factories import Site
from common import crypto
from tests.support.clients import ApiClient
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db


def encoded(letter: str) -> str:
    return base64.b64encode(letter.encode() * 32).decode()


OTHER_KEY, OTHER_PEPPER = encoded("x"), encoded("y")


def found() -> list[tuple[str, str]]:
    messages = checks.run_checks(databases=["default"])
    return [(str(one.id), one.msg) for one in messages if str(one.id).startswith("channels.")]


def invite(site: Site) -> None:
    team.invite(
        account=site.channel.account,
        email="new@example.com",
        role=Membership.Role.VIEWER,
        actor=COMMAND_LINE,
    )


def make_code(site: Site) -> None:
    redemptions.make_codes(reference="a test", count=1, amount_microcredits=1, actor=COMMAND_LINE)


# Every operation of the gateway that writes under a secret.
WRITERS: dict[str, Callable[[Site], Any]] = {
    "a key": lambda site: api_keys.issue_api_key(channel=site.channel, is_test=True),
    "a channel": lambda site: channel_changes.create_channel_with_keys(
        account=site.channel.account, name="Another"
    ),
    "a provider's key": lambda site: catalogue.set_provider_key(
        provider=Provider.objects.get(name="groq"), clear="sk-secret"
    ),
    "an invitation": invite,
    "a code": make_code,
}
WRONG: dict[str, dict[str, str]] = {
    "another key of the same name": {"ENCRYPTION_KEYS": f"t1:{OTHER_KEY}"},
    "another ring": {"ENCRYPTION_KEYS": f"k9:{OTHER_KEY}"},
    "another key in front": {"ENCRYPTION_KEYS": f"k9:{OTHER_KEY},t1:{OTHER_KEY}"},
    "another pepper": {"KEY_DIGEST_PEPPER": OTHER_PEPPER},
    "both": {"ENCRYPTION_KEYS": f"t1:{OTHER_KEY}", "KEY_DIGEST_PEPPER": OTHER_PEPPER},
}


def change(settings: Settings, changes: dict[str, str]) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)


def rows() -> list[int]:
    return [m.objects.count() for m in (ApiKey, Channel, Invitation, SecretCheck)]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_start_under_another_secret_names_it(site: Site, settings: Settings, wrong: str) -> None:
    assert found() == []
    change(settings, WRONG[wrong])
    ids = {message_id for message_id, _ in found()}
    expected = {"ENCRYPTION_KEYS": "channels.E001", "KEY_DIGEST_PEPPER": "channels.E004"}
    assert ids == {expected[name] for name in WRONG[wrong]}
    assert all(name in " ".join(words for _, words in found()) for name in WRONG[wrong])


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("writer", WRITERS)
def test_nothing_is_written_under_another_secret(
    site: Site, settings: Settings, wrong: str, writer: str, caplog: pytest.LogCaptureFixture
) -> None:
    change(settings, WRONG[wrong])
    before = rows()
    with caplog.at_level(logging.ERROR, "gateway.secrets"), pytest.raises(WrongSecrets):
        WRITERS[writer](site)
    assert rows() == before
    assert Provider.objects.filter(key_ciphertext=None).count() == Provider.objects.count()
    said = " ".join(vars(record)["reason"] for record in caplog.records)
    assert all(name in said for name in WRONG[wrong])
    for secret in (OTHER_KEY, OTHER_PEPPER):
        assert secret not in said


@pytest.mark.parametrize("writer", WRITERS)
def test_every_write_leaves_the_check_values(site: Site, writer: str) -> None:
    SecretCheck.objects.all().delete()
    WRITERS[writer](site)
    assert {(row.setting, row.name) for row in SecretCheck.objects.all()} == {
        ("ENCRYPTION_KEYS", "t1"),
        ("KEY_DIGEST_PEPPER", next(iter(crypto.check_values_of_peppers()))),
    }


def test_a_check_value_is_no_digest_of_anything_that_is_stored(site: Site) -> None:
    """It is keyed by the secret, and callers cannot send the text that it digests."""
    values = set(SecretCheck.objects.values_list("check_value", flat=True))
    assert all(len(value) == 64 for value in values)
    assert hmac.digest(b"p" * 32, b"gateway check value", "sha256").hex() in values
    assert not values & set(ApiKey.objects.values_list("key_digest", flat=True))


def test_a_new_key_and_a_pepper_with_the_old_ones_behind_them_are_welcome(
    site: Site, settings: Settings
) -> None:
    settings.ENCRYPTION_KEYS = f"k2:{OTHER_KEY},{settings.ENCRYPTION_KEYS}"
    settings.KEY_DIGEST_PEPPER_FALLBACKS = settings.KEY_DIGEST_PEPPER
    settings.KEY_DIGEST_PEPPER = OTHER_PEPPER
    assert found() == []
    issued = api_keys.issue_api_key(channel=site.channel, is_test=False)
    assert (issued.record.encryption_key_id, found()) == ("k2", [])
    settings.KEY_DIGEST_PEPPER_FALLBACKS = ""
    assert [message_id for message_id, _ in found()] == ["channels.E004"]


def test_a_machine_that_has_not_heard_of_a_new_secret_writes_nothing(
    site: Site, settings: Settings
) -> None:
    old = settings.ENCRYPTION_KEYS
    settings.ENCRYPTION_KEYS = f"k2:{OTHER_KEY},{old}"
    api_keys.issue_api_key(channel=site.channel, is_test=False)
    settings.ENCRYPTION_KEYS = old
    with pytest.raises(WrongSecrets):
        api_keys.issue_api_key(channel=site.channel, is_test=False)


@pytest.mark.django_db(transaction=True)
def test_of_two_installations_on_one_empty_database_one_is_the_first(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each thread represents a process with its own `.env`."""
    peppers = [encoded(letter) for letter in "abcdefgh"]
    values = [hmac.digest(base64.b64decode(one), b"check", "sha256").hex() for one in peppers]
    own = threading.local()
    monkeypatch.setattr(crypto, "check_values_of_peppers", lambda: {own.value[:12]: own.value})

    def write(index: int) -> bool:
        own.value = values[index]
        try:
            account = accounts.ensure_account(owner_email=f"{index}@example.com")
            channel_changes.create_channel_with_keys(account=account, name="Shop")
        except WrongSecrets:
            return False
        return True

    assert sorted(run_in_threads(write, 8)) == [False] * 7 + [True]
    assert SecretCheck.objects.filter(setting="KEY_DIGEST_PEPPER").count() == 1
    assert Channel.objects.count() == 1


# --- A server that started before its database ----------------------------------------------------


def test_a_key_is_not_called_wrong_under_another_pepper(
    site: Site, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_checks, "_is_known_to_fit", False)
    pepper, settings.KEY_DIGEST_PEPPER = settings.KEY_DIGEST_PEPPER, OTHER_PEPPER
    for _ in range(2):
        response = ApiClient(site.api_key).get("/api/key")
        assert (response.status_code, response.json()["code"]) == (503, "overloaded")
        assert "secrets do not match its database" in response.json()["error"]
    settings.KEY_DIGEST_PEPPER = pepper
    assert ApiClient(site.api_key).get("/api/key").status_code == 200
    unknown = ApiClient("amgai_" + "0" * 42).get("/api/key")
    assert unknown.status_code == 401


def test_once_the_secrets_fit_an_unknown_key_costs_one_query(
    site: Site,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    monkeypatch.setattr(secret_checks, "_is_known_to_fit", False)
    strange = ApiClient(authentication.generate_key(is_test=False))
    assert strange.get("/api/key").status_code == 401
    with django_assert_num_queries(1):
        assert strange.get("/api/key").status_code == 401


def test_without_the_table_nothing_is_judged(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> Any:
        raise DatabaseError("no such table")

    monkeypatch.setattr(secret_checks, "list_recorded", lost)
    assert found() == []


# --- Worn out keys --------------------------------------------------------------------------------


def test_a_key_that_encrypted_very_often_is_to_be_replaced(site: Site) -> None:
    row = SecretCheck.objects.filter(setting="ENCRYPTION_KEYS")
    row.update(encryptions=2**31 - 1)
    assert found() == []
    row.update(encryptions=2**31)
    assert [message_id for message_id, _ in found()] == ["channels.W001"]


def test_one_of_many_encryptions_is_counted_for_all(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = iter([1, 0, 2])
    monkeypatch.setattr("secrets.randbelow", lambda most: next(draws))
    for _ in range(3):
        secret_checks.count_encryption("t1")
    assert SecretCheck.objects.get(name="t1").encryptions == secret_checks.COUNTED_AT_ONCE


def test_only_the_one_door_encrypts_and_digests() -> None:
    """Otherwise code could write data under a secret that the database does not know."""
    sources = [
        path
        for package in ("gateway", "dashboard", "conversations", "billing", "channels")
        for path in (real_settings.BASE_DIR / package).rglob("*.py")
        if "tests" not in path.relative_to(real_settings.BASE_DIR).parts
    ]
    users = {
        path.name
        for path in sources
        if any(call in path.read_text() for call in ("crypto.encrypt(", "crypto.digest("))
    }
    # Daily counts use a digest too. Another pepper only resets the counts of the day.
    assert users == {"sealing.py", "checks.py", "daily_counts.py"}
