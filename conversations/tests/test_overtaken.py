"""Races between two steps of a request, with another request or the clock. Nobody is charged."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import timezone

from billing import holds
from billing.models import CreditAccount, Hold, LedgerEntry
from billing.tests.test_settlement import differences
from channels.errors import ProviderError
from channels.providers.fixed import FixedAnswerProvider
from channels.tests.factories import Site, save_reply
from common import db
from conversations.chat import calls, idempotency, turns
from conversations.models import ChatSession, IdempotencyRecord, Message
from conversations.tests.test_openai import complete
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db

ENDPOINTS: dict[str, tuple[Callable[..., Any], int]] = {
    "chat": (ApiClient.chat, 500),
    "v1": (complete, 502),
}


def expire_hold() -> None:
    """Expire the hold, as the clean-up task does for a call that outlives its hold."""
    Hold.objects.update(expires_at=timezone.now())
    assert holds.expire_holds(now=timezone.now()) == 1


def error_code(response: Any) -> str:
    told = response.json()
    return str(told.get("code") or told["error"]["code"])


def expect_nothing_done() -> None:
    assert CreditAccount.objects.get().balance_microcredits == 100_000_000
    assert not LedgerEntry.objects.exclude(kind="grant").exists()
    assert not Message.objects.exists()
    assert not IdempotencyRecord.objects.exists()
    assert differences() == []


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k1"}], ids=["plain", "key"])
def test_an_answer_after_the_end_of_its_hold_is_refused_and_free(
    api: ApiClient, provider: FakeProvider, endpoint: str, headers: dict[str, str]
) -> None:
    def answer_late() -> Any:
        expire_hold()
        return reply()

    send, status = ENDPOINTS[endpoint]
    provider.script.append(answer_late)
    response = send(api, headers=headers)
    assert (response.status_code, error_code(response)) == (status, "provider_error")
    assert "too late" in response.content.decode()
    expect_nothing_done()


def test_a_fixed_answer_after_the_end_of_its_hold_is_not_stored(
    site: Site, api: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_reply(site.channel, "Open?", "Yes.")
    complete_fixed = FixedAnswerProvider.complete

    def answer_late(*asked: Any, **more: Any) -> Any:
        expire_hold()
        return complete_fixed(*asked, **more)

    monkeypatch.setattr(FixedAnswerProvider, "complete", answer_late)
    response = api.chat("Open?")
    assert (response.status_code, error_code(response)) == (500, "provider_error")
    expect_nothing_done()


def test_an_answer_to_a_session_that_was_erased_meanwhile_is_paid_but_kept_nowhere(
    api: ApiClient, provider: FakeProvider
) -> None:
    headers = {"Idempotency-Key": "k1"}

    def erase_and_answer() -> Any:
        assert api.erase().status_code == 204
        return reply("A secret")

    provider.script.append(erase_and_answer)
    assert api.chat(headers=headers).json()["reply"] == "A secret"
    assert LedgerEntry.objects.filter(kind="charge").count() == 1
    assert not IdempotencyRecord.objects.exists()
    assert api.history() == []
    assert differences() == []


@pytest.mark.django_db(transaction=True)
def test_a_stream_that_breaks_off_after_the_end_of_its_hold_is_nobodys_loss(
    api: ApiClient, provider: FakeProvider
) -> None:
    def break_late() -> Any:
        expire_hold()
        return reply("Half BREAK")

    provider.script.append(break_late)
    assert b"event: error" in api.chat(stream=True).getvalue()
    expect_nothing_done()


def test_no_second_route_is_asked_when_the_time_is_up(
    api: ApiClient, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    now = 0.0
    first, second = FakeProvider(), FakeProvider()
    monkeypatch.setattr(calls, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr("channels.routes.list_routes", lambda caller, **more: [first, second])

    def take_all_the_time() -> Any:
        nonlocal now
        now += settings.PROVIDER_DEADLINE
        raise ProviderError("timeout")

    first.script.append(take_all_the_time)
    response = api.chat()
    assert (response.status_code, error_code(response)) == (500, "provider_error")
    assert (len(first.requests), len(second.requests)) == (1, 0)
    assert Hold.objects.get().state == "released"


def test_a_key_that_is_freed_as_it_is_looked_at_is_in_progress_still(
    api: ApiClient, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"Idempotency-Key": "k1"}
    assert api.chat(headers=headers).status_code == 200
    fetch_row = db.fetch_row

    def fetch_and_free(sql: str, params: Any) -> Any:
        row = fetch_row(sql, params)
        if sql is idempotency._CLAIM:
            IdempotencyRecord.objects.all().delete()
        return row

    with monkeypatch.context() as patched:
        patched.setattr(db, "fetch_row", fetch_and_free)
        response = api.chat(headers=headers)
    assert (response.status_code, error_code(response)) == (409, "request_in_progress")
    assert api.chat(headers=headers).status_code == 200
    assert LedgerEntry.objects.filter(kind="charge").count() == 2


def test_a_session_that_is_erased_as_a_message_gets_in_line_is_busy_once(
    api: ApiClient, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert api.chat().status_code == 200
    ChatSession.objects.update(lease_expires_at=timezone.now() + timedelta(seconds=60))
    queue = turns._queue

    def erase_and_queue(**asked: Any) -> int:
        assert api.erase().status_code == 204
        return queue(**asked)

    with monkeypatch.context() as patched:
        patched.setattr(turns, "_queue", erase_and_queue)
        response = api.chat()
    assert (response.status_code, error_code(response)) == (409, "session_busy")
    assert api.chat().status_code == 200
    assert len(provider.requests) == 2
