"""Keeps a model's thoughts out of its reply, where it writes them into its text.

Models that think aloud begin with `<think>…</think>`, as DeepSeek R1 and Qwen 3 do where the server
does not take it apart: https://docs.vllm.ai/en/latest/features/reasoning_outputs.html
"""

from __future__ import annotations

import re

_NAMES = ("think", "thinking", "thought", "reasoning", "seed:think")
_NAME = rf"({'|'.join(_NAMES)})"
# Some write attributes, or white space, into a tag; a byte order mark may come first.
_OPENING = re.compile(rf"[\s\ufeff]*<\s*{_NAME}(?:\s[^<>]*)?>", re.IGNORECASE)
_CLOSINGS = {name: re.compile(rf"<\s*/\s*{name}\s*>", re.IGNORECASE) for name in _NAMES}
# So long a tag may be that comes in pieces.
_LONGEST_CLOSING = 32
_LONGEST_OPENING = 128
_BEGUN = re.compile(rf"[\s\ufeff]*(?:<\s*(?:{_NAME}(?:\s[^<>]*)?)?)?", re.IGNORECASE)


class ThoughtFilter:
    """Removes blocks of thoughts from the beginning of a text that comes in pieces."""

    def __init__(self) -> None:
        self._held = ""  # what may still become a tag, or is white space before one
        self._closing: re.Pattern[str] | None = None  # of the block we are in
        self._has_removed = False
        self._is_over = False

    def take(self, piece: str) -> str:
        """Return what goes out now."""
        if self._is_over:
            return piece
        self._held += piece
        while True:
            if self._closing:
                end = self._closing.search(self._held)
                if end is None:
                    self._held = self._held[-_LONGEST_CLOSING:]
                    return ""
                self._held = self._held[end.end() :]
                self._closing, self._has_removed = None, True
            found = _OPENING.match(self._held)
            if found is None:
                break
            self._closing = _CLOSINGS[found[1].lower()]
            self._held = self._held[found.end() :]
        if _may_become_tag(self._held):
            return ""
        text = self.flush()
        # White space after a block belongs to it, also where text follows in a later piece.
        self._is_over = bool(text)
        return text

    def flush(self) -> str:
        """Return what was held back and was no thought."""
        held, self._held = self._held, ""
        if self._closing:
            return ""
        return held.lstrip() if self._has_removed else held


def _may_become_tag(text: str) -> bool:
    if _BEGUN.fullmatch(text):
        return len(text.lstrip()) < _LONGEST_OPENING
    begun = text.lstrip("\ufeff \t\r\n").lower()
    return begun[:1] == "<" and any(name.startswith(begun[1:].lstrip()) for name in _NAMES)
