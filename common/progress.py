"""A progress line on a terminal; silent anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

T = TypeVar("T")

WIDTH = 30


def track(
    items: Iterable[T], *, total: int, label: str, stream: TextIO | None = None
) -> Iterator[T]:
    """Yield the items, drawing how many of `total` have passed at most ten times a second."""
    out = stream or sys.stderr
    if not out.isatty():
        yield from items
        return
    drawn_at = 0.0
    count = 0
    for count, item in enumerate(items, 1):
        yield item
        if (now := time.monotonic()) - drawn_at >= 0.1:
            drawn_at = now
            out.write("\r" + draw(count, total, label))
            out.flush()
    out.write("\r" + draw(count, total, label) + "\n")


def draw(count: int, total: int, label: str) -> str:
    """Return one state of the line."""
    share = min(1.0, count / total) if total else 1.0
    filled = int(share * WIDTH)
    return f"{label} [{'#' * filled}{'.' * (WIDTH - filled)}] {share:4.0%} {count:,}"
