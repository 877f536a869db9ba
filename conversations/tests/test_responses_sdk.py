"""The official Python client's `responses` against a running server."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.responses import FunctionToolParam, ResponseInputParam
from pydantic import BaseModel

from channels.tests.factories import Site
from conversations.tests.test_openai import CALL, MODEL, assert_books_agree
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db(transaction=True)

WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object"},
    "strict": False,
}


class Weather(BaseModel):
    city: str


@pytest.fixture
def client(site: Site, live_server: Any) -> OpenAI:
    return OpenAI(base_url=f"{live_server.url}/v1", api_key=site.api_key, max_retries=0)


def test_answers_plainly(client: OpenAI, provider: FakeProvider) -> None:
    provider.script.append(reply("Hello to you", 7, 4))
    raw = client.responses.with_raw_response.create(
        model=MODEL, input="Hello!", instructions="Be kind.", temperature=0.5, store=False
    )
    assert raw.headers["x-credits-remaining"] == "99.000000"
    response = raw.parse()
    assert (response.output_text, response.status) == ("Hello to you", "completed")
    assert response.usage is not None
    assert response.usage.total_tokens == 11
    assert (response.instructions, response.temperature) == ("Be kind.", 0.5)
    assert_books_agree()


def test_streams(client: OpenAI, provider: FakeProvider) -> None:
    provider.script.append(reply("One two three", 7, 4, reasoning="Hm."))
    pieces, thoughts = [], []
    with client.responses.stream(model=MODEL, input="Hello!") as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                pieces.append(event.delta)
            elif event.type == "response.reasoning_text.delta":
                thoughts.append(event.delta)
        response = stream.get_final_response()
    assert (pieces, thoughts) == (["One ", "two ", "three "], ["Hm."])
    assert response.output_text == "One two three"
    assert [item.type for item in response.output] == ["reasoning", "message"]
    assert_books_agree()


@pytest.mark.parametrize("is_stream", [False, True])
def test_tools_in_two_steps(client: OpenAI, provider: FakeProvider, is_stream: bool) -> None:
    provider.script += [reply("Wait", tool_calls=(CALL,), reasoning="Hm."), reply("Sunny")]
    asked: ResponseInputParam = [{"role": "user", "content": "How is Lima?"}]

    def step() -> Any:
        if not is_stream:
            return client.responses.create(model=MODEL, input=asked, tools=[WEATHER])
        with client.responses.stream(model=MODEL, input=asked, tools=[WEATHER]) as stream:
            return stream.get_final_response()

    first = step()
    call = first.output[-1]
    assert (call.name, call.arguments) == ("weather", CALL["function"]["arguments"])  # type: ignore[index]
    asked += first.output  # as in OpenAI's guide
    asked.append({"type": "function_call_output", "call_id": call.call_id, "output": "sunny"})
    assert step().output_text == "Sunny"
    user, message, tool = provider.prompts[1]
    assert user["role"] == "user"
    assert message == {
        "role": "assistant",
        "content": "Wait",
        "reasoning": "Hm.",
        "tool_calls": [CALL],
    }
    assert tool == {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
    assert_books_agree()


def test_structured_answers_are_parsed(client: OpenAI, provider: FakeProvider) -> None:
    provider.script += [reply('{"city": "Lima"}'), reply('{"city": "Lima"}')]
    parsed = client.responses.parse(model=MODEL, input="Where?", text_format=Weather)
    assert parsed.output_parsed == Weather(city="Lima")
    sent = provider.requests[0].options["response_format"]
    assert (sent["type"], sent["json_schema"]["name"]) == ("json_schema", "Weather")
    assert sent["json_schema"]["strict"] is True
    with client.responses.stream(model=MODEL, input="Where?", text_format=Weather) as stream:
        assert stream.get_final_response().output_parsed == Weather(city="Lima")


def test_a_refusal_is_one(client: OpenAI, provider: FakeProvider) -> None:
    provider.script += [reply("", refusal="I cannot."), reply("", refusal="I cannot.")]
    plain = client.responses.create(model=MODEL, input="Hello!")
    with client.responses.stream(model=MODEL, input="Hello!") as stream:
        streamed = stream.get_final_response()
    for response in (plain, streamed):
        assert response.output[0].to_dict()["content"] == [
            {"type": "refusal", "refusal": "I cannot."}
        ]


def test_the_asynchronous_client_does_the_same(
    site: Site, live_server: Any, provider: FakeProvider
) -> None:
    async def ask() -> tuple[str, str]:
        url = f"{live_server.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=site.api_key) as client:
            plain = await client.responses.create(model=MODEL, input="Hello!")
            stream = await client.responses.create(model=MODEL, input="Hello!", stream=True)
            pieces = [e.delta async for e in stream if e.type == "response.output_text.delta"]
            return plain.output_text, "".join(pieces)

    assert asyncio.run(ask()) == ("Reply 1", "Reply 2 ")


def test_a_break_in_mid_stream_is_response_failed(client: OpenAI, provider: FakeProvider) -> None:
    provider.script.append(reply("Half of BREAK"))
    events = list(client.responses.create(model=MODEL, input="Hello!", stream=True))
    last = events[-1]
    assert last.type == "response.failed"
    error = last.response.to_dict()["error"]
    assert (error["code"], error["type"]) == ("provider_error", "server_error")  # type: ignore[index]
    assert_books_agree()


def test_what_needs_a_memory_is_a_bad_request(client: OpenAI, provider: FakeProvider) -> None:
    with pytest.raises(openai.BadRequestError) as stored:
        client.responses.create(model=MODEL, input="Hello!", store=True)
    assert (stored.value.code, stored.value.param) == ("invalid_request", "store")
    with pytest.raises(openai.BadRequestError) as chained:
        client.responses.create(model=MODEL, input="Hello!", previous_response_id="resp_1")
    assert chained.value.param == "previous_response_id"
    with pytest.raises(openai.NotFoundError) as missing:
        client.responses.create(model="gpt-4o", input="Hello!")
    assert missing.value.code == "model_not_found"
    assert provider.requests == []
