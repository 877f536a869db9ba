"""Answer parts that are not text, and reasoning that is not a string: who gets which of them."""

from __future__ import annotations

from typing import Any

import pytest

from conversations.tests import test_openai_streaming, test_responses_streaming
from conversations.tests.test_openai import HELLO, assert_books_agree, complete
from conversations.tests.test_responses import respond
from tests.support.clients import ApiClient
from tests.support.provider import HttpProvider

pytestmark = pytest.mark.django_db(transaction=True)

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
CONTENT = [{"type": "text", "text": "Here:"}, IMAGE]
REASONING = {"id": "r1", "encrypted": "x"}


@pytest.fixture
def painter(http_provider: HttpProvider) -> HttpProvider:
    """A provider whose answers contain more than text."""
    http_provider.deltas = [{"content": CONTENT}]
    return http_provider


def message_of(api: ApiClient) -> dict[str, Any]:
    """Return a completion's message. Checks that a stream carries the same message."""
    message: dict[str, Any] = complete(api).json()["choices"][0]["message"]
    chunks = test_openai_streaming.parse(complete(api, stream=True).getvalue())
    streamed: dict[str, Any] = {}
    for delta in test_openai_streaming.deltas(chunks):
        streamed |= {name: value for name, value in delta.items() if value}
    assert streamed == {name: value for name, value in message.items() if value}
    return message


def test_v1_gets_parts_that_are_no_text_beside_the_text(
    api: ApiClient, painter: HttpProvider
) -> None:
    message = message_of(api)
    assert (message["content"], message["content_parts"]) == ("Here:", [IMAGE])
    painter.deltas = [{"content": [IMAGE]}]
    message = message_of(api)
    assert (message["content"], message["content_parts"]) == ("", [IMAGE])
    assert_books_agree()


def test_responses_have_them_in_the_message(api: ApiClient, painter: HttpProvider) -> None:
    whole = respond(api).json()["output"]
    assert whole[0]["content_parts"] == [IMAGE]
    events = test_responses_streaming.parse(respond(api, stream=True).getvalue())
    assert events[-1]["response"]["output"][0]["content_parts"] == [IMAGE]
    assert respond(api, [*whole, {"role": "user", "content": "And?"}]).status_code == 200
    assert "content_parts" not in str(painter.bodies[-1])


def test_visitors_get_the_text(api: ApiClient, painter: HttpProvider) -> None:
    assert api.chat().json()["reply"] == "Here:"
    painter.deltas = [{"content": [IMAGE]}]
    assert api.chat().status_code == 500
    assert_books_agree()


def test_an_answer_can_be_sent_back_as_it_came(api: ApiClient, painter: HttpProvider) -> None:
    """The gateway leaves out its images, because they would not be charged."""
    painter.deltas = [{"content": CONTENT} | {"reasoning": REASONING, "images": [IMAGE]}]
    message = message_of(api)
    assert message["reasoning"] == REASONING
    assert complete(api, [*HELLO, message, *HELLO]).status_code == 200
    assert painter.bodies[-1]["messages"][1] == {
        "role": "assistant", "content": "Here:", "reasoning": REASONING,
    }  # fmt: skip


def test_reasoning_in_an_object_is_read_for_its_text(api: ApiClient, painter: HttpProvider) -> None:
    painter.deltas = [{"content": "Hi", "reasoning": {"content": "Hm."}}]
    assert message_of(api)["reasoning"] == "Hm."
    output = respond(api).json()["output"]
    assert (output[0]["type"], output[0]["content"][0]["text"]) == ("reasoning", "Hm.")
    assert api.chat().json()["reply"] == "Hi"


def test_reasoning_without_text_harms_nobody(api: ApiClient, painter: HttpProvider) -> None:
    painter.deltas = [{"content": "Hi", "reasoning_content": REASONING, "reasoning": "Hm."}]
    assert message_of(api)["reasoning_content"] == REASONING
    output = respond(api).json()["output"]
    assert (output[0]["provider_field"], output[0]["content"][0]["text"]) == ("reasoning", "Hm.")
    assert api.chat().json()["reply"] == "Hi"
