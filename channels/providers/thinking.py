"""Removes a model's thoughts from its reply, if the model writes them into its text.

Models that think aloud begin with `<think>…</think>`. DeepSeek R1 and Qwen 3 do so if the server
does not separate it: https://docs.vllm.ai/en/latest/features/reasoning_outputs.html
If the chat template writes the opening tag, as R1's and QwQ's do, only the closing tag arrives.
"""

from __future__ import annotations

import re

_NAMES = ("think", "thinking", "thought", "reasoning", "seed:think")
_NAME = rf"({'|'.join(_NAMES)})"
# Some models write attributes or white space into a tag. A byte order mark may come first.
_OPENING = re.compile(rf"[\s\ufeff]*<\s*{_NAME}(?:\s[^<>]*)?>", re.IGNORECASE)
_CLOSINGS = {name: re.compile(rf"<\s*/\s*{name}\s*>", re.IGNORECASE) for name in _NAMES}
# The longest tag that may arrive in pieces.
_LONGEST_CLOSING = 32
_LONGEST_OPENING = 128
_BEGUN = re.compile(rf"[\s\ufeff]*(?:<\s*(?:{_NAME}(?:\s[^<>]*)?)?)?", re.IGNORECASE)
# The model only talks about a tag in quotes.
_TAG = re.compile(
    rf"(?<![`'\"“])<\s{{0,4}}(/?)\s{{0,4}}{_NAME}(?:\s[^<>]{{0,80}})?>", re.IGNORECASE
)


class ThoughtFilter:
    """Removes blocks of thoughts from the beginning of a text that arrives in pieces."""

    def __init__(self, *, has_removed: bool = False) -> None:
        self._held = ""  # text that may still become a tag, or white space before one
        self._closing: re.Pattern[str] | None = None  # of the current block
        self.has_removed = has_removed
        self._is_over = False

    def take(self, piece: str) -> str:
        """Return the text that may be sent on now."""
        if self._is_over:
            return piece
        if not (self._held or self._closing or _may_begin_block(piece)):
            self._is_over = True
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
        # White space after a block belongs to it, even if text follows only in a later piece.
        self._is_over = bool(text)
        return text

    def flush(self) -> str:
        """Return the held-back text that turned out not to be a thought."""
        held, self._held = self._held, ""
        if self._closing:
            return ""
        return held.lstrip() if self.has_removed else held


class UnopenedThoughtFilter:
    """Removes a thought from the beginning of a text that has only its closing tag.

    Only that tag separates the thought from the reply, so this holds everything back until the tag
    or the end arrives.
    """

    def __init__(self) -> None:
        self._held: list[str] = []
        self._tail = ""  # the end of the held text, in case a tag is cut
        self._rest: ThoughtFilter | None = None  # after the thought
        self._is_over = False

    @property
    def has_removed(self) -> bool:
        return self._rest is not None

    def take(self, piece: str) -> str:
        """Return the text that may be sent on now."""
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
        """Return the held-back text that turned out not to be a thought."""
        if self._rest:
            return self._rest.flush()
        held, self._is_over = "".join(self._held), True
        self._held.clear()
        return held


def _may_begin_block(piece: str) -> bool:
    """Return whether a text that begins like this may begin with a tag. Most replies do not."""
    return piece[:1] in ("", "<", "\ufeff") or piece[0].isspace()


def _may_become_tag(text: str) -> bool:
    if _BEGUN.fullmatch(text):
        return len(text.lstrip()) < _LONGEST_OPENING
    begun = text.lstrip("\ufeff \t\r\n").lower()
    return begun[:1] == "<" and any(name.startswith(begun[1:].lstrip()) for name in _NAMES)
