"""The official Python client against a running server. It does not know that a gateway answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

from channels.authentication import generate_key
from channels.tests.factories import Site
from conversations.tests.test_openai import CALL, MODEL, assert_books_agree
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db(transaction=True)

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello!"}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object"}},
}


@pytest.fixture
def client(site: Site, live_server: Any) -> OpenAI:
    return OpenAI(base_url=f"{live_server.url}/v1", api_key=site.api_key)


@pytest.fixture
def simulating(site: Site, live_server: Any) -> Callable[[str], OpenAI]:
    """Return a function that creates a client whose test key requests an error."""

    def make(what: str) -> OpenAI:
        return OpenAI(
            base_url=f"{live_server.url}/v1",
            api_key=site.test_key,
            default_headers={"X-Simulate": what},
        )

    return make


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record how long the client waits before each retry, without waiting."""
    seconds: list[float] = []
    monkeypatch.setattr("openai._base_client.time.sleep", seconds.append)
    return seconds


def test_lists_models(client: OpenAI) -> None:
    models = client.models.list().data
    assert models[0].id == MODEL
    assert models[0].owned_by == "gateway"


def test_answers_plainly(client: OpenAI, provider: FakeProvider) -> None:
    provider.script.append(reply("Hello to you", 7, 4))
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=HELLO, temperature=0.5, max_tokens=20, stop=["\n"], seed=1
    )
    assert raw.headers["x-gateway-provider"] == "fake"
    assert raw.headers["x-credits-remaining"] == "99.000000"
    completion = raw.parse()
    assert completion.choices[0].message.content == "Hello to you"
    assert completion.usage is not None
    assert completion.usage.total_tokens == 11
    assert completion._request_id == raw.headers["x-request-id"]
    assert provider.requests[0].options == {"temperature": 0.5, "stop": ["\n"], "seed": 1}
    assert_books_agree()


def test_streams_with_usage(client: OpenAI, provider: FakeProvider) -> None:
    provider.script.append(reply("One two three", 7, 4))
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces).strip() == "One two three"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 11
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert_books_agree()


def test_tools_pass_through(client: OpenAI, provider: FakeProvider) -> None:
    provider.script.append(reply("", tool_calls=(CALL,), finish_reason="tool_calls"))
    choice = client.chat.completions.create(
        model=MODEL, messages=HELLO, tools=[WEATHER], tool_choice="auto"
    ).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert choice.message.tool_calls is not None
    assert choice.message.tool_calls[0].to_dict() == CALL
    # The client sends the message back unchanged, with the tool's answer.
    answer = choice.message.to_dict(mode="json")
    result = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
    client.chat.completions.create(
        model=MODEL,
        messages=[*HELLO, answer, result],  # type: ignore[list-item]
        tools=[WEATHER],
    )
    assert [message["role"] for message in provider.prompts[1]] == ["user", "assistant", "tool"]
    assert provider.prompts[1][1]["tool_calls"] == [CALL]


def test_the_client_puts_a_streamed_tool_call_together(
    client: OpenAI, provider: FakeProvider
) -> None:
    provider.script.append(reply("Wait", tool_calls=(CALL,), finish_reason="tool_calls"))
    with client.chat.completions.stream(model=MODEL, messages=HELLO, tools=[WEATHER]) as stream:
        choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Wait "
    assert choice.message.tool_calls
    assert choice.message.tool_calls[0].function.arguments == CALL["function"]["arguments"]  # type: ignore[index]


def test_structured_answers_are_parsed(client: OpenAI, provider: FakeProvider) -> None:
    class Weather(BaseModel):
        city: str

    provider.script.append(reply('{"city": "Lima"}'))
    completion = client.chat.completions.parse(model=MODEL, messages=HELLO, response_format=Weather)
    assert completion.choices[0].message.parsed == Weather(city="Lima")
    sent = provider.requests[0].options["response_format"]
    assert (sent["type"], sent["json_schema"]["name"]) == ("json_schema", "Weather")


def test_the_asynchronous_client_does_the_same(
    site: Site, live_server: Any, provider: FakeProvider
) -> None:
    async def ask() -> tuple[str | None, str]:
        url = f"{live_server.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=site.api_key) as client:
            plain = await client.chat.completions.create(model=MODEL, messages=HELLO)
            stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
            return plain.choices[0].message.content, "".join(pieces)

    assert asyncio.run(ask()) == ("Reply 1", "Reply 2 ")


