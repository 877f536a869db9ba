"""How long something took, in words, the same on every page."""

from __future__ import annotations


def duration(milliseconds: float) -> str:
    """Return a time in three digits: '845 ms', below a second; '1.25 s', '12.5 s' and '1,250 s'.

    Anything below a whole millisecond counts as a part of one. dashboard.js does the same.
    """
    ms = round(milliseconds)
    if not ms:
        return "under 1 ms"
    if ms < 1_000:
        return f"{ms} ms"
    decimals = 2 if ms < 10_000 else 1 if ms < 100_000 else 0
    seconds = f"{ms / 1000:,.{decimals}f}"
    return f"{seconds.rstrip('0').rstrip('.') if decimals else seconds} s"
