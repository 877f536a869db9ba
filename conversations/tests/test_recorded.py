"""Recorded provider shapes through /v1 and /api/chat: the result of each, and who pays.

A shape declares its expected result (recorded/shapes.py). Nothing here depends on a provider.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from billing.models import CreditAccount, Hold, LedgerEntry
from channels.models import RouteHealth
from channels.tests.factories import Site, make_site, set_prices
from conversations.models import Message
from conversations.tests import test_openai_streaming, test_streaming
from conversations.tests.recorded import SHAPES, reading
from conversations.tests.recorded.provider import BYTE_BY_BYTE, RecordedProvider
from conversations.tests.recorded.shapes import (
    TEXT,
    TOO_LONG,
    Refused,
    Said,
    Shape,
    has_long_history,
)
from conversations.tests.test_openai import assert_books_agree, complete
from tests.support.clients import ApiClient

# A stream runs on its own thread, which a transaction of the test would block.
streams = pytest.mark.django_db(transaction=True)
pytestmark = pytest.mark.django_db

GRANTED = 100_000_000
PER_TOKEN_IN, PER_TOKEN_OUT = 400, 1_000
PRICES = {
    "price_per_1k_input_tokens_microcredits": PER_TOKEN_IN * 1_000,
    "price_per_1k_output_tokens_microcredits": PER_TOKEN_OUT * 1_000,
}
CUT_ANYWHERE = {
    "openai/plain",
    "openai/tools",
    "openrouter/reasoning",
    "mistral/reasoning",
    "gemini/tools",
    "odd/carriage-returns",
    "odd/both-line-ends",
    "odd/byte-order-mark",
    "odd/split-pair",
}


@pytest.fixture(scope="module")
def server() -> Iterator[RecordedProvider]:
    with RecordedProvider() as provider:
        yield provider


@pytest.fixture
def recorded(server: RecordedProvider, settings: Any) -> RecordedProvider:
    server.forget()
    settings.PROVIDER_BASE_URL = server.url
    return server


@pytest.fixture
def site() -> Site:
    # The channel's prompt shifts the positions of messages at the provider.
    site = make_site(system_prompt="Be kind.")
    set_prices(**PRICES)
    return site


def shapes(fits: Callable[[Shape], bool] = lambda shape: True) -> pytest.MarkDecorator:
    """Parametrize over the shapes that fit."""
    found = [pytest.param(shape, id=name) for name, shape in SHAPES.items() if fits(shape)]
    return pytest.mark.parametrize("shape", found)


def streamed_shapes(fits: Callable[[Shape], bool] = lambda shape: True) -> pytest.MarkDecorator:
    """Parametrize over the shapes that fit, on PostgreSQL only over each family's plain one.

    After a stream, every table is emptied, which takes most of the test's time on PostgreSQL. What
    is stored of an answer does not depend on its shape.
    """
    is_postgresql = "postgresql" in settings.DATABASES["default"]["ENGINE"]
    return shapes(
        lambda shape: fits(shape) and (not is_postgresql or shape.name.endswith("/plain"))
    )


# --- /v1 ------------------------------------------------------------------------------------------


@shapes(lambda shape: shape.plain is not None)
def test_v1_plain(api: ApiClient, recorded: RecordedProvider, shape: Shape) -> None:
    response = ask(api, shape)
    expect_v1(shape, response, heard_plainly)
    expect_outcome(shape, is_charged=shape.is_answered())
    if shape.is_answered():
        again = ask(api, shape)
        assert again["Idempotency-Replayed"] == "true"
        assert again.content == response.content
        expect_outcome(shape, is_charged=True)


@streams
@streamed_shapes()
def test_v1_streamed(api: ApiClient, recorded: RecordedProvider, shape: Shape) -> None:
    response = ask(api, shape, stream=True, stream_options={"include_usage": True})
    expect_v1(shape, response, heard_streaming)
    expect_outcome(shape, is_charged=shape.is_answered())
    if shape.is_answered():
        again = ask(api, shape, stream=True, stream_options={"include_usage": True})
        assert again["Idempotency-Replayed"] == "true"
        expect_v1(shape, again, heard_streaming)
        expect_outcome(shape, is_charged=True)


@streams
@streamed_shapes(lambda shape: shape.name in CUT_ANYWHERE)
def test_v1_streamed_byte_by_byte(api: ApiClient, recorded: RecordedProvider, shape: Shape) -> None:
    messages = [{"role": "user", "content": shape.name + BYTE_BY_BYTE}]
    more = {"stream": True, "stream_options": {"include_usage": True}, "messages": messages}
    expect_v1(shape, ask(api, shape, **more), heard_streaming)
    expect_outcome(shape, is_charged=True)


def test_v1_hands_a_signed_call_back_as_it_came(api: ApiClient, recorded: RecordedProvider) -> None:
    shape = SHAPES["gemini/tools"]
    message = ask(api, shape).json()["choices"][0]["message"]
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}
        for call in message["tool_calls"]
    ]
    question = {"role": "user", "content": shape.name}
    complete(api, [question, message, *results], **shape.request)
    sent = recorded.bodies[-1]["messages"][-3]
    assert sent["tool_calls"] == message["tool_calls"]
    assert sent["tool_calls"][0]["extra_content"] == shape.v1.tool_calls[0]["extra_content"]  # type: ignore[union-attr]


def ask(api: ApiClient, shape: Shape, **more: Any) -> Any:
    """Request a shape, always with the same idempotency key."""
    body = dict(shape.request) | more
    messages = body.pop("messages", [{"role": "user", "content": shape.name}])
    return complete(api, messages, headers={"Idempotency-Key": "k"}, **body)


def expect_v1(shape: Shape, response: Any, hear: Any) -> None:
    if isinstance(shape.v1, Refused):
        expect_refusal(shape.v1, *error_of(response), is_v1=True)
        return
    assert response.status_code == 200, response.content
    heard = hear(response)
    assert isinstance(shape.v1, Said)
    expect_said(shape.v1, heard)


def heard_plainly(response: Any) -> dict[str, Any]:
    body = response.json()
    (choice,) = body["choices"]
    return reading.heard(choice["message"], choice, body["usage"])


def heard_streaming(response: Any) -> dict[str, Any]:
    assert response["Content-Type"] == "text/event-stream"
    *chunks, done = test_openai_streaming.parse(response.getvalue())
    assert done == "[DONE]", done
    return reading.put_together(chunks)


def expect_said(said: Said, heard: dict[str, Any]) -> None:
    calls = [dict(call) for call in said.tool_calls]
    for call, wanted in zip(heard["tool_calls"], calls, strict=False):
        if wanted["id"] is None:
            assert call["id"].startswith("call_"), call
            wanted["id"] = call["id"]
    ids = [call["id"] for call in heard["tool_calls"]]
    assert len(set(ids)) == len(ids)
    told = {name: heard[name] for name in heard if name != "usage"}
    assert told == {
        "text": said.text,
        "finish_reason": said.finish_reason,
        "refusal": said.refusal,
        "tool_calls": calls,
        "reasoning": dict(said.reasoning),
        "logprobs": said.logprobs,
    }
    expect_usage(said, heard["usage"])


def expect_usage(said: Said, usage: dict[str, Any]) -> None:
    if said.tokens is None:
        assert usage["estimated"] is True
        return
    tokens_in, tokens_out = said.tokens
    assert usage["prompt_tokens"] == tokens_in
    assert usage["completion_tokens"] == tokens_out
    assert usage["total_tokens"] == tokens_in + tokens_out
    assert "estimated" not in usage
    assert not [name for name in usage if "cost" in name]
    if said.cached_tokens is not None:
        assert usage["prompt_tokens_details"]["cached_tokens"] == said.cached_tokens
    if said.reasoning_tokens is not None:
        assert usage["completion_tokens_details"]["reasoning_tokens"] == said.reasoning_tokens


# --- /api/chat ------------------------------------------------------------------------------------


@shapes(lambda shape: shape.plain is not None and shape.chat is not None)
def test_chat_plain(api: ApiClient, recorded: RecordedProvider, shape: Shape) -> None:
    response = api.chat(shape.name)
    if isinstance(shape.chat, Refused):
        expect_refusal(shape.chat, *error_of(response), is_v1=False)
    else:
        assert response.status_code == 200, response.content
        expect_reply(shape, response.json())
    expect_chat_outcome(api, shape)


@streams
@streamed_shapes(lambda shape: shape.chat is not None)
def test_chat_streamed(api: ApiClient, recorded: RecordedProvider, shape: Shape) -> None:
    response = api.chat(shape.name, stream=True)
    if isinstance(shape.chat, Refused):
        expect_refusal(shape.chat, *error_of(response), is_v1=False)
    else:
        assert response.status_code == 200, response.content
        *deltas, (name, done) = test_streaming.parse(response.getvalue())
        assert name == "done", done
        assert "".join(data["text"] for _, data in deltas) == done["reply"]
        expect_reply(shape, done)
    expect_chat_outcome(api, shape)


@streams
@pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])
@streamed_shapes(lambda shape: shape.v1 == TOO_LONG and shape.plain is not None)
def test_a_long_session_goes_on(
    api: ApiClient, recorded: RecordedProvider, shape: Shape, is_stream: bool
) -> None:
    for _ in range(3):
        assert api.chat("Hello!").status_code == 200
    recorded.only_if = has_long_history
    response = api.chat(shape.name, stream=is_stream)
    body = response.getvalue() if response.streaming else response.content
    assert response.status_code == 200, body
    assert TEXT in body.decode()
    assert not RouteHealth.objects.exists()
    assert_books_agree()


def expect_reply(shape: Shape, body: dict[str, Any]) -> None:
    said = shape.v1
    assert isinstance(said, Said)
    assert body["reply"] == (shape.chat or said.text)
    assert body["finish_reason"] == said.finish_reason
    if said.tokens is None:
        assert body["usage"]["estimated"] is True
    else:
        usage = body["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == said.tokens


def expect_chat_outcome(api: ApiClient, shape: Shape) -> None:
    expect_outcome(shape, is_charged=not isinstance(shape.chat, Refused))
    if isinstance(shape.chat, Refused):
        assert api.history() == []
        if isinstance(shape.v1, Said) and shape.v1.tokens:
            # The operator pays for tokens that the provider used in a failed call.
            loss = LedgerEntry.objects.get(kind="absorbed")
            assert loss.amount_microcredits == price(shape.v1.tokens)
    else:
        reply = shape.chat or shape.v1.text  # type: ignore[union-attr]
        assert [message["content"] for message in api.history()] == [shape.name, reply]


# --- Shared by both -------------------------------------------------------------------------------


def error_of(response: Any) -> tuple[int | None, dict[str, Any]]:
    """Return an error's status and body. The status is None if a piece of the answer came first."""
    if not response.streaming:
        assert response.status_code != 200, response.content
        body = response.json()
        return response.status_code, body.get("error") if "code" not in body else body
    body = response.getvalue()
    if body.startswith(b"event:"):
        name, error = test_streaming.parse(body)[-1]
        assert name == "error", body
        return None, error
    error = test_openai_streaming.parse(body)[-1]
    assert error != "[DONE]", body
    return None, error["error"]


