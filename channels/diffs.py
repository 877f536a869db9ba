"""Differences between two texts: by line, and by word within changed lines. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest

# Comparing words takes quadratic time.
MOST_WORDS = 600
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class DiffLine:
    """One line: `sign` is '+', '-' or ' ', and each part says whether it changed."""

    sign: str
    parts: tuple[tuple[str, bool], ...]


def diff_lines(before: str, after: str) -> list[DiffLine]:
    """Return the lines of both texts in order, each marked as removed, added or unchanged."""
    old, new = before.splitlines(), after.splitlines()
    matcher = SequenceMatcher(None, old, new)
    return [
        line
        for tag, i1, i2, j1, j2 in matcher.get_opcodes()
        for line in _block(tag, old[i1:i2], new[j1:j2])
    ]


def _block(tag: str, old: list[str], new: list[str]) -> Iterator[DiffLine]:
    if tag == "equal":
        yield from (DiffLine(" ", ((line, False),)) for line in old)
        return
    pairs = [_compare(removed, added) for removed, added in zip_longest(old, new)]
    yield from (removed for removed, _ in pairs if removed)
    yield from (added for _, added in pairs if added)


def _compare(old: str | None, new: str | None) -> tuple[DiffLine | None, DiffLine | None]:
    """Return a removed line and the line that replaces it, with the changed words marked."""
    if old is None or new is None:
        return _whole("-", old), _whole("+", new)
    before, after = _WORDS.findall(old), _WORDS.findall(new)
    if max(len(before), len(after)) > MOST_WORDS:
        return _whole("-", old), _whole("+", new)
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    removed, added = [], []
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        removed.append(("".join(before[i1:i2]), tag != "equal"))
        added.append(("".join(after[j1:j2]), tag != "equal"))
    return _marked("-", removed), _marked("+", added)


def _whole(sign: str, line: str | None) -> DiffLine | None:
    return None if line is None else DiffLine(sign, ((line, False),))


def _marked(sign: str, parts: list[tuple[str, bool]]) -> DiffLine:
    return DiffLine(sign, tuple(part for part in parts if part[0]))
