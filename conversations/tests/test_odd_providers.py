"""Odd and broken provider streams, from the socket to the last event of both endpoints."""

from __future__ import annotations

from typing import Any

import pytest

from billing.models import CreditAccount, Hold
from channels.models import RouteHealth
from conversations.models import Message
from conversations.tests import test_openai_streaming, test_streaming
from conversations.tests.test_openai import MODEL, assert_books_agree, complete
from tests.shapes import DONE
from tests.support.clients import ApiClient
from tests.support.provider import USAGE, USAGE_CHUNK, chunk, served

pytestmark = pytest.mark.django_db(transaction=True)

COUNTING_ON = [
    chunk("H", None, ',"usage":{"prompt_tokens":3,"completion_tokens":1}'),
    chunk("i", None, USAGE),
    chunk(None, "stop", USAGE),
]
# In all of them, the model's name differs from the requested one.
ANSWERS = {
    "whole": ([chunk("Hi"), chunk(None, "stop"), USAGE_CHUNK, DONE], 5),
    "two [DONE]": ([chunk("Hi", "stop"), USAGE_CHUNK, DONE, DONE], 5),
    "[DONE] again, later": ([chunk("Hi", "stop"), USAGE_CHUNK, DONE, 0.1, DONE], 5),
    "no [DONE]": ([chunk("Hi", "stop"), USAGE_CHUNK], 5),
    "usage in every chunk": ([*COUNTING_ON, DONE], 5),
    "usage in no chunk": ([chunk("Hi", "stop"), DONE], None),
    "null between": ([chunk(None), chunk("H"), chunk(None), chunk("i", "stop"), USAGE_CHUNK], 5),
}
NO_ANSWERS = {
    "null only": [chunk(None), chunk(None), USAGE_CHUNK, DONE],
    "[DONE] only": [DONE, DONE],
    "nothing": [],
    "HTML": [b"<html>\n\n"],
    "no JSON": [b"data: {\n\n", DONE],
}
BREAKS = {
    "no end": [chunk("Half")],
    "no end, with usage": [chunk("Half", None, USAGE)],
    "no JSON": [chunk("Half"), b"data: {\n\n", DONE],
    "error": [chunk("Half"), b'data: {"error":{"message":"overloaded"}}\n\n', DONE],
}


def cases(table: dict[str, Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(v, id=k) for k, v in table.items()])


def ask(api: ApiClient, settings: Any, url: str, *, is_chat: bool) -> Any:
    settings.PROVIDER_BASE_URL = url
    if is_chat:
        return api.chat(stream=True)
    return complete(api, stream=True, stream_options={"include_usage": True})


both_endpoints = pytest.mark.parametrize("is_chat", [True, False], ids=["chat", "v1"])


@both_endpoints
@cases(ANSWERS)
def test_an_odd_stream_is_one_whole_answer(
    api: ApiClient, settings: Any, is_chat: bool, case: tuple[list[Any], int | None]
) -> None:
    pieces, total_tokens = case
    with served(*pieces) as url:
        body = ask(api, settings, url, is_chat=is_chat).getvalue()
    if is_chat:
        *deltas, (name, done) = test_streaming.parse(body)
        assert ("".join(data["text"] for _, data in deltas), name) == ("Hi", "done")
        assert (done["reply"], done["model"]) == ("Hi", MODEL)
        usage = done["usage"]
    else:
        *chunks, done = test_openai_streaming.parse(body)
        texts = [delta.get("content") or "" for delta in test_openai_streaming.deltas(chunks)]
        assert ("".join(texts), done) == ("Hi", "[DONE]")
        assert {chunk["model"] for chunk in chunks} == {MODEL}
        usage = chunks[-1]["usage"]
    assert usage.get("estimated", False) is (total_tokens is None)
    assert total_tokens in (None, usage["total_tokens"])
    message = Message.objects.get(role="assistant")
    assert (message.response_model, message.charged_microcredits) == ("m1", 1_000_000)
    assert_books_agree()


@both_endpoints
@cases(NO_ANSWERS)
def test_a_stream_without_an_answer_is_one_error_and_free(
    api: ApiClient, settings: Any, is_chat: bool, case: list[Any]
) -> None:
    with served(*case) as url:
        response = ask(api, settings, url, is_chat=is_chat)
    assert response.status_code == (500 if is_chat else 502), response.content
    body = response.json()
    assert (body if is_chat else body["error"])["code"] == "provider_error"
    expect_nothing_charged()


@both_endpoints
@cases(BREAKS)
def test_a_stream_that_breaks_off_is_one_error_event_and_free(
    api: ApiClient, settings: Any, is_chat: bool, case: list[Any]
) -> None:
    with served(*case) as url:
        body = ask(api, settings, url, is_chat=is_chat).getvalue()
    if is_chat:
        events = test_streaming.parse(body)
        assert [name for name, _ in events] == ["delta", "error"]
        assert events[-1][1]["code"] == "provider_error"
    else:
        *before, last = test_openai_streaming.parse(body)
        assert [event for event in before if event == "[DONE]" or "error" in event] == []
        assert last["error"]["code"] == "provider_error"
    expect_nothing_charged()


def expect_nothing_charged() -> None:
    assert CreditAccount.objects.get().balance_microcredits == 100_000_000
    assert Hold.objects.get().state == "released"
    assert not Message.objects.exists()
    assert RouteHealth.objects.get().stream_failure_count == 1
    assert_books_agree()
