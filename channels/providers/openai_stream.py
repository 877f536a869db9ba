"""Reads a streamed chat completion: server-sent events with one JSON piece each.

Protocol: https://html.spec.whatwg.org/multipage/server-sent-events.html and
https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import json
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
# So many lines may one event's data have; some write JSON as people read it.
_MOST_LINES = 1024
_DONE = b"[DONE]"
_BEGINNINGS = (b"data:", b"event:", b"id:", b"retry:", b":")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Signs of life that some servers send as events of their own; they are no piece of an answer.
_PINGS = (b"ping", b"heartbeat", b"keep-alive", b"keepalive")
_DECODER = json.JSONDecoder(strict=False)


def read_whole(body: bytes, reader: AnswerReader) -> None:
    """Read an answer that came as one, or a stream that came to its end. Raises ProviderError."""
    try:
        answer = parse_json(body)
    except ValueError:
        pieces = [*_events(iter(body.splitlines()))]
        if not any(piece for piece, _ in pieces):
            raise ProviderError("garbage") from None
        _read_pieces(iter(pieces), reader)
    else:
        reader.read(answer, is_whole=True)


def _read_pieces(pieces: Iterator[tuple[Any, bool]], reader: AnswerReader) -> None:
    """Read pieces up to the end of the answer. Raises ProviderError where it breaks off."""
    for piece, is_error in pieces:
        if piece == _DONE:
            return
        reader.read(piece, is_error=is_error)
    if not reader.finish_reason:
        raise ProviderError("broken")


def read_stream(answer: http.LineStream, reader: AnswerReader, patience: Patience) -> None:
    """Read an answer as it arrives. Raises ProviderError or HttpError where it breaks off."""
    last_heard = 0.0

    def next_deadline() -> float:
        if reader.finish_reason:
            return min(patience.stream_by, last_heard + WAIT_AFTER_FINISH_SECONDS)
        if not reader.has_begun:
            return patience.first_token_by
        return min(patience.stream_by, last_heard + patience.silence_seconds)

    def heard() -> Iterator[tuple[Any, bool]]:
        nonlocal last_heard
        for event in _events(answer.lines(next_deadline)):
            yield event
            # Comments are no sign that the model goes on.
            last_heard = time.monotonic()

    try:
        _read_pieces(heard(), reader)
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
            if held and name not in _PINGS:
                raise ProviderError("error_event" if name == b"error" else "garbage")
            name, held = b"", []
            continue
        field, value = _field_of(line)
        if field == b"event":
            name = value.lower()
        elif field == b"data" and value:
            held.append(value)
            pieces = _parse_event(held)
            held = [] if pieces else held
            if name not in _PINGS:
                yield from ((piece, name == b"error") for piece in pieces)
    if held:
        raise ProviderError("garbage")


def _field_of(line: bytes) -> tuple[bytes, bytes]:
    """Return a line's field and value."""
    line = line.removeprefix(_BYTE_ORDER_MARK)
    if line[:1] == b"{" or line == _DONE:  # data without the name of its field
        return b"data", line
    field, _, value = line.partition(b":")
    return field or line[:1], value.strip()


def _parse_event(lines: list[bytes]) -> list[Any]:
    """Return the pieces that an event's data holds, none while it may need more lines."""
    data = lines[0] if len(lines) == 1 else b"\n".join(lines)
    if len(data) < 32:
        word = b"".join(data.split()).strip(b'"')
        if word.upper() == _DONE:
            return [_DONE]
        if word.lower() in (*_PINGS, b"null", b""):
            lines.clear()
            return []
    if len(lines) > 1 and not data.endswith((b"}", b"]")) and len(lines) < _MOST_LINES:
        return []
    try:
        return [parse_json(data)]
    except ValueError:
        pieces = _parse_each(data)
    if not pieces and len(lines) >= _MOST_LINES:
        raise ProviderError("garbage")
    return pieces


def _parse_each(data: bytes) -> list[Any]:
    """Return several pieces that stand one after another; none where that is not what it is."""
    text = data.decode(errors="replace").rstrip()
    pieces, start = [], 0
    try:
        while start < len(text):
            piece, start = _DECODER.raw_decode(text, start)
            pieces.append(piece)
            while text[start : start + 1].isspace():
                start += 1
    except (ValueError, RecursionError):
        return []
    return pieces


def _read_rest(answer: http.LineStream) -> None:
    """Read what a moment brings after the end, so that the connection can be used again."""
    soon = time.monotonic() + 0.02
    with suppress(http.HttpError):
        for _ in answer.lines(lambda: soon):
            pass
