"""Keeps a model's thoughts out of its reply, where it writes them into its text.

Models that think aloud begin with `<think>…</think>`, as DeepSeek R1 and Qwen 3 do where the server
does not take it apart: https://docs.vllm.ai/en/latest/features/reasoning_outputs.html
Where the chat template writes the opening tag, as those of R1 and QwQ do, the closing one comes
alone.
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
# A tag in quotes is one that the model talks about.
_TAG = re.compile(
    rf"(?<![`'\"“])<\s{{0,4}}(/?)\s{{0,4}}{_NAME}(?:\s[^<>]{{0,80}})?>", re.IGNORECASE
)


class ThoughtFilter:
    """Removes blocks of thoughts from the beginning of a text that comes in pieces."""

    def __init__(self, *, has_removed: bool = False) -> None:
        self._held = ""  # what may still become a tag, or is white space before one
        self._closing: re.Pattern[str] | None = None  # of the block we are in
        self.has_removed = has_removed
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
                self._closing = None
            found = _OPENING.match(self._held)
            if found is None:
                break
            self._closing, self.has_removed = _CLOSINGS[found[1].lower()], True
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
        return held.lstrip() if self.has_removed else held


class UnopenedThoughtFilter:
    """Removes a thought from the beginning of a text that has its closing tag alone.

    Only that tag tells a thought from a reply, so all is held back until it comes, or the end.
    """

    def __init__(self) -> None:
        self._held: list[str] = []
        self._tail = ""  # of what is held: a tag may be cut
        self._rest: ThoughtFilter | None = None  # after the thought
        self._is_over = False

    @property
    def has_removed(self) -> bool:
        return self._rest is not None

    def take(self, piece: str) -> str:
        """Return what goes out now."""
        if self._rest:
            return self._rest.take(piece)
        if self._is_over:
            return piece
        self._held.append(piece)
        window = self._tail + piece
        tag = _TAG.search(window) if ">" in piece else None
        if tag is None:
            self._tail = window[-_LONGEST_OPENING:]
            return ""
        if not tag[1]:
            return self.flush()
        self._held.clear()
        self._rest = ThoughtFilter(has_removed=True)
        return self._rest.take(window[tag.end() :])

    def flush(self) -> str:
        """Return what was held back and was no thought."""
        if self._rest:
            return self._rest.flush()
        held, self._is_over = "".join(self._held), True
        self._held.clear()
        return held


def _may_become_tag(text: str) -> bool:
    if _BEGUN.fullmatch(text):
        return len(text.lstrip()) < _LONGEST_OPENING
    begun = text.lstrip("\ufeff \t\r\n").lower()
    return begun[:1] == "<" and any(name.startswith(begun[1:].lstrip()) for name in _NAMES)
