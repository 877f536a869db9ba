"""Codes that an earlier version stored in plain text."""

from __future__ import annotations

import base64
import importlib

import pytest
from django.apps import apps
from django.core.management.base import CommandError
from pytest_django import Settings

from billing import redemptions
from billing.models import RedemptionCode
from billing.redemptions import CODES
from channels import secret_checks
from channels.models import SecretCheck
from channels.tests.factories import Site

pytestmark = pytest.mark.django_db

migration = importlib.import_module("billing.migrations.0009_seal_codes")
CODE = "K7QM-X3FD-9WTA-HC4P"


@pytest.fixture
def old(db: None) -> RedemptionCode:
    """A code as the previous migration leaves it: plain text in the digest's column."""
    return RedemptionCode.objects.create(code_digest=CODE, amount_microcredits=1)


def test_a_code_in_clear_becomes_digest_ciphertext_and_ending(old: RedemptionCode) -> None:
    migration.seal(apps, None)
    row = RedemptionCode.objects.get()
    assert CODE not in str(vars(row))
    assert (redemptions.find_code(CODE.lower()), row.masked) == (row, "…HC4P")
    assert CODES.unseal(row) == CODE
    assert secret_checks.find_problems() == []
    before = vars(row) | {"_state": None}
    migration.seal(apps, None)
    assert vars(RedemptionCode.objects.get()) | {"_state": None} == before


def test_migrated_back_it_is_as_it_was(old: RedemptionCode) -> None:
    migration.seal(apps, None)
    migration.unseal(apps, None)
    row = RedemptionCode.objects.get()
    assert (row.code_digest, row.encryption_key_id, row.code_ciphertext) == (CODE, "", None)


def test_under_another_key_nothing_is_sealed(
    site: Site, old: RedemptionCode, settings: Settings
) -> None:
    settings.ENCRYPTION_KEYS = f"t1:{base64.b64encode(b'x' * 32).decode()}"
    with pytest.raises(CommandError, match="Nothing was rewritten"):
        migration.seal(apps, None)
    assert RedemptionCode.objects.get().code_digest == CODE


def test_without_codes_no_secret_is_recorded(db: None) -> None:
    migration.seal(apps, None)
    assert not SecretCheck.objects.exists()
