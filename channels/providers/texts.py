"""Cleans a provider's texts so that they can be stored and sent on: no NUL, no half characters."""

from __future__ import annotations

import json
from functools import reduce
from typing import Any

import orjson


class Text:
    """A text that arrives in pieces, which may cut a character between the halves of a pair.

    The halves are the two surrogates of UTF-16.
    """

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._half = ""

    @property
    def is_empty(self) -> bool:
        return not self._pieces

    def whole(self) -> str:
        return "".join(self._pieces)

    def take(self, piece: str) -> str:
        """Add a piece. Returns it as it may be sent on."""
        piece = self.clean(piece)
        self.keep(piece)
        return piece

    def keep(self, piece: str) -> None:
        """Add a piece that is clean already."""
        if piece:
            self._pieces.append(piece)

    def clean(self, piece: str) -> str:
        """Return a piece with the half character that preceded it, but without its own last half.

        Removes NUL, which PostgreSQL cannot store and no reader misses.
        """
        if piece.isascii() and not self._half:
            return piece.replace("\x00", "")
        piece, self._half = self._half + piece.replace("\x00", ""), ""
        if "\ud800" <= piece[-1:] <= "\udbff":
            piece, self._half = piece[:-1], piece[-1]
        return paired(piece)

    def flush(self) -> str:
        """Return the replacement for a half character that nothing followed, or ''."""
        half, self._half = self._half, ""
        return paired(half)


def short_text(value: Any) -> str:
    """Return a provider's short text field, or '' for another type: no field may break a turn."""
    return paired(value.replace("\x00", "")[:200]) if isinstance(value, str) else ""


# For members that are passed on unchanged. Readers cannot parse deeper nesting either.
_DEEPEST = 100


def writable(value: Any) -> Any:
    """Return a value that can be written as JSON: unchanged, or without the parts that cannot."""
    try:
        # orjson writes 254 levels, and the answer around this value needs some of them.
        orjson.dumps(reduce(lambda inner, _: [inner], range(16), value))
    except TypeError:
        return _cleaned(value, 0)
    return value


def _cleaned(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return paired(value)
    if isinstance(value, list):
        return [_cleaned(part, depth + 1) for part in value] if depth < _DEEPEST else None
    if isinstance(value, dict):
        if depth == _DEEPEST:
            return None
        return {paired(name): _cleaned(part, depth + 1) for name, part in value.items()}
    is_number = isinstance(value, float) or (type(value) is int and -(2**63) <= value < 2**64)
    return value if value is None or isinstance(value, bool) or is_number else None


def paired(text: str) -> str:
    """Return a text with surrogate pairs joined to characters, and U+FFFD for each single half."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def parse_json(data: bytes) -> Any:
    """Return the parsed value of JSON, even if it is not quite valid. Raises ValueError.

    Some providers send NaN or a byte order mark, an invalid byte, or half a character.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data.decode("utf-8-sig", "replace"), strict=False)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
