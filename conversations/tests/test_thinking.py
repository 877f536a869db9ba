"""Models that write thoughts into their text: what visitors, later turns and /v1 get of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from channels.models import LanguageModel
from channels.tests.factories import make_site
from channels.tests.test_openai_stream import DONE, chunk
from common.tests.stub_server import Peer, Request, StubServer, answer
from conftest import ApiClient
from conversations.tests import test_openai_streaming, test_streaming
from conversations.tests.test_openai import assert_books_agree, complete

pytestmark = pytest.mark.django_db(transaction=True)

PIECES = ["<thi", "nk>A greet", "ing.</th", "ink>\\n", "\\nHi", " there"]
WHOLE = "<think>A greeting.</think>\n\nHi there"
both_ways = pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])
on_and_off = pytest.mark.parametrize(("hides", "text"), [(True, "Hi there"), (False, WHOLE)])


def think_aloud(peer: Peer, request: Request) -> None:
    """Answer with thoughts and text in one content, cut in the middle of its tags."""
    if orjson.loads(request.body).get("stream"):
        body = b"".join([*map(chunk, PIECES), chunk(None, "stop"), DONE])
        peer.send(answer(body, content_type="text/event-stream"))
        return
    choice = {"message": {"content": WHOLE}, "finish_reason": "stop"}
    body = orjson.dumps({"choices": [choice]})
    peer.send(answer(body, content_type="application/json"))


@pytest.fixture
def thinker(settings: Any) -> Iterator[StubServer]:
    with StubServer(think_aloud) as server:
        settings.PROVIDER_BASE_URL = server.url("/v1")
        yield server


@pytest.fixture
def live() -> ApiClient:
    return ApiClient(make_site().api_key)


@both_ways
@on_and_off
def test_replies_history_and_later_turns_have_the_same_text(
    live: ApiClient, thinker: StubServer, hides: bool, text: str, is_stream: bool
) -> None:
    LanguageModel.objects.update(hides_thinking=hides)
    key = {"Idempotency-Key": "k"}
    for _ in range(2):  # the second is a replay
        response = live.chat(stream=is_stream, headers=key)
        if is_stream:
            *deltas, (_, done) = test_streaming.parse(response.getvalue())
            assert "".join(data["text"] for _, data in deltas) == text
        else:
            done = response.json()
        assert done["reply"] == text
    assert [message["content"] for message in live.history()] == ["Hello!", text]
    live.chat("And now?", stream=is_stream).close()
    *_, first, said, _ = orjson.loads(thinker.requests[-1].body)["messages"]
    assert first["content"] == "Hello!"
    assert said == {"role": "assistant", "content": text}
    assert len(thinker.requests) == 2
    assert_books_agree()


@both_ways
@on_and_off
def test_v1_gets_what_the_model_said(
    live: ApiClient, thinker: StubServer, hides: bool, text: str, is_stream: bool
) -> None:
    LanguageModel.objects.update(hides_thinking=hides)
    response = complete(live, stream=is_stream)
    if is_stream:
        chunks = test_openai_streaming.parse(response.getvalue())
        deltas = test_openai_streaming.deltas(chunks)
        said = "".join(delta.get("content", "") for delta in deltas)
    else:
        said = response.json()["choices"][0]["message"]["content"]
    assert said == WHOLE
    assert_books_agree()
