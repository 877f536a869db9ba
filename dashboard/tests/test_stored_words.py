"""What the gateway stores in English, such as reasons and codes, is shown in the reader's words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.test import override_settings
from django.utils import translation
from django.utils.translation import trans_real

from billing.models import LedgerEntry
from channels.tests.factories import Site
from dashboard.console import audit_words
from dashboard.console.ledger_words import words_of_reason
from tests.support import pseudo_language
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider

LANGUAGE = "de"


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Speak a language that puts marks around what it translates."""
    with override_settings(LANGUAGES=[("en", "English"), (LANGUAGE, "Deutsch")]):
        marks = pseudo_language.Marked(LANGUAGE)
        monkeypatch.setitem(trans_real._translations, LANGUAGE, marks)  # type: ignore[attr-defined]
        with translation.override(LANGUAGE):
            yield


@pytest.mark.parametrize(
    "reason",
    [
        "Reply by gemma2-9b-it",
        "Draft reply by gemma2-9b-it",
        "Credit request approved",
        "Redemption code ABCD-…",
        "Monthly credits of the plan Team (100 %)",
        "Grant 17 of purchase has ended",
    ],
)
def test_a_reason_of_the_gateway_is_translated(reason: str, marked: None) -> None:
    assert words_of_reason(reason) == f"⟦{reason}⟧"
    with translation.override("en"):
        assert words_of_reason(reason) == reason


@pytest.mark.parametrize("reason", ["", "for a test", "Invoice 17 by bank", "100 %"])
def test_what_a_person_wrote_stays(reason: str, marked: None) -> None:
    assert words_of_reason(reason) == reason


def test_the_charge_of_a_reply_has_a_known_reason(
    site: Site, provider: FakeProvider, marked: None
) -> None:
    with translation.override("en"):
        ApiClient(site.api_key).chat()
    charge = LedgerEntry.objects.get(kind=LedgerEntry.Kind.CHARGE)
    assert words_of_reason(charge.reason).startswith("⟦Reply by ")


RECORDED = re.compile(r'\brecord(?:_for_person)?\(\s*"([a-z_]+\.[a-z_]+)"')


def test_translators_see_every_action_that_is_recorded() -> None:
    known = set(audit_words._ACTIONS)
    root = Path(django_settings.BASE_DIR)
    found = {
        code
        for app in ("channels", "billing", "conversations", "dashboard", "gateway")
        for path in (root / app).rglob("*.py")
        if "tests" not in path.parts
        for code in RECORDED.findall(path.read_text())
    }
    assert len(found) > 20
    # What only staff read has no account, and is not in an account's log.
    of_staff = {"codes.made", "route.created", "provider.created"}
    assert {audit_words.words_of(code) for code in found - of_staff} <= known


def test_actions_and_fields_are_translated(marked: None) -> None:
    assert audit_words.words_of("fixed_answer.added") == "⟦Saved reply added⟧"
    assert audit_words.words_of_field("fallback_model") == "⟦fallback model⟧"
    assert audit_words.words_of("") == ""


def test_values_that_are_codes_are_translated_and_others_are_not(marked: None) -> None:
    for field, value, words in (
        ("role", "editor", "⟦Editor⟧"),
        ("mode", "test", "⟦Test⟧"),
        ("by", "password, totp", "⟦Password⟧, ⟦Authenticator app⟧"),
        ("mails_outages", "off", "⟦Off⟧"),
        ("credits a day", "no limit", "⟦No limit⟧"),
        ("balance", "-1,234.5", "-1.234,5"),
        ("name", "editor", "editor"),
        ("name", "1,234.5", "1,234.5"),
        ("role", "agent", "agent"),
    ):
        assert audit_words.words_of_value(field, value) == words
