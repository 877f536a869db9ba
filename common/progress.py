"""A progress bar on a terminal; silent anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

T = TypeVar("T")

WIDTH = 30
# An earlier estimate would mean nothing.
SECONDS_BEFORE_AN_ESTIMATE = 1.0
_NEW_LINE = "\x1b[2K\r"


def track(
    items: Iterable[T],
    *,
    total: int,
    label: str,
    stream: TextIO | None = None,
    weigh: Callable[[T], int] | None = None,
) -> Iterator[T]:
    """Yield the items, and draw at most ten times a second how many of `total` have passed.

    If some items take longer than others, `weigh` returns an item's share of `total`. The time left
    is estimated from the time passed.
    """
    out = stream or sys.stderr
    if not out.isatty():
        yield from items
        return
    began = time.monotonic()
    drawn_at = 0.0
    count = 0
    for item in items:
        yield item
        count += weigh(item) if weigh else 1
        if (now := time.monotonic()) - drawn_at >= 0.1:
            drawn_at = now
            out.write(_NEW_LINE + draw(count, total, label) + time_left(count, total, now - began))
            out.flush()
    out.write(_NEW_LINE + draw(count, total, label) + "\n")


def draw(count: int, total: int, label: str) -> str:
    """Return the progress line for one state."""
    share = min(1.0, count / total) if total else 1.0
    filled = int(share * WIDTH)
    return f"{label} [{'#' * filled}{'.' * (WIDTH - filled)}] {share:4.0%} {count:,}"


def time_left(count: int, total: int, seconds: float) -> str:
    """Return a phrase for the time left after `seconds`, or '' if there is no estimate."""
    if not 0 < count < total or seconds < SECONDS_BEFORE_AN_ESTIMATE:
        return ""
    left = seconds * (total - count) / count
    return f", about {left / 60:.0f} min left" if left >= 90 else f", about {left:.0f} s left"
