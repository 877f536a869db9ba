"""An answer that is only a text is read by a shorter way, which must come to the same."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from channels.providers.answers import AnswerReader
from channels.providers.base import ChatRequest, Completion
from channels.providers.faults import Sent
from channels.providers.openai_compatible import read_plain
from channels.providers.openai_stream import read_whole
from conversations.tests.recorded import SHAPES

REQUESTS = {
    "chat": ChatRequest([], 100, hides_thinking=True),
    "chat that shows thoughts": ChatRequest([], 100),
    "v1": ChatRequest([], 100, is_transparent=True),
}
USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}


def answer(content: Any = "Hello.", finish_reason: Any = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content} | more.pop("message", {})
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    choice |= more.pop("choice", {})
    return {"id": "a", "model": "m", "choices": [choice], "usage": USAGE} | more


PLAIN = [
    answer(),
    answer(" Hello \x00there. ☕\n", "length"),
    answer("\ufeffHello."),
    answer("1 < 2"),
    answer(usage=None),
    answer(usage={"prompt_tokens": None}),
    answer(usage=USAGE | {"prompt_tokens_details": {"cached_tokens": 4}}),
    answer(model=7),
    answer(message={"refusal": None, "tool_calls": [], "annotations": []}),
    answer(choice={"logprobs": None}),
]
OTHERS = [
    answer(""),
    answer(" \x00"),
    answer(None),
    answer([{"type": "text", "text": "Hello."}]),
    answer("<think>Hm.</think>Hello."),
    answer(finish_reason="content_filter"),
    answer(finish_reason=None),
    answer(message={"reasoning_content": "Hm."}),
    answer(choice={"logprobs": {"content": []}}),
    answer(choice={"error": {"message": "no"}}),
    answer(error=None),
    {"choices": []},
    {"choices": [7]},
    {"error": {"message": "no"}},
    [],
]


def read_whole_answer(body: bytes, request: ChatRequest) -> Completion:
    reader = AnswerReader(request, Sent(b"{}", "m"))
    read_whole(body, reader)
    return reader.completion()


@pytest.mark.parametrize("request_of", REQUESTS)
def test_recorded_answers_read_alike(request_of: str) -> None:
    request = REQUESTS[request_of]
    compared = 0
    for shape in SHAPES.values():
        if isinstance(shape.plain, bytes) and (plain := read_plain(shape.plain, request)):
            assert plain == read_whole_answer(shape.plain, request), shape.name
            compared += 1
    assert compared >= 5


@pytest.mark.parametrize("request_of", REQUESTS)
@pytest.mark.parametrize("told", PLAIN)
def test_a_text_reads_alike(told: dict[str, Any], request_of: str) -> None:
    body, request = orjson.dumps(told), REQUESTS[request_of]
    plain = read_plain(body, request)
    assert plain is None or plain == read_whole_answer(body, request)
    assert plain or "<" in told["choices"][0]["message"]["content"]


@pytest.mark.parametrize("told", OTHERS)
def test_every_other_answer_goes_the_long_way(told: Any) -> None:
    assert read_plain(orjson.dumps(told), REQUESTS["chat"]) is None
    assert read_plain(b"data: {}", REQUESTS["chat"]) is None
