"""A provider that answers with recorded shapes.

A request names the shape that it wants in its last user message, so that the same request can go to
the provider directly and through the gateway. Any other request, such as the gateway's probe, gets
a plain answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from conversations.tests.recorded import SHAPES
from conversations.tests.recorded.shapes import Body, Shape
from tests.shapes import LAST_CHUNK, chunked, chunked_head
from tests.support.provider import HttpProvider

ANYTHING_ELSE = "openai/plain"
_NAME = re.compile(r"[a-z-]+/[a-z0-9-]+")
# After a shape's name, this asks for its stream byte by byte, cut within lines and characters.
BYTE_BY_BYTE = " byte by byte"


class RecordedProvider(HttpProvider):
    """Plays shapes, and records its requests."""

    # If set, limits every shape to requests of this kind, as a shape's own `only_if` does.
    only_if: Callable[[Body], bool] | None = None

    def forget(self) -> None:
        self.bodies.clear()
        self.only_if = None

    def say(self, body: Body) -> Iterator[bytes]:
        said = text_of_last_message(body)
        shape = choose(said, body, self.only_if)
        is_stream = bool(body.get("stream")) and shape.stream is not None
        if not is_stream and shape.plain is None:
            shape = SHAPES[ANYTHING_ELSE]
        payload = (shape.stream if is_stream else shape.plain) or b""
        yield head(shape, shape.stream_type if is_stream else shape.content_type)
        for piece in cut(payload, byte_by_byte=said.endswith(BYTE_BY_BYTE)):
            yield chunked(piece)
        yield LAST_CHUNK


def head(shape: Shape, content_type: str) -> bytes:
    headers = "".join(f"{name}: {value}\r\n" for name, value in shape.headers.items())
    status = f"{shape.status} Recorded"
    return chunked_head(status=status, content_type=content_type, headers=headers)


def cut(payload: bytes, *, byte_by_byte: bool) -> Iterator[bytes]:
    """Cut a body into the pieces to send: one event or one byte each."""
    if byte_by_byte:
        yield from (payload[n : n + 1] for n in range(len(payload)))
    else:
        yield from (event for event in re.split(rb"(?<=\n\n)", payload) if event)


def text_of_last_message(body: Body) -> str:
    """Return the last user message, or the first of its parts if it has several."""
    content = [m["content"] for m in body["messages"] if m["role"] == "user"][-1]
    return str(content[0]["text"] if isinstance(content, list) else content)


def choose(said: str, body: Body, only_if: Callable[[Body], bool] | None) -> Shape:
    """Return the shape that a request gets."""
    named = [SHAPES[name] for name in _NAME.findall(said) if name in SHAPES]
    shape = named[-1] if named else SHAPES[ANYTHING_ELSE]
    fits = only_if or shape.only_if
    if fits is not None and not fits(body):
        return SHAPES[shape.otherwise or ANYTHING_ELSE]
    return shape
