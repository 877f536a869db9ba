"""POST /v1/chat/completions with `stream`: chunks, breaks, disconnects, and the final books."""

from __future__ import annotations

import threading
from typing import Any

import orjson
import pytest

from billing.models import CreditAccount, Hold, LedgerEntry
from channels.providers.base import Completion, Delta
from channels.tests.factories import Site, make_site
from conversations.chat import streaming
from conversations.models import Message
from conversations.tests.test_openai import (
    CALL,
    MODEL,
    WEATHER,
    assert_books_agree,
    assert_error,
    complete,
)
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db(transaction=True)


def parse(body: bytes) -> list[Any]:
    """Return the parsed data of each event. Leaves out comments."""
    found: list[Any] = []
    for block in body.decode().removesuffix("\n\n").split("\n\n"):
        if not block.startswith(":"):
            data = block.removeprefix("data: ")
            found.append(data if data == "[DONE]" else orjson.loads(data))
    return found


def stream(api: ApiClient, **more: Any) -> list[Any]:
    response = complete(api, stream=True, **more)
    assert response.status_code == 200, response.content
    assert response["Content-Type"] == "text/event-stream"
    assert response["Cache-Control"] == "no-cache"
    return parse(response.getvalue())


def deltas(chunks: list[Any]) -> list[Any]:
    return [c["choices"][0]["delta"] for c in chunks if c != "[DONE]" and c["choices"]]


def test_chunks_are_shaped_like_openais(api: ApiClient, provider: FakeProvider) -> None:
    response = complete(api, stream=True)
    assert response["X-Gateway-Provider"] == "fake"
    assert response["X-RateLimit-Limit"] == "60"
    chunks = parse(response.getvalue())
    hold = Hold.objects.get()
    head = {
        "id": f"chatcmpl-{hold.id.hex}",
        "object": "chat.completion.chunk",
        "created": int(hold.created_at.timestamp()),
        "model": MODEL,
    }

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return head | {"choices": [choice]}

    assert chunks == [
        chunk({"role": "assistant", "content": "", "refusal": None}),
        chunk({"content": "Reply "}),
        chunk({"content": "1 "}),
        chunk({}, "stop"),
        "[DONE]",
    ]
    assert Message.objects.get().charged_microcredits == 1_000_000
    assert_books_agree()


def test_usage_comes_last_where_it_is_asked_for(api: ApiClient, provider: FakeProvider) -> None:
    provider.script.append(reply("Hi", 7, 4))
    *chunks, usage, done = stream(api, stream_options={"include_usage": True})
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}
    assert all(chunk["usage"] is None for chunk in chunks)


def test_tool_calls_stream(api: ApiClient, provider: FakeProvider) -> None:
    provider.script.append(reply("", tool_calls=(CALL,), finish_reason="tool_calls"))
    chunks = stream(api, tools=[WEATHER])
    assert deltas(chunks)[1:] == [{"tool_calls": [{"index": 0} | CALL]}, {}]
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert_books_agree()


def test_what_fails_before_the_first_piece_is_a_plain_error(
    api: ApiClient, provider: FakeProvider
) -> None:
    provider.fail()
    assert_error(complete(api, stream=True), 502, "provider_error")
    assert_error(complete(api, stream=True, model="gpt-4o"), 404, "model_not_found", "model")
    broke = ApiClient(make_site(owner="b@example.com", credit_amount=0).api_key)
    assert_error(complete(broke, stream=True), 402, "credits_exhausted")
    assert_books_agree()


@pytest.mark.parametrize("words", ["Half of an BREAK answer", "One BREAK"])
def test_a_break_in_mid_stream_is_one_error_and_our_own_loss(
    api: ApiClient, provider: FakeProvider, words: str
) -> None:
    provider.script.append(reply(words))
    *chunks, error = stream(api)
    assert deltas(chunks)[0]["role"] == "assistant"
    assert error["error"]["code"] == "provider_error"
    assert set(error["error"]) == {"message", "type", "code", "param"}
    assert CreditAccount.objects.get().balance_microcredits == 100_000_000
    assert LedgerEntry.objects.latest("sequence").kind == "absorbed"
    assert not Message.objects.exists()
    assert api.get("/api/key").json()["limits"]["day"]["used"] == 0
    assert_books_agree()