def expect_refusal(
    refused: Refused, status: int | None, body: dict[str, Any], *, is_v1: bool
) -> None:
    message = body["message"] if is_v1 else body["error"]
    assert status is None or status in refused.statuses, body
    if refused.code is not None:
        assert body["code"] == refused.code, body
    if refused.param is not None:
        assert body["param"] == refused.param
    assert refused.says in message
    assert not [secret for secret in refused.hides if secret in message]


def price(tokens: tuple[int, int]) -> int:
    return 1_000_000 + tokens[0] * PER_TOKEN_IN + tokens[1] * PER_TOKEN_OUT


def expect_outcome(shape: Shape, *, is_charged: bool) -> None:
    """Check the balance, the hold, the ledger, and the failures counted against the route."""
    spent = GRANTED - CreditAccount.objects.get().balance_microcredits
    assert Hold.objects.get().state == ("captured" if is_charged else "released")
    if not is_charged:
        assert spent == 0
        assert not Message.objects.exists()
    elif isinstance(shape.v1, Said) and shape.v1.tokens:
        assert spent == price(shape.v1.tokens)
    assert_books_agree()
    assert fault_of_route() == shape.fault


def fault_of_route() -> str:
    row = RouteHealth.objects.first()
    if row is None:
        return "nothing"
    if row.opened_at:
        return "at once"
    if row.retry_at and row.retry_at > timezone.now():
        return "waits"
    assert row.failure_count + row.stream_failure_count == 1
    return "doubtful"
