"""POST /api/chat with `stream`: events, disconnects, and the final books."""

from __future__ import annotations

import threading
from typing import Any

import orjson
import pytest

from billing.models import CreditAccount, Hold, LedgerEntry
from billing.tests.test_settlement import differences
from channels.errors import ProviderError
from channels.providers.base import Completion, Delta
from channels.tests.factories import Site, make_site
from conversations.chat import streaming
from conversations.chat.answer import Asked
from conversations.chat.calls import Answer, Tell
from conversations.models import Message
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db(transaction=True)


def parse(body: bytes) -> list[tuple[str, Any]]:
    """Return (event, data) pairs. Leaves out comments."""
    found = []
    for block in body.decode().split("\n\n"):
        lines = [line for line in block.splitlines() if not line.startswith(":")]
        if lines:
            name, data = lines
            found.append((name.removeprefix("event: "), orjson.loads(data.removeprefix("data: "))))
    return found


def stream(api: ApiClient, message: str = "Hello!", **more: Any) -> list[tuple[str, Any]]:
    response = api.chat(message, stream=True, **more)
    assert response.status_code == 200, response.content
    assert response["Content-Type"] == "text/event-stream"
    assert response["Cache-Control"] == "no-cache"
    return parse(response.getvalue())


def test_pieces_then_the_same_object_as_a_plain_reply(
    api: ApiClient, provider: FakeProvider
) -> None:
    provider.script.append(reply("Hello to you 😀", input_tokens=7, output_tokens=4))
    events = stream(api, headers={"Accept": "text/event-stream"})
    assert [data["text"] for name, data in events if name == "delta"] == [
        "Hello ",
        "to ",
        "you ",
        "😀 ",
    ]
    name, done = events[-1]
    assert name == "done"
    plain = api.chat(session_id="s2").json()
    assert set(done) == set(plain)
    assert done["usage"] == {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}
    assert done["credits"] == {"charged": "1.000000", "remaining": "99.000000"}
    assert [m["content"] for m in api.history()] == ["Hello!", "Hello to you 😀"]
    assert differences() == []


def test_what_fails_before_the_first_piece_is_a_plain_error(
    api: ApiClient, provider: FakeProvider
) -> None:
    provider.fail("timeout")
    response = api.chat(stream=True)
    assert response.status_code == 500
    assert response["Content-Type"] == "application/json"
    assert response.json()["code"] == "provider_error"
    assert api.history() == []
    assert differences() == []


def test_limits_refuse_a_stream_like_a_plain_message(provider: FakeProvider) -> None:
    api = ApiClient(make_site(credit_amount=0).api_key)
    assert api.chat(stream=True).json()["code"] == "credits_exhausted"


