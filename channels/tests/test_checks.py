"""The system checks that refuse to start without the secrets that the database needs."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from django.core import checks
from django.core.checks import CheckMessage
from django.db import DatabaseError, connection
from pytest_django import DjangoAssertNumQueries, Settings

from channels import api_keys, catalogue, secret_checks
from channels.models import ApiKey, Provider
from channels.tests.factories import Site

pytestmark = pytest.mark.django_db


def run() -> list[CheckMessage]:
    found = checks.run_checks(databases=["default"])
    return [message for message in found if str(message.id).startswith("channels.")]


def ring(*key_ids: str) -> str:
    return ",".join(f"{one}:{base64.b64encode(one[:1].encode() * 32).decode()}" for one in key_ids)


def test_is_silent_while_every_key_is_there(site: Site, settings: Settings) -> None:
    assert run() == []
    settings.ENCRYPTION_KEYS = f"{ring('new')},{settings.ENCRYPTION_KEYS}"
    assert run() == []


def test_names_each_missing_key_once(site: Site, stranger: Site, settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = f"{ring('z9', 'm5')},{settings.ENCRYPTION_KEYS}"
    provider = Provider.objects.get(name="groq")
    catalogue.set_provider_key(provider=provider, clear="sk-x")
    settings.ENCRYPTION_KEYS = ring("m5")
    messages = run()
    assert [message.id for message in messages] == ["channels.E001"] * 2
    assert ["'t1'" in messages[0].msg, "'z9'" in messages[1].msg] == [True, True]
    assert "t1:<its key>" in str(messages[0].hint)
    assert all(message.is_serious() for message in messages)
    shown = "".join(f"{message.msg}{message.hint}" for message in messages)
    assert settings.ENCRYPTION_KEYS.partition(":")[2] not in shown


def test_a_providers_old_key_id_without_a_stored_key_needs_nothing(settings: Settings) -> None:
    Provider.objects.update(encryption_key_id="gone")
    assert run() == []


def test_a_revoked_key_still_needs_its_encryption_key(site: Site, settings: Settings) -> None:
    for record in ApiKey.objects.all():
        api_keys.revoke_api_key(api_key=record)
    settings.ENCRYPTION_KEYS = ring("other")
    assert [message.id for message in run()] == ["channels.E001"]


def test_asks_no_database_unless_told_to(
    site: Site, settings: Settings, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    settings.ENCRYPTION_KEYS = ring("other")
    with django_assert_num_queries(0):
        found = checks.run_checks()
    assert not [message for message in found if str(message.id).startswith("channels.")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENCRYPTION_KEYS", "the-secret"),
        ("ENCRYPTION_KEYS", " , "),
        ("KEY_DIGEST_PEPPER", "the-secret"),
        ("KEY_DIGEST_PEPPER", ""),
        ("KEY_DIGEST_PEPPER_FALLBACKS", "the-secret"),
    ],
)
def test_malformed_secrets_are_named_and_not_quoted(
    settings: Settings, name: str, value: str
) -> None:
    setattr(settings, name, value)
    (message,) = run()
    assert (message.id, message.is_serious()) == ("channels.E002", True)
    assert name in message.msg
    assert "the-secret" not in f"{message.msg}{message.hint}"


def test_a_database_that_is_away_or_empty_is_not_its_subject(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lost() -> list[Any]:
        raise DatabaseError("no such table")

    monkeypatch.setattr(secret_checks, "list_recorded", lost)
    assert run() == []


def test_says_that_a_change_of_routes_would_go_unnoticed(db: None) -> None:
    on_table = " ON channels_route" if connection.vendor == "postgresql" else ""
    name = "channels_route_new_mark" if on_table else "channels_route_update_new_mark"
    assert run() == []
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER {name}{on_table}")
    assert [message.id for message in run()] == ["channels.E003"]
