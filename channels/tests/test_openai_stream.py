"""Streams of real and odd providers, over real sockets."""

from __future__ import annotations

import time
from typing import Any

import pytest

from channels.errors import Fault, ProviderError
from channels.providers.base import ChatRequest, Completion, Delta, Patience, Usage
from channels.providers.openai_compatible import OpenAiCompatibleProvider
from tests.shapes import DONE
from tests.support.provider import USAGE, USAGE_CHUNK, chunk, served

LATE = 60.0  # ends a test that hangs


def ask(
    base_url: str,
    *,
    first: float = LATE,
    silence: float = LATE,
    whole: float = LATE,
    is_transparent: bool = False,
) -> tuple[list[Delta], Completion | ProviderError]:
    provider = OpenAiCompatibleProvider(
        provider_name="p",
        base_url=base_url,
        read_key=lambda: "k",
        provider_model="m",
        allow_private=True,
    )
    now = time.monotonic()
    pieces: list[Delta] = []
    try:
        completion = provider.stream(
            ChatRequest([{"role": "user", "content": "Hi"}], 10, is_transparent=is_transparent),
            patience=Patience(now + first, now + whole, silence),
            on_delta=pieces.append,
        )
    except ProviderError as error:
        return pieces, error
    return pieces, completion


def test_reads_text_usage_and_end() -> None:
    with served(
        chunk(None), chunk("He"), chunk("llo"), chunk(None, "stop"), USAGE_CHUNK, DONE
    ) as url:
        pieces, completion = ask(url)
    assert pieces == ["He", "llo"]
    assert completion == Completion("Hello", "stop", Usage(3, 2), "m1")


def test_characters_split_between_packets_survive() -> None:
    data = chunk("grüße 😀 \u2028 end", "stop")
    packets = [part for byte in data for part in (bytes([byte]),)]
    with served(*packets, DONE) as url:
        pieces, completion = ask(url)
    assert pieces == ["grüße 😀 \u2028 end"]
    assert isinstance(completion, Completion)


@pytest.mark.parametrize(
    "pieces",
    [
        [chunk("Hi", "stop")],
        [chunk("Hi"), DONE],
        [chunk("Hi", "stop"), DONE, DONE],
        [chunk("Hi", None, USAGE), chunk(None, "length", USAGE), DONE],
        [b": comment\r\n\r\nevent: x\r\n", chunk("Hi", "stop").replace(b"\n", b"\r\n"), DONE],
        [chunk("Hi", "stop").replace(b"data: ", b"data:"), b"data:[DONE]"],
    ],
)
def test_every_proper_end_is_taken(pieces: list[bytes]) -> None:
    with served(*pieces) as url:
        texts, completion = ask(url)
    assert texts == ["Hi"]
    assert isinstance(completion, Completion)


@pytest.mark.parametrize(
    ("pieces", "reason", "texts"),
    [
        ([chunk("Half")], "broken", ["Half"]),
        ([], "broken", []),
        ([DONE], "no_text", []),
        ([chunk(" "), chunk(None, "unheard_of"), DONE], "no_text", []),
        ([chunk(None, "stop").replace(b"null", b"[7]", 1), DONE], "no_text", []),
        ([b'data: {"error":{"code":"content_filter"}}\n\n'], "content_filter", []),
        (
            [chunk("Half"), b'data: {"error": {"message": "overloaded"}}\n\n', DONE],
            "error_event",
            ["Half"],
        ),
        ([b"data: <<<\n\n"], "garbage", []),
        ([b"data: 5\n\n"], "garbage", []),
    ],
)
def test_every_improper_end_is_an_error(pieces: list[bytes], reason: str, texts: list[str]) -> None:
    with served(*pieces) as url:
        seen, error = ask(url)
    assert seen == texts
    assert isinstance(error, ProviderError)
    assert error.reason == reason


@pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
def test_an_empty_stream_says_why(reason: str) -> None:
    with served(chunk(""), chunk(" "), chunk(None, reason), USAGE_CHUNK, DONE) as url:
        pieces, completion = ask(url)
    assert (pieces, completion) == ([], Completion("", reason, Usage(3, 2), "m1"))


def test_a_refusal_is_handed_on_or_is_the_text() -> None:
    piece = chunk("x").replace(b'"content"', b'"refusal"')
    with served(piece, chunk(None, "stop"), DONE) as url:
        pieces, completion = ask(url)
    assert pieces == ["x"]
    assert isinstance(completion, Completion)
    assert (completion.text, completion.refusal) == ("x", "")
    with served(piece, chunk(None, "stop"), DONE) as url:
        pieces, completion = ask(url, is_transparent=True)
    assert pieces == [{"refusal": "x"}]
    assert isinstance(completion, Completion)
    assert (completion.text, completion.refusal) == ("", "x")


def test_usage_that_cannot_be_is_none() -> None:
    usage = ',"usage":{"prompt_tokens":-3,"completion_tokens":2}'
    with served(chunk("Hi", "stop", usage), DONE) as url:
        _, completion = ask(url)
    assert isinstance(completion, Completion)
    assert completion.usage is None


