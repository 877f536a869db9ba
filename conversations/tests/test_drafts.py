"""Replies to drafts: held and charged like a chat's, with books of their own and no text."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from billing import settlement
from billing.errors import CreditsExhausted
from billing.models import DailyUsage, Hold, LedgerEntry
from channels.tests.factories import Site, make_site
from conversations.api.drafts import AskedDraft
from conversations.archive.verification import find_differences
from conversations.chat.answer import answer
from conversations.chat.calls import Answer
from conversations.errors import ProviderFailed
from conversations.models import DraftReply, FailedRequest, Message
from conversations.tests.test_openai import assert_books_agree
from tests.support.fake_provider import FakeProvider, reply
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db(transaction=True)

CREDIT = 1_000_000


def ask(site: Site) -> Answer:
    asked = AskedDraft(message="Hello!", session_id="draft", is_draft=True)
    answered = answer(caller=site.caller(), asked=asked, request_id="r1")
    assert isinstance(answered, Answer)
    return answered


def test_a_reply_is_charged_and_kept_apart(site: Site, provider: FakeProvider) -> None:
    answered = ask(site)
    assert answered.settlement.charged_microcredits == CREDIT
    kept = DraftReply.objects.get()
    assert (kept.id, kept.charged_microcredits) == (answered.call.hold.id, CREDIT)
    assert (kept.request_id, kept.provider_name) == ("r1", "fake")
    assert (kept.input_tokens, kept.output_tokens) == (10, 5)
    assert not Message.objects.exists()
    assert DailyUsage.objects.get().message_count == 1
    assert_books_agree()


@pytest.mark.parametrize("is_empty", [True, False])
def test_what_fails_costs_nothing_and_is_kept_apart_from_visitors_failures(
    site: Site, provider: FakeProvider, is_empty: bool
) -> None:
    if is_empty:
        provider.script.append(reply(""))
    else:
        provider.fail()
    with pytest.raises(ProviderFailed):
        ask(site)
    kept = DraftReply.objects.get()
    assert (kept.error_code, kept.request_id) == ("provider_error", "r1")
    assert kept.charged_microcredits == 0
    assert not FailedRequest.objects.exists()
    assert not LedgerEntry.objects.filter(kind="charge").exists()
    assert Hold.objects.get().state == "released"
    assert_books_agree()


def test_credits_are_exact_when_many_drafts_are_asked_at_once(provider: FakeProvider) -> None:
    site = make_site(owner="busy@example.com", credit_amount=5)

    def work(_: int) -> Any:
        try:
            return ask(site).settlement.charged_microcredits
        except CreditsExhausted:
            return 0

    assert sum(run_in_threads(work, 8)) == 5 * CREDIT
    now = timezone.now()
    assert settlement.get_available_microcredits(account_id=site.account_id, now=now) == 0
    assert DraftReply.objects.filter(error_code="").count() == 5
    assert DraftReply.objects.filter(error_code="credits_exhausted").count() == 3
    assert_books_agree()


def test_the_verification_finds_what_does_not_agree(site: Site, provider: FakeProvider) -> None:
    ask(site)
    DraftReply.objects.update(charged_microcredits=7)
    (difference,) = find_differences()
    assert "draft reply" in difference
    DraftReply.objects.all().delete()
    (difference,) = find_differences()
    assert "a charge has no reply" in difference
