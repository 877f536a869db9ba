"""Models that write reasoning into their text: what visitors, later turns, and /v1 get of it.

Some chat templates open the reasoning themselves, so the answer contains only its closing tag.
DeepSeek R1 and QwQ do this under vLLM without a reasoning parser:
https://docs.vllm.ai/en/latest/features/reasoning_outputs.html
"""

from __future__ import annotations

import pytest

from channels import route_tests
from channels.models import LanguageModel, RouteTraits
from conversations.tests import test_openai_streaming, test_streaming
from conversations.tests.test_openai import MODEL, assert_books_agree, complete
from tests.support.clients import ApiClient
from tests.support.provider import HttpProvider

pytestmark = pytest.mark.django_db(transaction=True)

PIECES = ["<thi", "nk>A greet", "ing.</th", "ink>\n", "\nHi", " there"]
WHOLE = "<think>A greeting.</think>\n\nHi there"
both_ways = pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])
on_and_off = pytest.mark.parametrize(("hides", "text"), [(True, "Hi there"), (False, WHOLE)])


@pytest.fixture
def thinker(http_provider: HttpProvider) -> HttpProvider:
    """A provider with reasoning and text in one content, cut in the middle of the tags."""
    http_provider.deltas = [*PIECES]
    return http_provider


@both_ways
@on_and_off
def test_replies_history_and_later_turns_have_the_same_text(
    api: ApiClient, thinker: HttpProvider, hides: bool, text: str, is_stream: bool
) -> None:
    LanguageModel.objects.update(hides_thinking=hides)
    key = {"Idempotency-Key": "k"}
    for _ in range(2):  # the second is a replay
        response = api.chat(stream=is_stream, headers=key)
        if is_stream:
            *deltas, (_, done) = test_streaming.parse(response.getvalue())
            assert "".join(data["text"] for _, data in deltas) == text
        else:
            done = response.json()
        assert done["reply"] == text
    assert [message["content"] for message in api.history()] == ["Hello!", text]
    api.chat("And now?", stream=is_stream).close()
    *_, first, said, _ = thinker.bodies[-1]["messages"]
    assert first["content"] == "Hello!"
    assert said == {"role": "assistant", "content": text}
    assert len(thinker.bodies) == 2
    assert_books_agree()


@both_ways
@on_and_off
def test_v1_gets_what_the_model_said(
    api: ApiClient, thinker: HttpProvider, hides: bool, text: str, is_stream: bool
) -> None:
    LanguageModel.objects.update(hides_thinking=hides)
    response = complete(api, stream=is_stream)
    if is_stream:
        chunks = test_openai_streaming.parse(response.getvalue())
        deltas = test_openai_streaming.deltas(chunks)
        said = "".join(delta.get("content", "") for delta in deltas)
    else:
        said = response.json()["choices"][0]["message"]["content"]
    assert said == WHOLE
    assert_books_agree()


# --- Reasoning that the chat template opened ------------------------------------------------------

UNOPENED = ["A greet", "ing.\n</th", "ink>\n", "\nHi", " there"]
PLAIN_TALK = ["Hi", " there"]


@pytest.fixture
def talker(http_provider: HttpProvider) -> HttpProvider:
    http_provider.deltas = [*UNOPENED]
    return http_provider


def try_route() -> None:
    """Test the route as the staff do."""
    assert route_tests.try_default(MODEL).completion


def streamed(api: ApiClient) -> tuple[str, str]:
    """Return the joined pieces of a streamed chat, and the whole reply at its end."""
    *deltas, (_, done) = test_streaming.parse(api.chat(stream=True).getvalue())
    return "".join(data["text"] for _, data in deltas), done["reply"]


def test_a_thought_without_a_beginning_is_no_part_of_a_plain_reply(
    api: ApiClient, talker: HttpProvider
) -> None:
    for _ in range(2):
        assert api.chat().json()["reply"] == "Hi there"
    assert {message["content"] for message in api.history()} == {"Hello!", "Hi there"}
    assert (
        complete(api).json()["choices"][0]["message"]["content"]
        == "A greeting.\n</think>\n\nHi there"
    )


def test_a_stream_shows_such_a_thought_until_the_staff_test_the_route(
    api: ApiClient, talker: HttpProvider
) -> None:
    for _ in range(2):
        shown, reply = streamed(api)
        assert (shown, reply) == ("A greeting.\n</think>\n\nHi there", "Hi there")
    assert not RouteTraits.objects.exists()
    try_route()
    assert RouteTraits.objects.get().begins_in_thought
    assert streamed(api) == ("Hi there", "Hi there")
    assert {message["content"] for message in api.history()} == {"Hello!", "Hi there"}
    assert_books_agree()


def test_no_tenants_answer_teaches_a_route(api: ApiClient, talker: HttpProvider) -> None:
    api.chat()
    streamed(api)
    assert not RouteTraits.objects.exists()
    try_route()
    talker.deltas = [*PLAIN_TALK]
    api.chat()
    streamed(api)
    assert RouteTraits.objects.get().begins_in_thought


def test_a_stream_without_the_end_of_a_thought_is_shown_whole_and_held_back_no_more(
    api: ApiClient, talker: HttpProvider
) -> None:
    try_route()
    talker.deltas, talker.finish_reason = [*PLAIN_TALK], "length"
    try_route()
    assert streamed(api) == ("Hi there", "Hi there")
    assert RouteTraits.objects.get().begins_in_thought  # cut short, so it may have been reasoning
    talker.finish_reason = "stop"
    try_route()
    assert streamed(api) == ("Hi there", "Hi there")
    assert not RouteTraits.objects.get().begins_in_thought


def test_v1_teaches_nothing_of_thoughts(api: ApiClient, talker: HttpProvider) -> None:
    complete(api)
    assert not RouteTraits.objects.exists()
