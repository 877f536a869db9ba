"""Reads a streamed chat completion: server-sent events with one JSON piece each.

Protocol: https://html.spec.whatwg.org/multipage/server-sent-events.html and
https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from channels.errors import ProviderError
from channels.providers.answers import AnswerReader
from channels.providers.base import Patience
from channels.providers.texts import parse_json
from common import http

# Usage, if it comes at all, comes right after the finish reason, and then `[DONE]`. Some providers
# never send that, or leave the connection open.
WAIT_AFTER_FINISH_SECONDS = 1.0
# So many lines may one event's data have.
_MOST_LINES = 64
_DONE = b"[DONE]"
_BEGINNINGS = (b"data:", b"event:", b"id:", b"retry:", b":")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_whole(body: bytes, reader: AnswerReader) -> None:
    """Read an answer that came as one. Raises ProviderError."""
    try:
        answer = parse_json(body)
    except ValueError:
        raise ProviderError("garbage") from None
    reader.read(answer, is_whole=True)


def read_stream(answer: http.LineStream, reader: AnswerReader, patience: Patience) -> None:
    """Read an answer as it arrives. Raises ProviderError or HttpError where it breaks off."""
    last_heard = 0.0

    def next_deadline() -> float:
        if reader.finish_reason:
            return min(patience.stream_by, last_heard + WAIT_AFTER_FINISH_SECONDS)
        if not reader.has_begun:
            return patience.first_token_by
        return min(patience.stream_by, last_heard + patience.silence_seconds)

    try:
        for piece, is_error in _events(answer.lines(next_deadline)):
            if piece == _DONE:
                break
            reader.read(piece, is_error=is_error)
            # Comments are no sign that the model goes on.
            last_heard = time.monotonic()
        else:
            if not reader.finish_reason:
                raise ProviderError("broken")
    except http.HttpError:
        if not reader.finish_reason:
            raise
        return
    _read_rest(answer)


def is_event_stream(answer: http.LineStream) -> bool:
    """Tell by the first bytes: some label a stream as JSON or text, and a whole answer as one."""
    first = answer.first_bytes().removeprefix(_BYTE_ORDER_MARK).lstrip()
    if "text/event-stream" in answer.headers.get("content-type", "").lower():
        return first[:1] not in (b"{", b"[")
    return any(first.startswith(mark) for mark in _BEGINNINGS)


def _events(lines: Iterator[bytes]) -> Iterator[tuple[Any, bool]]:
    """Yield what the data of each event holds, and whether the event is named an error.

    Data that makes sense after one line is an event at once: some leave out the blank line, and
    waiting for it would hold a token back. Raises ProviderError for data that makes none.
    """
    held: list[bytes] = []
    name = b""
    for line in lines:
        if not line:
            name = b""
            if held:
                raise ProviderError("garbage")
            continue
        field, _, value = line.removeprefix(_BYTE_ORDER_MARK).partition(b":")
        value = value.strip()
        if field == b"event":
            name = value
        elif field == b"data" and value:
            held.append(value)
            piece = _parse_event(held)
            if piece is not None:
                held = []
                yield piece, name == b"error"
    if held:
        raise ProviderError("garbage")


def _parse_event(lines: list[bytes]) -> Any:
    """Return what an event's data holds, None while that may need more lines."""
    data = lines[0] if len(lines) == 1 else b"\n".join(lines)
    if data == _DONE:
        return _DONE
    try:
        return parse_json(data)
    except ValueError:
        if len(lines) == _MOST_LINES:
            raise ProviderError("garbage") from None
        return None


def _read_rest(answer: http.LineStream) -> None:
    """Read what a moment brings after the end, so that the connection can be used again."""
    soon = time.monotonic() + 0.02
    with suppress(http.HttpError):
        for _ in answer.lines(lambda: soon):
            pass
