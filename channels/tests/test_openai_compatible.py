"""The OpenAI protocol, with a server that gives the odd answers of real providers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from channels.errors import Fault, ProviderError
from channels.providers.base import ChatMessage, ChatRequest, Completion, Patience, Usage
from channels.providers.openai_compatible import MAX_ANSWER_BYTES, OpenAiCompatibleProvider
from common import http
from tests.support.provider import chat_answer
from tests.support.stub_server import StubServer, answer

MESSAGES: list[ChatMessage] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Grüß “dich” 中 \U0001f600\n</page>"},
]
KEY = "sk-secret-key"

Say = Callable[..., StubServer]


@pytest.fixture
def say() -> Iterator[Say]:
    """Return a function that starts a server which gives this answer to every request."""
    running: list[StubServer] = []

    def start(body: Any, status: str = "200 OK", **headers: str) -> StubServer:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        server = StubServer(answer(raw, status=status, **headers)).__enter__()
        running.append(server)
        return server

    yield start
    for server in running:
        server.__exit__(None, None, None)
    http.close_idle()


def patient(seconds: float) -> Patience:
    end = time.monotonic() + seconds
    return Patience(end, end, seconds)


def ask(
    server: StubServer,
    *,
    api_key: str = KEY,
    seconds: float = 60,
    allow_private: bool = True,
    request: ChatRequest = ChatRequest(MESSAGES, 123),  # noqa: B008  # frozen
) -> Completion:
    provider = OpenAiCompatibleProvider(
        provider_name="stub",
        base_url=server.url("/v1/"),
        read_key=lambda: api_key,
        provider_model="stub/model-1",
        allow_private=allow_private,
    )
    return provider.complete(request, patience=patient(seconds))


def failure(server: StubServer, **options: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        ask(server, **options)
    assert KEY not in str(caught.value)
    return caught.value


# --- What is sent ---------------------------------------------------------------------------------


def test_sends_the_messages_as_they_are(say: Say) -> None:
    server = say(chat_answer())
    ask(server)
    (request,) = server.requests
    assert request.line == "POST /v1/chat/completions HTTP/1.1"
    assert orjson.loads(request.body) == {
        "model": "stub/model-1",
        "messages": MESSAGES,
        "max_tokens": 123,
    }
    assert request.headers["content-type"] == "application/json"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["host"] == f"127.0.0.1:{server.port}"


def test_sends_options_and_the_newer_limit_by_its_name(say: Say) -> None:
    server = say(chat_answer())
    options = {"temperature": 0.5, "tools": [{"type": "function", "function": {"name": "f"}}]}
    ask(server, request=ChatRequest(MESSAGES, 7, options, limit_name="max_completion_tokens"))
    assert orjson.loads(server.requests[0].body) == {
        "model": "stub/model-1",
        "messages": MESSAGES,
        "max_completion_tokens": 7,
        **options,
    }


def test_sends_no_authorization_without_a_key(say: Say) -> None:
    server = say(chat_answer())
    ask(server, api_key="")
    assert "authorization" not in server.requests[0].headers


def test_sends_the_key_to_no_other_host(say: Say) -> None:
    other = say(chat_answer())
    for status in ("301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"):
        server = say(b"", status=status, Location=other.url("/v1/chat/completions"))
        error = failure(server)
        assert (error.reason, error.permanent) == (f"status_{status[:3]}", False)
    assert other.connection_count == 0


def test_private_addresses_are_refused_before_a_byte_is_sent(say: Say) -> None:
    server = say(chat_answer())
    assert failure(server, allow_private=False).reason == "private_address"
    assert server.connection_count == 0


# --- Answers --------------------------------------------------------------------------------------


def test_reads_a_whole_answer(say: Say) -> None:
    assert ask(say(chat_answer())) == Completion(
        text="Hello!",
        finish_reason="stop",
        usage=Usage(9, 12),
        response_model="stub/model-1-0613",
    )


def test_the_barest_answer_will_do(say: Say) -> None:
    assert ask(say({"choices": [{"message": {"content": "Hi"}}]})) == Completion(
        text="Hi", finish_reason="stop", usage=None
    )


TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize("content", [None, "", " ", "Let me see."])
def test_tool_calls_are_an_answer_where_they_are_taken(say: Say, content: Any) -> None:
    message = {"role": "assistant", "content": content, "tool_calls": [TOOL_CALL | {"index": 0}]}
    body = chat_answer(choices=[{"message": message, "finish_reason": "tool_calls"}])
    completion = ask(say(body), request=ChatRequest(MESSAGES, 123, is_transparent=True))
    assert (completion.text, completion.finish_reason) == (content or "", "tool_calls")
    assert completion.tool_calls == (TOOL_CALL,)
    assert ask(say(body)).text == completion.text.strip()


@pytest.mark.parametrize(
    "calls",
    [
        5,
        ["f"],
        [{}],
        [{"function": {"name": ""}}],
        [{"function": "f"}],
        [{"function": {"name": 5}}],
    ],
)
def test_odd_tool_calls_are_garbage(say: Say, calls: Any) -> None:
    body = chat_answer(choices=[{"message": {"content": "Hi", "tool_calls": calls}}])
    request = ChatRequest(MESSAGES, 123, is_transparent=True)
    assert failure(say(body), request=request).reason == "garbage"


@pytest.mark.parametrize("text", [" a \n", "é中\U0001f600", "<script>", "a\u2028b", "x" * 100_000])
def test_text_is_passed_on_as_the_model_wrote_it(say: Say, text: str) -> None:
    assert ask(say(chat_answer(content=text))).text == text


def test_nul_is_taken_out_of_text(say: Say) -> None:
    completion = ask(say(chat_answer(content="a\x00b", finish_reason="st\x00op", model="m\x00")))
    assert (completion.text, completion.finish_reason) == ("ab", "stop")
    assert completion.response_model == "m"


@pytest.mark.parametrize("value", [None, 3, [], {}, "", True])
def test_a_missing_finish_reason_is_stop_and_an_odd_model_is_dropped(say: Say, value: Any) -> None:
    completion = ask(say(chat_answer(finish_reason=value, model=value)))
    assert completion.finish_reason == "stop"
    assert completion.response_model == ""


def test_long_names_are_cut_to_what_can_be_stored(say: Say) -> None:
    completion = ask(say(chat_answer(finish_reason="f" * 999, model="m" * 999)))
    assert len(completion.finish_reason) <= 200
    assert len(completion.response_model) <= 200


@pytest.mark.parametrize("reason", ["length", "content_filter", "tool_calls"])
def test_finish_reasons_are_passed_on(say: Say, reason: str) -> None:
    assert ask(say(chat_answer(finish_reason=reason))).finish_reason == reason


@pytest.mark.parametrize(
    "usage",
    [
        None, [], "9", 7, {}, {"prompt_tokens": 9}, {"completion_tokens": 9},
        {"prompt_tokens": -1, "completion_tokens": 5},
        {"prompt_tokens": 5, "completion_tokens": -1},
        {"prompt_tokens": 1.5, "completion_tokens": 5},
        {"prompt_tokens": "9.5", "completion_tokens": 5},
        {"prompt_tokens": "9" * 5_000, "completion_tokens": 5},
        {"prompt_tokens": True, "completion_tokens": 5},
        {"prompt_tokens": None, "completion_tokens": 5},
        {"prompt_tokens": 9, "completion_tokens": [5]},
    ],
)  # fmt: skip
def test_usage_that_is_none_is_not_believed(say: Say, usage: Any) -> None:
    assert ask(say(chat_answer(usage=usage))).usage is None


@pytest.mark.parametrize("digits", ["9" * 18, "9" * 25, "1e30"])
def test_huge_usage_breaks_nothing(say: Say, digits: str) -> None:
    raw = orjson.dumps(chat_answer()).replace(
        b'"prompt_tokens":9', f'"prompt_tokens":{digits}'.encode()
    )
    completion = ask(say(raw))
    assert completion.text == "Hello!"
    assert completion.usage is None


def test_no_tokens_at_all_can_be_believed(say: Say) -> None:
    completion = ask(say(chat_answer(usage={"prompt_tokens": 0, "completion_tokens": 0})))
    assert completion.usage == Usage(0, 0)


def test_a_second_choice_is_not_looked_at(say: Say) -> None:
    body = chat_answer()
    body["choices"].append({"message": {"content": "Other"}})
    assert ask(say(body)).text == "Hello!"


# --- Invalid answers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"<html><h1>It works!</h1></html>", b"\xff\xfe\x00", b"null", b"true", b"[]",
        b'"x"', b"{", b'{"choices": [{"message": {"content": "cut o', b"data: {}\n\n",
        b"[" * 100_000,
        b"NaN",
        b'{"error": {"message": "quota", "code": 529}}', b'{"choices": null}', b'{"choices": []}',
        b'{"choices": {}}', b'{"choices": "abc"}', b'{"choices": [null]}', b'{"choices": [[]]}',
        b'{"choices": ["abc"]}', b'{"choices": [{}]}', b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": []}]}',
        b'{"choices": [{"message": {}}]}', b'{"choices": [{"text": ["old api"]}]}',
    ],
)  # fmt: skip
def test_what_is_no_answer_is_garbage(say: Say, body: bytes) -> None:
    error = failure(say(body))
    assert (error.reason, error.permanent) == ("garbage", False)


@pytest.mark.parametrize("choice", [{"message": "Hello!"}, {"text": "Hello!"}])
def test_text_in_an_older_place_is_read(say: Say, choice: Any) -> None:
    assert ask(say({"choices": [choice]})).text == "Hello!"


EMPTY = [None, "", " \n\t", "\x00", "\u2003"]


@pytest.mark.parametrize("content", [*EMPTY, 7, True, {}, [], [{"type": "image"}]])
@pytest.mark.parametrize("finish_reason", [None, "", "unheard_of"])
def test_nothing_without_a_reason_is_no_answer(say: Say, content: Any, finish_reason: Any) -> None:
    error = failure(say(chat_answer(content=content, finish_reason=finish_reason)))
    assert (error.reason, error.fault) == ("no_text", Fault.DOUBTFUL)


@pytest.mark.parametrize("content", [7, True, {}, [{"text": 7}], [{"type": "image"}]])
def test_what_cannot_be_read_is_not_empty(say: Say, content: Any) -> None:
    assert failure(say(chat_answer(content=content))).reason == "no_text"


@pytest.mark.parametrize("content", EMPTY)
@pytest.mark.parametrize("reason", ["stop", "length", "content_filter", "SAFETY", "max_tokens"])
def test_an_empty_answer_says_why(say: Say, content: Any, reason: str) -> None:
    """The request itself is the cause: stop words that cut everything, a tiny limit, a filter."""
    completion = ask(say(chat_answer(content=content, finish_reason=reason)))
    assert (completion.text.strip(), completion.finish_reason) == ("", reason)
    assert completion.usage == Usage(9, 12)


@pytest.mark.parametrize("choice", [{}, {"message": None}, {"message": {"role": "assistant"}}])
def test_a_filtered_answer_may_lack_its_message(say: Say, choice: Any) -> None:
    body = chat_answer(choices=[choice | {"finish_reason": "content_filter"}])
    assert ask(say(body)).finish_reason == "content_filter"


def test_a_refusal_is_text_to_who_takes_only_text(say: Say) -> None:
    message = {"content": None, "refusal": "I can't help with that."}
    server = say(chat_answer(choices=[{"message": message, "finish_reason": "stop"}]))
    assert ask(server).text == "I can't help with that."
    whole = ask(server, request=ChatRequest(MESSAGES, 123, is_transparent=True))
    assert (whole.text, whole.refusal) == ("", "I can't help with that.")


def test_a_wrong_key_is_permanent(say: Say) -> None:
    error = failure(say({"error": {"message": f"bad key {KEY}"}}, status="401 No"))
    assert (error.reason, error.permanent) == ("status_401", True)


@pytest.mark.parametrize(
    "status", [400, 402, 403, 404, 408, 413, 422, 429, 500, 502, 503, 504, 529]
)
def test_other_statuses_may_pass(say: Say, status: int) -> None:
    body = b"" if status == 204 else orjson.dumps(chat_answer())
    error = failure(say(body, status=f"{status} Odd"))
    assert (error.reason, error.permanent) == (f"status_{status}", False)


def test_an_answer_beyond_a_mebibyte_is_cut(say: Say) -> None:
    assert MAX_ANSWER_BYTES == 1024 * 1024
    assert failure(say(chat_answer(content="x" * MAX_ANSWER_BYTES))).reason == "too_large"


def test_a_compressed_answer_is_refused(say: Say) -> None:
    assert failure(say(chat_answer(), Content_Encoding="gzip")).reason == "encoding"


def test_a_silent_provider_times_out() -> None:
    with StubServer(lambda peer, request: None) as server:
        error = failure(server, seconds=0.3)
    assert (error.reason, error.permanent) == ("timeout", False)


def test_a_key_that_is_no_header_value_is_not_quoted(say: Say) -> None:
    server = say(chat_answer())
    error = failure(server, api_key=f"{KEY}\r\nX-Evil: 1")
    assert error.reason == "broken"
    assert server.requests == []


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://acme.test/v1", "Authorization"),
        ("https://acme.test/openai/deployments/d?api-version=2024-10-21", "api-key"),
    ],
)
def test_sends_the_key_where_the_provider_reads_it(address: str, name: str) -> None:
    client = OpenAiCompatibleProvider(
        provider_name="acme",
        base_url=address,
        read_key=lambda: "secret",
        provider_model="m",
        allow_private=False,
    )
    found = {key: value for key, value in client.headers().items() if "secret" in value}
    assert list(found) == [name]
