"""Reads a streamed chat completion: server-sent events with one JSON chunk each.

Protocol: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

from typing import Any

import orjson

from channels.errors import ProviderError
from channels.providers.base import Completion, OnDelta


class StreamReader:
    """Takes a stream line by line, hands on its text, and knows the answer at its end."""

    def __init__(self, on_delta: OnDelta) -> None:
        self._on_delta = on_delta
        self._pieces: list[str] = []
        self._finish_reason = ""
        self._usage: tuple[int | None, int | None] = (None, None)
        self._response_id = self._response_model = ""
        self._is_done = False

    @property
    def has_begun(self) -> bool:
        return bool(self._pieces)

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
            raise ProviderError("error_event")
        self._read_chunk(chunk)
        return False

    def completion(self) -> Completion:
        """Return the whole answer. Raises ProviderError where the stream had no proper end."""
        if not (self._is_done or self._finish_reason):
            raise ProviderError("broken")
        text = "".join(self._pieces)
        if not text.strip():
            raise ProviderError("no_text")
        return Completion(
            text=text,
            finish_reason=self._finish_reason or "stop",
            input_tokens=self._usage[0],
            output_tokens=self._usage[1],
            response_id=self._response_id,
            response_model=self._response_model,
        )

    def _read_chunk(self, chunk: dict[str, Any]) -> None:
        self._response_id = short_text(chunk.get("id")) or self._response_id
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
        text = delta.get("content") if isinstance(delta, dict) else None
        if isinstance(text, str) and (text := text.replace("\x00", "")):
            self._take(text)

    def _take(self, text: str) -> None:
        # White space alone is no beginning: an answer of nothing else is none.
        if not self._pieces and not text.strip():
            return
        self._pieces.append(text)
        self._on_delta(text)


def parse_usage(usage: Any) -> tuple[int | None, int | None]:
    """Return (input, output) tokens; both None unless both are non-negative integers."""
    if not isinstance(usage, dict):
        return None, None
    counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not all(type(count) is int and count >= 0 for count in counts):
        return None, None
    return counts


def short_text(value: Any) -> str:
    """A short text field of the provider, or nothing: none of them may break a turn."""
    return value.replace("\x00", "")[:200] if isinstance(value, str) else ""
