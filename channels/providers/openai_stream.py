"""Reads a streamed chat completion: server-sent events, each with one JSON piece.

Protocol: https://html.spec.whatwg.org/multipage/server-sent-events.html and
https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson

from channels.errors import ProviderError
from channels.providers.answers import AnswerReader
from channels.providers.base import Patience
from channels.providers.texts import parse_json
from common import http

# Usage, if it comes at all, follows the finish reason at once, and then comes `[DONE]`. Some
# providers never send `[DONE]`, or leave the connection open.
WAIT_AFTER_FINISH_SECONDS = 1.0
# The most lines that an event's data may have. Some providers send indented JSON.
_MOST_LINES = 1024
_DONE = b"[DONE]"
_BEGINNINGS = (b"data:", b"event:", b"id:", b"retry:", b":")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Signs of life that some servers send as separate events. They are not pieces of an answer.
_PINGS = (b"ping", b"heartbeat", b"keep-alive", b"keepalive")
_DECODER = json.JSONDecoder(strict=False)


def read_whole(body: bytes, reader: AnswerReader) -> None:
    """Read a complete body: a plain answer or a whole stream. Raises ProviderError."""
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
    """Read pieces up to the end of the answer. Raises ProviderError if it breaks off."""
    for piece, is_error in pieces:
        if piece == _DONE:
            return
        reader.read(piece, is_error=is_error)
    if not reader.finish_reason:
        raise ProviderError("broken")


def read_stream(answer: http.LineStream, reader: AnswerReader, patience: Patience) -> None:
    """Read an answer as it arrives. Raises ProviderError or HttpError if it breaks off."""

    def next_deadline() -> float:
        if reader.finish_reason:
            return min(patience.stream_by, reader.heard_at + WAIT_AFTER_FINISH_SECONDS)
        if not reader.has_begun:
            return patience.first_token_by
        return min(patience.stream_by, reader.heard_at + patience.silence_seconds)

    try:
        _read_pieces(_events(answer.lines(next_deadline)), reader)
    except http.HttpError:
        if not reader.finish_reason:
            raise
        return
    _read_rest(answer)


def is_event_stream(answer: http.LineStream) -> bool:
    """Return whether an answer is a stream, judged by its first bytes as well as its type.

    Some providers label a stream as JSON or text, and a whole answer as a stream.
    """
    first = answer.first_bytes().removeprefix(_BYTE_ORDER_MARK).lstrip()
    if "text/event-stream" in answer.headers.get("content-type", "").lower():
        return first[:1] not in (b"{", b"[")
    return any(first.startswith(mark) for mark in _BEGINNINGS)


def _events(lines: Iterator[bytes]) -> Iterator[tuple[Any, bool]]:
    """Yield each piece in the events' data, and whether its event is named an error.

    Data that parses after one line is an event at once. Some providers leave out the blank line,
    and waiting for it would delay a token. Raises ProviderError for data that does not parse.
    """
    held: list[bytes] = []
    name = b""
    for line in lines:
        # Nearly every line is a whole event without a name.
        if line[:7] == b"data: {" and not (held or name):
            try:
                piece = orjson.loads(line[6:])
            except orjson.JSONDecodeError:
                pass  # read below, as part of a longer event or as JSON that is not quite valid
            else:
                yield piece, False
                continue
        if not line:
            _require_nothing_unread(held, name)
            name, held = b"", []
            continue
        field, value = _field_of(line)
        if field == b"event":
            name = value.lower()
        elif field == b"data" and value:
            held.append(value)
            pieces = _parse_event(held)
            held = [] if pieces else held
            yield from _named(name, pieces)
    if held:
        raise ProviderError("garbage")


def _require_nothing_unread(held: list[bytes], name: bytes) -> None:
    """Raise ProviderError if an event ends with data that did not parse."""
    if held and name not in _PINGS:
        raise ProviderError("error_event" if name == b"error" else "garbage")


def _named(name: bytes, pieces: list[Any]) -> list[tuple[Any, bool]]:
    """Return the pieces of an event by its name: none of a ping."""
    return [] if name in _PINGS else [(piece, name == b"error") for piece in pieces]


def _field_of(line: bytes) -> tuple[bytes, bytes]:
    """Return the field and value of a line."""
    line = line.removeprefix(_BYTE_ORDER_MARK)
    if line[:1] == b"{" or line == _DONE:  # data without the name of its field
        return b"data", line
    field, _, value = line.partition(b":")
    return field or line[:1], value.strip()


def _parse_event(lines: list[bytes]) -> list[Any]:
    """Return the pieces in an event's data. None are returned while it may need more lines."""
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
    """Return the JSON values in data that holds several in a row, or none for any other data."""
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
    """Read for a moment after the end, so that the connection can be reused."""
    soon = time.monotonic() + 0.02
    with suppress(http.HttpError):
        for _ in answer.lines(lambda: soon):
            pass
