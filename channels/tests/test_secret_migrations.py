"""Installations older than the check values: the migration verifies the secrets, or it stops."""

from __future__ import annotations

import base64
import importlib
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.apps import apps
from django.core.management.base import CommandError
from pytest_django import Settings

from channels import api_keys, catalogue, secret_checks
from channels.models import ApiKey, Provider, SecretCheck, User
from channels.tests.factories import Site
from common import crypto

pytestmark = pytest.mark.django_db

migration = importlib.import_module("channels.migrations.0012_record_secrets")


def other(letter: str) -> str:
    return base64.b64encode(letter.encode() * 32).decode()


@pytest.fixture
def old(site: Site) -> Site:
    """Return a site in an older version's database: it has keys, but no record of their secrets."""
    catalogue.set_provider_key(provider=Provider.objects.get(name="groq"), clear="sk-secret")
    SecretCheck.objects.all().delete()
    ApiKey.objects.update(pepper_id="")
    return site


def record() -> None:
    migration.record(apps, None)


def test_what_rows_prove_is_recorded(old: Site) -> None:
    record()
    assert secret_checks.find_problems() == []
    assert {row.check_value for row in SecretCheck.objects.all()} == {
        *crypto.check_values_of_ring().values(),
        *crypto.check_values_of_peppers().values(),
    }
    api_keys.issue_api_key(channel=old.channel, is_test=False)
    migration.forget(apps, None)
    record()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ENCRYPTION_KEYS", f"t1:{other('x')}", "The key 't1' in ENCRYPTION_KEYS opens no row"),
        ("ENCRYPTION_KEYS", f"k9:{other('x')}", "'t1', which is not in ENCRYPTION_KEYS"),
        ("KEY_DIGEST_PEPPER", other("x"), "KEY_DIGEST_PEPPER is not the one"),
    ],
)
def test_another_secret_is_named_and_nothing_recorded(
    old: Site, settings: Settings, name: str, value: str, words: str
) -> None:
    setattr(settings, name, value)
    with pytest.raises(CommandError, match=words) as refused:
        record()
    assert "Nothing was rewritten" in str(refused.value)
    assert value.partition(":")[2] not in str(refused.value) or name == "KEY_DIGEST_PEPPER"
    assert not SecretCheck.objects.exists()


def test_a_damaged_row_is_not_taken_for_a_wrong_key(old: Site) -> None:
    ApiKey.objects.filter(mode="live").update(key_ciphertext=b"x" * 80)
    record()
    assert secret_checks.find_problems() == []


def test_an_empty_database_needs_nothing(db: None) -> None:
    record()
    assert not SecretCheck.objects.exists()


def test_a_pepper_that_is_a_fallback_by_now_is_recorded_as_itself(
    old: Site, settings: Settings
) -> None:
    settings.KEY_DIGEST_PEPPER_FALLBACKS = settings.KEY_DIGEST_PEPPER
    settings.KEY_DIGEST_PEPPER = other("x")
    record()
    settings.KEY_DIGEST_PEPPER_FALLBACKS = ""
    assert [problem.setting for problem in secret_checks.find_problems()] == ["KEY_DIGEST_PEPPER"]


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_key_that_only_second_factors_need_is_recorded_too(
    db: None, settings: Settings, is_ours: bool
) -> None:
    user = User.objects.create_user("anna@example.com")
    key_id, sealed = crypto.encrypt("secret", context="mfa_authenticator.data")
    text = f"{key_id}:{base64.b64encode(sealed).decode()}"
    Authenticator.objects.create(user=user, type="totp", data={"secret": text})
    if is_ours:
        record()
        assert [row.name for row in SecretCheck.objects.all()] == ["t1"]
        return
    settings.ENCRYPTION_KEYS = f"t1:{other('x')}"
    with pytest.raises(CommandError, match="opens no row"):
        record()


def test_passkeys_and_strange_data_are_no_secrets(db: None) -> None:
    user = User.objects.create_user("anna@example.com")
    data: Any = {"credential": {"id": "k1:abc"}, "name": "key"}
    Authenticator.objects.create(user=user, type="webauthn", data=data)
    record()
    assert not SecretCheck.objects.exists()
