"""Reads a streamed chat completion: server-sent events with one JSON chunk each.

Protocol: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from channels.errors import ProviderError
from channels.providers.base import Completion, OnDelta
from channels.providers.faults import Sent, error_in, explains_silence


class StreamReader:
    """Takes a stream line by line, hands on its pieces, and knows the answer at its end."""

    def __init__(self, on_delta: OnDelta, sent: Sent, *, takes_tool_calls: bool = False) -> None:
        self._on_delta = on_delta
        self._sent = sent
        self._takes_tool_calls = takes_tool_calls
        self._pieces: list[str] = []
        self._refusal: list[str] = []
        self._has_unread = False  # content that is no text
        self._tool_calls: dict[int, dict[str, Any]] = {}
        self._finish_reason = ""
        self._usage: tuple[int | None, int | None] = (None, None)
        self._response_model = ""
        self._is_done = False

    @property
    def has_begun(self) -> bool:
        return bool(self._pieces or self._refusal or self._tool_calls)

    def read_line(self, line: bytes) -> bool:
        """Take one line; True where it ends the stream. Raises ProviderError for an error event."""
        if not line.startswith(b"data:"):
            return False  # event names, comments and blank lines carry nothing here
        data = line[5:].strip()
        if data == b"[DONE]":
            self._is_done = True
            return True
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise ProviderError("garbage") from None
        if not isinstance(chunk, dict) or "error" in chunk:
            raise error_in(chunk, self._sent, otherwise="error_event")
        self._read_chunk(chunk)
        return False

    def completion(self) -> Completion:
        """Return the whole answer. Raises ProviderError where the stream had no proper end."""
        if not (self._is_done or self._finish_reason):
            raise ProviderError("broken")
        text, refusal = "".join(self._pieces), "".join(self._refusal)
        calls = parse_tool_calls([call for _, call in sorted(self._tool_calls.items())])
        is_empty = not (text.strip() or refusal or calls)
        if is_empty and (self._has_unread or not explains_silence(self._finish_reason)):
            raise ProviderError("no_text")
        return Completion(
            text=text,
            finish_reason=finish_reason_of(self._finish_reason, calls),
            input_tokens=self._usage[0],
            output_tokens=self._usage[1],
            response_model=self._response_model,
            tool_calls=calls,
            refusal=refusal,
        )

    def _read_chunk(self, chunk: dict[str, Any]) -> None:
        self._response_model = short_text(chunk.get("model")) or self._response_model
        if isinstance(chunk.get("usage"), dict):
            # Some send it in every chunk, counting on; the last one stands.
            self._usage = parse_usage(chunk["usage"])
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return
        self._finish_reason = short_text(choice.get("finish_reason")) or self._finish_reason
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._read_delta(delta)

    def _read_delta(self, delta: dict[str, Any]) -> None:
        content = delta.get("content")
        self._has_unread |= not isinstance(content, str | None)
        if text := clean_text(content):
            self._take(text)
        if refusal := clean_text(delta.get("refusal")):
            self._take_refusal(refusal)
        if self._takes_tool_calls and isinstance(delta.get("tool_calls"), list):
            self._take_tool_calls(delta["tool_calls"])

    def _take(self, text: str) -> None:
        # White space alone is no beginning: an answer of nothing else is none.
        if not self.has_begun and not text.strip():
            return
        self._pieces.append(text)
        self._on_delta(text)

    def _take_refusal(self, text: str) -> None:
        if not self._takes_tool_calls:
            self._take(text)
            return
        self._refusal.append(text)
        self._on_delta({"refusal": text})

    def _take_tool_calls(self, pieces: list[Any]) -> None:
        taken = [self._join(number, piece) for number, piece in enumerate(pieces)]
        if taken:
            self._on_delta({"tool_calls": taken})

    def _join(self, number: int, piece: Any) -> dict[str, Any]:
        """Add a piece to its call, and return it as it goes out; an index is only its place."""
        if not isinstance(piece, dict):
            raise ProviderError("garbage")
        index = piece.get("index")
        index = index if type(index) is int else number
        call = self._tool_calls.setdefault(index, {"function": {"name": "", "arguments": ""}})
        out: dict[str, Any] = {"index": index}
        for name in ("id", "type"):
            if value := short_text(piece.get(name)):
                out[name] = call[name] = value
        function = piece.get("function")
        if isinstance(function, dict):
            names = ("name", "arguments")
            parts = {name: function[name] for name in names if function.get(name) is not None}
            if not all(isinstance(value, str) for value in parts.values()):
                raise ProviderError("garbage")
            for name, value in parts.items():
                call["function"][name] += value
            out["function"] = parts
        return out


def parse_tool_calls(value: Any) -> tuple[dict[str, Any], ...]:
    """Return an answer's tool calls in the protocol's shape. Raises ProviderError for others."""
    try:
        return tuple(_parse_tool_call(call) for call in value or ())
    except (LookupError, TypeError, AttributeError):
        raise ProviderError("garbage") from None


def _parse_tool_call(call: Any) -> dict[str, Any]:
    name, arguments = call["function"]["name"], call["function"].get("arguments") or "{}"
    if not (isinstance(name, str) and name and isinstance(arguments, str)):
        raise TypeError("a name and arguments are texts")
    function = {"name": name, "arguments": arguments}
    return {"id": short_text(call.get("id")), "type": "function", "function": function}


def finish_reason_of(value: Any, tool_calls: Sequence[Any]) -> str:
    """Return why the model stopped, also where the provider does not say so."""
    return short_text(value) or ("tool_calls" if tool_calls else "stop")


def parse_usage(usage: Any) -> tuple[int | None, int | None]:
    """Return (input, output) tokens; both None unless both are non-negative integers."""
    if not isinstance(usage, dict):
        return None, None
    counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not all(type(count) is int and count >= 0 for count in counts):
        return None, None
    return counts


def clean_text(value: Any) -> str:
    """Return a text without NUL, which PostgreSQL cannot store and no reader misses, or nothing."""
    return value.replace("\x00", "") if isinstance(value, str) else ""


def short_text(value: Any) -> str:
    """A short text field of the provider, or nothing: none of them may break a turn."""
    return clean_text(value)[:200]