# --- Errors and retries ---------------------------------------------------------------------------


def ask(client: OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(**{"model": MODEL, "messages": HELLO} | more)


@pytest.mark.parametrize(
    ("what", "error_class", "status", "tries_again"),
    [
        ("site_disabled", openai.PermissionDeniedError, 403, False),
        ("credits_exhausted", openai.APIStatusError, 402, False),
        ("daily_quota_reached", openai.RateLimitError, 429, False),
        ("rate_limited", openai.RateLimitError, 429, True),
        ("provider_error", openai.InternalServerError, 502, True),
    ],
)
def test_errors_have_the_classes_of_openais_own(
    simulating: Callable[[str], OpenAI],
    waits: list[float],
    what: str,
    error_class: type[openai.APIStatusError],
    status: int,
    tries_again: bool,
) -> None:
    with pytest.raises(error_class) as caught:
        ask(simulating(what))
    error = caught.value
    assert (error.status_code, error.code, error.param) == (status, what, None)
    assert error.request_id == error.response.headers["x-request-id"]
    assert error.type
    assert len(waits) == (2 if tries_again else 0)


def test_faults_of_the_request_are_told_with_their_param(
    client: OpenAI, waits: list[float]
) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        ask(client, messages=[])
    assert (bad.value.code, bad.value.param) == ("invalid_request", "messages")
    with pytest.raises(openai.NotFoundError) as missing:
        ask(client, model="gpt-4o")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as long:
        ask(client, messages=[{"role": "user", "content": "x" * 600_000}])
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.APIStatusError) as large:
        ask(client, messages=[{"role": "user", "content": "x" * 1024 * 1024}])
    assert (large.value.status_code, large.value.code) == (413, "payload_too_large")
    with pytest.raises(openai.AuthenticationError) as stranger:
        ask(client.with_options(api_key=generate_key(is_test=False)))
    assert stranger.value.code == "invalid_api_key"
    assert waits == []


def test_a_key_reused_with_another_body_is_unprocessable(
    client: OpenAI, provider: FakeProvider, waits: list[float]
) -> None:
    key = {"Idempotency-Key": "k1"}
    first, again = ask(client, extra_headers=key), ask(client, extra_headers=key)
    assert again == first
    with pytest.raises(openai.UnprocessableEntityError):
        ask(client, seed=1, extra_headers=key)
    assert waits == []


def test_a_key_under_way_is_a_conflict_and_waited_for(
    client: OpenAI, provider: FakeProvider, waits: list[float]
) -> None:
    key = {"Idempotency-Key": "k1"}
    caught: list[openai.ConflictError] = []

    def meanwhile() -> Any:
        with pytest.raises(openai.ConflictError) as conflict:
            ask(client, extra_headers=key)
        caught.append(conflict.value)
        return reply()

    provider.script.append(meanwhile)
    ask(client, extra_headers=key)
    assert caught[0].code == "request_in_progress"
    assert waits == [2.0, 2.0]
    assert len(provider.requests) == 1


def test_waits_as_long_as_retry_after_says(
    simulating: Callable[[str], OpenAI], waits: list[float]
) -> None:
    with pytest.raises(openai.RateLimitError):
        ask(simulating("rate_limited"))
    assert waits == [30.0, 30.0]


def test_a_failure_that_passes_is_one_charge(
    client: OpenAI, provider: FakeProvider, waits: list[float]
) -> None:
    provider.fail("timeout")
    provider.fail("broken")
    assert ask(client).choices[0].message.content == "Reply 3"
    assert len(waits) == 2
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO)
    assert raw.headers["x-credits-remaining"] == "98.000000"
    assert_books_agree()


def test_a_stream_that_fails_at_once_is_tried_again(
    client: OpenAI, provider: FakeProvider, waits: list[float]
) -> None:
    provider.fail("timeout")
    assert len(list(ask(client, stream=True))) == 4
    assert len(waits) == 1


def test_a_break_in_mid_stream_is_raised_from_the_iteration(
    client: OpenAI, provider: FakeProvider
) -> None:
    provider.script.append(reply("Half of BREAK"))
    pieces: list[str] = []
    stream = ask(client, stream=True)
    with pytest.raises(openai.APIError) as caught:
        pieces.extend(chunk.choices[0].delta.content for chunk in stream)
    assert pieces == ["", "Half ", "of "]
    assert caught.value.code == "provider_error"
    assert "Nothing was charged" in caught.value.message
    assert_books_agree()