def test_a_break_in_mid_stream_is_one_error_and_our_own_loss(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    provider.script.append(reply("Half of an BREAK answer"))
    events = stream(api)
    assert [name for name, _ in events] == ["delta", "delta", "delta", "error"]
    assert events[-1][1]["code"] == "provider_error"
    assert events[-1][1]["request_id"]
    assert api.history() == []
    assert CreditAccount.objects.get().balance_microcredits == 100_000_000
    loss = LedgerEntry.objects.latest("sequence")
    assert (loss.kind, loss.debit, loss.credit) == ("absorbed", "absorbed", "revenue")
    assert loss.amount_microcredits == 1_000_000
    assert Hold.objects.get().state == "released"
    assert api.get("/api/key").json()["limits"]["day"]["used"] == 0
    assert differences() == []
    assert stream(api)[-1][0] == "done"
    assert len(api.history()) == 2


def test_a_second_route_takes_over_only_before_the_first_piece(
    api: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = FakeProvider(), FakeProvider()
    monkeypatch.setattr("channels.routes.list_routes", lambda caller, **more: [first, second])
    first.fail()
    assert stream(api)[-1][1]["reply"] == "Reply 1"
    first.script.append(reply("Half BREAK"))
    assert stream(api)[-1][0] == "error"
    assert len(second.prompts) == 1


def test_a_caller_who_hangs_up_leaves_a_finished_paid_turn(
    api: ApiClient, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    finish = streaming.Stream.finish

    def go_on_and_finish(running: streaming.Stream) -> None:
        go_on.set()
        finish(running)

    monkeypatch.setattr(streaming.Stream, "finish", go_on_and_finish)
    original = provider.stream

    def slow(*args: Any, on_delta: Any, **kwargs: Any) -> Completion:
        def pause(text: Delta) -> None:
            on_delta(text)
            assert go_on.wait(60)

        return original(*args, on_delta=pause, **kwargs)

    provider.stream = slow  # type: ignore[method-assign]
    provider.script.append(reply("One two three"))
    response = api.chat(stream=True)
    assert next(iter(response.streaming_content)) == streaming.delta("One ")
    response.close()
    assert [m["content"] for m in api.history()] == ["Hello!", "One two three"]
    assert Message.objects.get(role="assistant").charged_microcredits == 1_000_000
    assert differences() == []


def test_silence_is_filled_with_comments(
    api: ApiClient, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "KEEP_ALIVE_SECONDS", 0.05)
    filled = threading.Semaphore(0)
    original = provider.stream

    def slow(*args: Any, on_delta: Any, **kwargs: Any) -> Completion:
        def pause(text: Delta) -> None:
            on_delta(text)
            assert filled.acquire(timeout=60)

        return original(*args, on_delta=pause, **kwargs)

    provider.stream = slow  # type: ignore[method-assign]
    frames = []
    for frame in api.chat(stream=True).streaming_content:
        frames.append(frame)
        if frame == streaming.KEEP_ALIVE:
            filled.release()
    assert frames.count(streaming.KEEP_ALIVE) >= 2
    assert [name for name, _ in parse(b"".join(frames))] == ["delta", "delta", "done"]


class Plain:
    """Writes pieces unchanged."""

    def delta(self, delta: Delta) -> bytes:
        return str(delta).encode()

    def end(self, answer: Answer) -> bytes:
        return answer.body

    def error(self, error: Exception) -> bytes:
        return b"error"


def test_pieces_that_wait_already_leave_together_and_none_waits_for_others(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, going_on = threading.Event(), threading.Event()
    answered = object.__new__(Answer)
    answered.body = b"end"

    def answer(*, tell: Tell, **asked: Any) -> Answer:
        for piece in ("a", "b", "c"):
            tell(piece)
        told.set()
        assert going_on.wait(60)
        tell("d")
        return answered

    monkeypatch.setattr(streaming, "answer", answer)
    stream = streaming.Stream(site.caller(), Asked(), request_id="")
    assert told.wait(60)
    events = streaming.frames(stream, Plain())
    assert next(events) == b"abc"
    going_on.set()
    assert list(events) == [b"d", b"end"]


def test_a_replay_streams_the_stored_reply(api: ApiClient, provider: FakeProvider) -> None:
    key = {"Idempotency-Key": "k1"}
    first = stream(api, headers=key)
    response = api.chat(stream=True, headers=key)
    assert response["Idempotency-Replayed"] == "true"
    again = parse(response.getvalue())
    assert again[0] == ("delta", {"text": "Reply 1"})
    assert again[-1] == first[-1]
    assert len(provider.prompts) == 1


def test_a_break_frees_the_key(api: ApiClient, provider: FakeProvider) -> None:
    key = {"Idempotency-Key": "k1"}
    provider.script.append(reply("Half BREAK"))
    assert stream(api, headers=key)[-1][0] == "error"
    assert stream(api, headers=key)[-1][0] == "done"


def test_a_crash_in_mid_stream_shows_nothing_of_itself(
    api: ApiClient, provider: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(*args: Any, on_delta: Any, **kwargs: Any) -> Completion:
        on_delta("One ")
        raise RuntimeError("a bug")

    provider.stream = crash  # type: ignore[method-assign]
    name, error = stream(api)[-1]
    assert (name, error["code"]) == ("error", "internal_error")
    assert "a bug" not in str(error)
    assert "a bug" in caplog.text
    assert Hold.objects.get().state == "released"


def test_a_test_key_streams_the_demo(site: Site) -> None:
    events = stream(ApiClient(site.test_key))
    assert events[-1][0] == "done"
    assert (
        "".join(data["text"] for name, data in events if name == "delta") == events[-1][1]["reply"]
    )
    assert events[-1][1]["credits"]["charged"] == "0.000000"


def test_a_provider_error_carries_the_owners_words(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    site.channel.fallback_replies = {"provider_error": "Please call us."}
    site.channel.save()
    provider.script.append(reply("Half BREAK"))
    assert stream(api)[-1][1]["fallback_reply"] == "Please call us."
    provider.script.append(ProviderError("timeout"))
    assert api.chat(stream=True).json()["fallback_reply"] == "Please call us."