def test_a_plain_answer_is_one_piece() -> None:
    body = b'{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}'
    with served(body, content_type="application/json") as url:
        pieces, completion = ask(url)
    assert pieces == ["Hi"]
    assert isinstance(completion, Completion)


@pytest.mark.parametrize("content_type", ["text/html", "application/json"])
def test_a_page_is_no_answer(content_type: str) -> None:
    with served(b"<html></html>", content_type=content_type) as url:
        pieces, error = ask(url)
    assert (pieces, str(error)) == ([], "garbage")


def test_an_error_status_is_told_apart() -> None:
    with served(b"{}", status="404 Not Found") as url:
        _, error = ask(url)
    assert isinstance(error, ProviderError)
    assert (error.reason, error.fault) == ("status_404", Fault.DOUBTFUL)


@pytest.mark.parametrize(
    ("pieces", "limits"),
    [
        ([LATE, chunk("late", "stop")], {"first": 0.3}),
        ([b": alive\n\n", 0.05] * 1200, {"first": 0.3}),
        ([chunk("one"), LATE, chunk("two", "stop")], {"silence": 0.3}),
        ([chunk("one"), 0.05] * 1200, {"whole": 0.4}),
    ],
)
def test_no_patience_without_end(pieces: list[bytes | float], limits: dict[str, Any]) -> None:
    with served(*pieces) as url:
        _, error = ask(url, **limits)
    assert str(error) == "timeout"


def test_a_flood_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("channels.providers.openai_compatible.MAX_STREAM_BYTES", 10_000)
    with served(*[chunk("x" * 1000)] * 20) as url:
        _, error = ask(url)
    assert str(error) == "too_large"


# --- Tool calls -----------------------------------------------------------------------------------


def tool_chunk(calls: str, finish: str = "null") -> bytes:
    delta = f'{{"delta":{{"content":null,"tool_calls":{calls}}},"finish_reason":{finish}}}'
    return f'data: {{"choices":[{delta}]}}\n\n'.encode()


TOOL_CHUNKS = [
    tool_chunk('[{"index":0,"id":"c1","type":"function","function":{"name":"f","arguments":""}}]'),
    tool_chunk('[{"index":0,"function":{"arguments":"{\\"a\\""}}]'),
    tool_chunk('[{"index":0,"function":{"arguments":":1}"}}]'),
    tool_chunk('[{"index":1,"id":"c2","type":"function","function":{"name":"g"}}]'),
    chunk(None, "tool_calls"),
    USAGE_CHUNK,
    DONE,
]
TOOL_CALLS = (
    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
    {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
)


def test_tool_calls_are_handed_on_and_put_together() -> None:
    with served(*TOOL_CHUNKS) as url:
        pieces, completion = ask(url, is_transparent=True)
    assert completion == Completion("", "tool_calls", Usage(3, 2), "m1", tool_calls=TOOL_CALLS)
    first = {"index": 0, "id": "c1", "type": "function"}
    assert pieces[:2] == [
        {"tool_calls": [first | {"function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]},
    ]
    assert pieces[-1] == {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]}
    assert len(pieces) == 5
    assert completion.all_text == 'f{"a":1}g{}'


def test_tool_calls_are_no_answer_to_who_offered_none() -> None:
    with served(*TOOL_CHUNKS) as url:
        pieces, completion = ask(url)
    assert pieces == []
    assert completion == Completion("", "tool_calls", Usage(3, 2), "m1")


def test_a_missing_index_is_the_place() -> None:
    calls = '[{"id":"c1","function":{"name":"f","arguments":"{}"}},{"function":{"name":"g"}}]'
    with served(tool_chunk(calls, '"stop"')) as url:
        (piece, _), completion = ask(url, is_transparent=True)
    assert isinstance(piece, dict)
    assert [call["index"] for call in piece["tool_calls"]] == [0, 1]
    assert isinstance(completion, Completion)
    assert [call["function"]["name"] for call in completion.tool_calls] == ["f", "g"]


@pytest.mark.parametrize(
    "calls", ['["f"]', '[{"function":{"name":5}}]', '[{"index":0,"function":{"arguments":"{}"}}]']
)
def test_odd_tool_calls_are_garbage(calls: str) -> None:
    with served(tool_chunk(calls), chunk(None, "tool_calls"), DONE) as url:
        _, error = ask(url, is_transparent=True)
    assert isinstance(error, ProviderError)
    assert error.reason == "garbage"


def test_a_break_among_tool_calls_is_broken() -> None:
    with served(*TOOL_CHUNKS[:2]) as url:
        pieces, error = ask(url, is_transparent=True)
    assert len(pieces) == 2
    assert isinstance(error, ProviderError)
    assert error.reason == "broken"


def test_a_provider_that_does_not_stream_gives_its_calls_in_one_piece() -> None:
    body = (
        b'{"choices":[{"message":{"content":"Wait.","tool_calls":'
        b'[{"id":"c1","function":{"name":"f","arguments":"{}"}}]}}]}'
    )
    with served(body, content_type="application/json") as url:
        pieces, completion = ask(url, is_transparent=True)
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert pieces == [{"content": "Wait.", "tool_calls": [{"index": 0} | call]}]
    assert isinstance(completion, Completion)
    assert (completion.finish_reason, completion.tool_calls) == ("tool_calls", (call,))