def test_a_crash_in_mid_stream_shows_nothing_of_itself(
    api: ApiClient, provider: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(*args: Any, on_delta: Any, **kwargs: Any) -> Completion:
        on_delta("One ")
        raise RuntimeError("a bug")

    provider.stream = crash  # type: ignore[method-assign]
    error = stream(api)[-1]["error"]
    assert (error["code"], error["type"]) == ("internal_error", "server_error")
    assert "a bug" not in str(error)
    assert "a bug" in caplog.text
    assert Hold.objects.get().state == "released"


def slowly(provider: FakeProvider, wait: Any) -> None:
    """Make the provider wait after each piece."""
    original = provider.stream

    def slow(*args: Any, on_delta: Any, **kwargs: Any) -> Completion:
        def pause(delta: Delta) -> None:
            on_delta(delta)
            wait()

        return original(*args, on_delta=pause, **kwargs)

    provider.stream = slow  # type: ignore[method-assign]


def test_a_caller_who_hangs_up_pays_for_the_whole_answer(
    api: ApiClient, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    finish = streaming.Stream.finish

    def go_on_and_finish(running: streaming.Stream) -> None:
        go_on.set()
        finish(running)

    monkeypatch.setattr(streaming.Stream, "finish", go_on_and_finish)
    slowly(provider, lambda: go_on.wait(60))
    provider.script.append(reply("One two three"))
    response = complete(api, stream=True)
    assert b"One " in next(iter(response.streaming_content))
    response.close()
    assert Message.objects.get().charged_microcredits == 1_000_000
    assert_books_agree()


def test_silence_is_filled_with_comments(
    api: ApiClient, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "KEEP_ALIVE_SECONDS", 0.05)
    filled = threading.Semaphore(0)
    slowly(provider, lambda: filled.acquire(timeout=60))
    frames = []
    for frame in complete(api, stream=True).streaming_content:
        frames.append(frame)
        if frame == streaming.KEEP_ALIVE:
            filled.release()
    assert frames.count(streaming.KEEP_ALIVE) >= 2
    assert parse(b"".join(frames))[-1] == "[DONE]"


@pytest.mark.parametrize("tool_calls", [(), (CALL,)])
def test_a_replay_streams_the_stored_answer(
    api: ApiClient, provider: FakeProvider, tool_calls: tuple[Any, ...]
) -> None:
    key = {"Idempotency-Key": "k1"}
    usage = {"include_usage": True}
    provider.script.append(reply("" if tool_calls else "Hello you", tool_calls=tool_calls))
    first = stream(api, headers=key, stream_options=usage, tools=[WEATHER])
    response = complete(api, stream=True, headers=key, stream_options=usage, tools=[WEATHER])
    assert response["Idempotency-Replayed"] == "true"
    again = parse(response.getvalue())
    assert [again[0], *again[-3:]] == [first[0], *first[-3:]]
    pieces = deltas(again)[1:-1]
    calls = [{"tool_calls": [{"index": 0} | CALL]}]
    assert pieces == (calls if tool_calls else [{"content": "Hello you"}])
    assert len(provider.requests) == 1


def test_a_test_key_streams_the_demo_and_its_breaks(site: Site) -> None:
    api = ApiClient(site.test_key)
    chunks = stream(api)
    assert "demo reply" in "".join(delta.get("content", "") for delta in deltas(chunks))
    broken = stream(api, headers={"X-Simulate": "midstream_error"})
    assert broken[-1]["error"]["code"] == "provider_error"
    assert_books_agree()
