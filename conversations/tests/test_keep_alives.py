"""Streams that wait for their first piece: comments meanwhile, and the form of a later failure.

The provider waits until a comment has been read, so that no test depends on speed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from billing.models import CreditAccount, Hold
from channels.errors import ProviderError
from channels.providers.base import Completion
from channels.tests.factories import Site
from common.errors import Overloaded
from conversations.chat import streaming
from conversations.errors import ProviderFailed
from conversations.models import IdempotencyRecord, Message
from conversations.tests.test_openai import assert_books_agree, complete
from conversations.tests.test_responses import respond
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db(transaction=True)

PATHS: dict[str, Callable[..., Any]] = {
    "chat": lambda api, **more: api.chat(stream=True, **more),
    "completions": lambda api, **more: complete(api, stream=True, **more),
    "responses": lambda api, **more: respond(api, stream=True, **more),
}
all_paths = pytest.mark.parametrize("path", PATHS)


@pytest.fixture
def go_on(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Make streams send comments at once. Setting the event lets the waiting provider answer."""
    monkeypatch.setattr(streaming, "KEEP_ALIVE_SECONDS", 0.001)
    return threading.Event()


def after(go_on: threading.Event, outcome: Completion | Exception) -> Callable[[], Completion]:
    """Return a step of a provider's script that waits for the event."""

    def answer() -> Completion:
        assert go_on.wait(60)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return answer


def read_late(response: Any, go_on: threading.Event) -> list[bytes]:
    """Read a comment, let the provider continue, and return the stream's events."""
    assert response.status_code == 200, response.content
    assert response["Content-Type"] == "text/event-stream"
    assert "X-Gateway-Provider" not in response
    frames = iter(response.streaming_content)
    assert next(frames) == streaming.KEEP_ALIVE == b": keep-alive\n\n"
    go_on.set()
    body = b"".join(frames)
    response.close()
    return [event for event in body.split(b"\n\n") if event and not event.startswith(b":")]


def data_of(event: bytes) -> Any:
    return orjson.loads(event.partition(b"data: ")[2])


# --- Failures -------------------------------------------------------------------------------------


@all_paths
def test_what_fails_before_any_comment_has_its_status(
    api: ApiClient, provider: FakeProvider, path: str
) -> None:
    provider.script.append(Overloaded(retry_after=7))
    response = PATHS[path](api)
    assert (response.status_code, response["Retry-After"]) == (503, "7")
    assert response["Content-Type"] == "application/json"
    assert Hold.objects.get().state == "released"
    assert_books_agree()


def test_a_late_failure_of_a_chat_is_its_error_event(
    site: Site, api: ApiClient, provider: FakeProvider, go_on: threading.Event
) -> None:
    site.channel.fallback_replies = {"overloaded": "Back in a moment."}
    site.channel.save()
    provider.script.append(after(go_on, Overloaded("Too much.", retry_after=7)))
    response = api.chat(stream=True, headers={"X-Request-Id": "order-7"})
    (event,) = read_late(response, go_on)
    assert event.startswith(b"event: error\n")
    assert data_of(event) == {
        "error": "Too much.",
        "code": "overloaded",
        "request_id": "order-7",
        "retry_after": 7,
        "fallback_reply": "Back in a moment.",
    }
    assert "Retry-After" not in response
    assert api.history() == []
    assert_books_agree()


def test_a_late_failure_of_a_completion_is_one_unnamed_error_without_done(
    api: ApiClient, provider: FakeProvider, go_on: threading.Event
) -> None:
    provider.script.append(after(go_on, ProviderError("timeout")))
    (event,) = read_late(complete(api, stream=True), go_on)
    assert event.startswith(b"data: ")
    assert data_of(event).keys() == {"error"}
    assert data_of(event)["error"]["code"] == "provider_error"
    assert not Message.objects.exists()
    assert_books_agree()


def test_a_late_failure_of_a_response_is_its_failed_event(
    api: ApiClient, provider: FakeProvider, go_on: threading.Event
) -> None:
    provider.script.append(after(go_on, ProviderError("timeout")))
    events = [data_of(event) for event in read_late(respond(api, stream=True), go_on)]
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.failed",
    ]
    assert events[-1]["response"]["status"] == "failed"
    assert events[-1]["response"]["error"]["code"] == "provider_error"
    assert not Message.objects.exists()
    assert_books_agree()


@all_paths
@pytest.mark.parametrize("error", [Overloaded(), ProviderFailed(reason="late")])
def test_a_late_failure_costs_nothing_and_frees_key_and_turn(
    api: ApiClient, provider: FakeProvider, go_on: threading.Event, path: str, error: Exception
) -> None:
    key = {"Idempotency-Key": "k"}
    provider.script.append(after(go_on, error))
    read_late(PATHS[path](api, headers=key), go_on)
    assert CreditAccount.objects.get().balance_microcredits == 100_000_000
    assert Hold.objects.get().state == "released"
    assert not IdempotencyRecord.objects.exists()
    assert api.get("/api/key").json()["limits"]["day"]["used"] == 0
    again = PATHS[path](api, headers=key)
    assert "Idempotency-Replayed" not in again
    again.getvalue()
    assert len(provider.requests) == 2
    assert Message.objects.get(role="assistant").charged_microcredits == 1_000_000
    assert_books_agree()


# --- Answers --------------------------------------------------------------------------------------


@all_paths
def test_a_late_answer_is_whole_paid_and_replayed_without_comments(
    api: ApiClient, provider: FakeProvider, go_on: threading.Event, path: str
) -> None:
    key = {"Idempotency-Key": "k"}
    provider.script.append(after(go_on, reply("Late")))
    events = read_late(PATHS[path](api, headers=key), go_on)
    again = PATHS[path](api, headers=key)
    assert again["Idempotency-Replayed"] == "true"
    replayed = again.getvalue()
    assert not replayed.startswith(b":")
    assert b"Late" in replayed
    ends = [events, replayed.rstrip().split(b"\n\n")]
    if path == "completions":
        assert {pieces.pop() for pieces in ends} == {b"data: [DONE]"}
    assert data_of(ends[0][-1]) == data_of(ends[1][-1])
    assert Message.objects.get(role="assistant").charged_microcredits == 1_000_000
    assert len(provider.requests) == 1
    assert_books_agree()


@all_paths
@pytest.mark.parametrize("reads", [0, 1])
def test_who_hangs_up_during_comments_leaves_a_finished_paid_answer(
    api: ApiClient,
    provider: FakeProvider,
    go_on: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    reads: int,
) -> None:
    finish = streaming.Stream.finish

    def go_on_and_finish(running: streaming.Stream) -> None:
        go_on.set()
        finish(running)

    monkeypatch.setattr(streaming.Stream, "finish", go_on_and_finish)
    provider.script.append(after(go_on, reply("Late")))
    response = PATHS[path](api)
    frames = iter(response.streaming_content)
    assert [next(frames) for _ in range(reads)] == [streaming.KEEP_ALIVE] * reads
    response.close()
    assert Message.objects.get(role="assistant").charged_microcredits == 1_000_000
    if path == "chat":
        assert [message["content"] for message in api.history()] == ["Hello!", "Late"]
    assert_books_agree()
