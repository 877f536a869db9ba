"""Recorded answers of real providers, as faults of the mock provider, by the names of shapes."""

from __future__ import annotations

import re

from acceptance.mock_faults import Call, Fault, answer
from conversations.tests.recorded import SHAPES
from conversations.tests.recorded.provider import cut, head
from conversations.tests.recorded.shapes import Shape
from tests.shapes import LAST_CHUNK, chunked

_NAME = re.compile(r"[a-z-]+/[a-z0-9-]+")


def shape_named_in(message: str) -> str:
    """Return the name of the shape that a message asks for, or '' if it names none."""
    return next((name for name in _NAME.findall(message) if name in SHAPES), "")


def _played(shape: Shape) -> Fault:
    async def play(call: Call) -> bool:
        played = shape
        if shape.only_if is not None and not shape.only_if(call.asked):
            if not shape.otherwise:
                return await answer(call)
            played = SHAPES[shape.otherwise]
        is_stream = call.is_stream and played.stream is not None
        payload = played.stream if is_stream else played.plain
        if payload is None:
            return await answer(call)
        await call.send(head(played, played.stream_type if is_stream else played.content_type))
        for piece in cut(payload, byte_by_byte=False):
            await call.send(chunked(piece))
        return await call.send(LAST_CHUNK) and played.is_answered()

    return play


RECORDED_FAULTS: dict[str, Fault] = {name: _played(shape) for name, shape in SHAPES.items()}
# Shapes that only concern their own request.
OWN_SHAPES = [shape for shape in SHAPES.values() if shape.fault == "nothing"]
# Failures that no table names, for any request, plain or streamed.
DOUBTFUL_FAULTS = [
    shape.name
    for shape in SHAPES.values()
    if shape.fault == "doubtful" and shape.plain is not None and shape.only_if is None
]
