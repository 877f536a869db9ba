"""Keeps a model's thoughts out of its reply, where it writes them into its text.

Models that think aloud begin with `<think>…</think>`, as DeepSeek R1 and Qwen 3 do where the server
does not take it apart: https://docs.vllm.ai/en/latest/features/reasoning_outputs.html
"""

from __future__ import annotations

import re

_NAMES = ("think", "thinking", "thought", "reasoning")
_OPENING = re.compile(rf"\s*<({'|'.join(_NAMES)})>", re.IGNORECASE)
_LONGEST_TAG = max(map(len, _NAMES)) + len("</>")


class ThoughtFilter:
    """Removes blocks of thoughts from the beginning of a text that comes in pieces."""

    def __init__(self) -> None:
        self._held = ""  # what may still become a tag, or is white space before one
        self._closing = ""  # the tag that ends the block we are in
        self._has_removed = False
        self._is_over = False

    def take(self, piece: str) -> str:
        """Return what goes out now."""
        if self._is_over:
            return piece
        self._held += piece
        while True:
            if self._closing:
                end = self._held.lower().find(self._closing)
                if end < 0:
                    self._held = self._held[-_LONGEST_TAG:]
                    return ""
                self._held = self._held[end + len(self._closing) :]
                self._closing, self._has_removed = "", True
            found = _OPENING.match(self._held)
            if found is None:
                break
            self._closing = f"</{found[1].lower()}>"
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
    begun = text.lstrip().lower()
    return any(f"<{name}>".startswith(begun) for name in _NAMES)
