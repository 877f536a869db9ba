"""Texts of a provider as they can be stored and sent on: no NUL, no half of a character."""

from __future__ import annotations

import json
from functools import reduce
from typing import Any

import orjson


class Text:
    """A text from pieces, in which a character may be cut in two, as half of a surrogate pair."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._half = ""

    @property
    def is_empty(self) -> bool:
        return not self._pieces

    def whole(self) -> str:
        return "".join(self._pieces)

    def take(self, piece: str) -> str:
        """Add a piece, and return it as it goes out."""
        piece = self.clean(piece)
        self.keep(piece)
        return piece

    def keep(self, piece: str) -> None:
        """Add a piece that is clean already."""
        if piece:
            self._pieces.append(piece)

    def clean(self, piece: str) -> str:
        """Return a piece with the half that came before it, without NUL and its own last half.

        PostgreSQL cannot store NUL, and no reader misses it.
        """
        if piece.isascii() and not self._half:
            return piece.replace("\x00", "")
        piece, self._half = self._half + piece.replace("\x00", ""), ""
        if "\ud800" <= piece[-1:] <= "\udbff":
            piece, self._half = piece[:-1], piece[-1]
        return paired(piece)

    def flush(self) -> str:
        """Return what stands for a half that nothing followed."""
        half, self._half = self._half, ""
        return paired(half)


def short_text(value: Any) -> str:
    """Return a short text field of the provider, or nothing: none of them may break a turn."""
    return paired(value.replace("\x00", "")[:200]) if isinstance(value, str) else ""


# Of members that are passed on as they come. What is nested deeper nobody can read either.
_DEEPEST = 100


def writable(value: Any) -> Any:
    """Return a value that can be written as JSON: as it is, or without what cannot."""
    try:
        # orjson writes 254 levels; around this value come those of the answer it is part of.
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
    """Return a text with its surrogate pairs as characters, and U+FFFD for each half alone."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def parse_json(data: bytes) -> Any:
    """Return what JSON holds, also where it is not quite JSON. Raises ValueError.

    Some providers send NaN or a byte order mark, break a byte, or cut a character in two.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data.decode("utf-8-sig", "replace"), strict=False)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
