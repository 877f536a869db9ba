"""Undocumented ways in which some providers write JSON, events, and headers.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

from typing import Any

from conversations.tests.recorded.shapes import (
    CHAT_FAILED,
    FAILED,
    PIECES,
    TEXT,
    Said,
    Shape,
    dumps,
    sse,
)

SPEC = "https://html.spec.whatwg.org/multipage/server-sent-events.html"
HEAD: dict[str, Any] = {"id": "odd-1", "created": 1771201400, "model": "odd"}
USAGE = {"prompt_tokens": 31, "completion_tokens": 12, "total_tokens": 43}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def plain(usage: Any = USAGE, content: Any = TEXT, **more: Any) -> bytes:
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return dumps(HEAD | {"object": "chat.completion", "choices": [choice], "usage": usage} | more)


def chunk(content: str | None, finish_reason: str | None = None, **more: Any) -> Any:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish_reason}
    return HEAD | {"object": "chat.completion.chunk", "choices": [choice]} | more


TEXT_CHUNKS = [chunk(piece) for piece in PIECES]
USAGE_CHUNK = HEAD | {"object": "chat.completion.chunk", "choices": [], "usage": USAGE}
STREAM = sse(*TEXT_CHUNKS, chunk(None, "stop"), USAGE_CHUNK)
FLOATS = {"prompt_tokens": 31.0, "completion_tokens": 12.0, "total_tokens": 43.0}


def of_several_lines(event: Any) -> bytes:
    """Return an event with data on two lines, cut where JSON allows it."""
    first, _, rest = dumps(event).partition(b",")
    return b"event: message\nid: 1\ndata: " + first + b",\ndata: " + rest + b"\n\n"


def usage_in_choice() -> bytes:
    return plain(usage=None).replace(b'"index":0', b'"usage":' + dumps(USAGE) + b',"index":0')


SPLIT_PAIR = sse(
    *TEXT_CHUNKS[:-1],
    # One character as a surrogate pair, each half in its own chunk.
    dumps(chunk("?")).replace(b'"?"', b'"\\ud83c"').join([b"data: ", b"\n\n"]),
    dumps(chunk("?")).replace(b'"?"', b'"\\udf6e"').join([b"data: ", b"\n\n"]),
    chunk(None, "stop"),
    USAGE_CHUNK,
)
NOT_A_NUMBER = plain(logprob=0).replace(b'"logprob":0', b'"logprob":NaN')

SHAPES = (
    Shape(
        "odd/error-null",
        SPEC,
        plain=plain(error=None),
        stream=sse(
            *(event | {"error": None} for event in TEXT_CHUNKS),
            chunk(None, "stop", error=None),
            USAGE_CHUNK | {"error": None},
        ),
        v1=Said(),
    ),
    Shape("odd/typed-text", SPEC, stream=STREAM, stream_type="text/plain", v1=Said()),
    Shape("odd/typed-json", SPEC, stream=STREAM, stream_type="application/json", v1=Said()),
    Shape("odd/does-not-stream", SPEC, stream=plain(), stream_type="application/json", v1=Said()),
    Shape(
        "odd/no-done",
        SPEC,
        stream=sse(*TEXT_CHUNKS, chunk(None, "stop"), USAGE_CHUNK, done=False),
        v1=Said(),
    ),
    Shape(
        "odd/byte-order-mark",
        SPEC,
        plain=BYTE_ORDER_MARK + plain(),
        stream=BYTE_ORDER_MARK + STREAM,
        v1=Said(),
    ),
    Shape("odd/carriage-returns", SPEC, stream=STREAM.replace(b"\n", b"\r"), v1=Said()),
    Shape("odd/both-line-ends", SPEC, stream=STREAM.replace(b"\n", b"\r\n"), v1=Said()),
    Shape(
        "odd/several-lines",
        SPEC,
        stream=sse(*map(of_several_lines, [*TEXT_CHUNKS, chunk(None, "stop"), USAGE_CHUNK])),
        v1=Said(),
    ),
    Shape("odd/split-pair", SPEC, stream=SPLIT_PAIR, v1=Said()),
    Shape(
        "odd/broken-byte",
        SPEC,
        plain=plain(content="7 €?").replace(b"?", b"\xff"),
        stream=sse(
            dumps(chunk("7 €?")).replace(b"?", b"\xff").join([b"data: ", b"\n\n"]),
            chunk(None, "stop"),
            USAGE_CHUNK,
        ),
        v1=Said("7 €\ufffd"),
    ),
    Shape("odd/not-a-number", SPEC, plain=NOT_A_NUMBER, v1=Said()),
    Shape("odd/created", SPEC, plain=plain(), stream=STREAM, status=201, v1=Said()),
    Shape(
        "odd/floats",
        SPEC,
        plain=plain(usage=FLOATS),
        stream=sse(*TEXT_CHUNKS, chunk(None, "stop"), USAGE_CHUNK | {"usage": FLOATS}),
        v1=Said(),
    ),
    Shape(
        "odd/usage-in-the-choice",
        SPEC,
        plain=usage_in_choice(),
        v1=Said(),
    ),
    Shape(
        "odd/says-nothing-why",
        SPEC,
        plain=plain(content=None).replace(b'"stop"', b"null"),
        stream=sse(chunk(None), USAGE_CHUNK),
        v1=FAILED,
        chat=CHAT_FAILED,
        fault="doubtful",
    ),
    Shape(
        "odd/a-page",
        SPEC,
        plain=b"<html><body>502 Bad Gateway</body></html>",
        status=502,
        content_type="text/html",
        v1=FAILED,
        chat=CHAT_FAILED,
        fault="doubtful",
    ),
    Shape(
        "odd/breaks-off",
        SPEC,
        plain=plain()[:-20],
        stream=sse(*TEXT_CHUNKS[:2], done=False),
        v1=FAILED,
        chat=CHAT_FAILED,
        fault="doubtful",
    ),
)
