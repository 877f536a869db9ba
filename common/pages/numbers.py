"""Large numbers in few characters."""

from __future__ import annotations


def short_number(number: int) -> str:
    """Return a number of at least 0 in about three digits: '9,999', '21.1 k', '293 k', '1.25 M'."""
    if number < 10_000:
        return f"{number:,}"
    for unit, name in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")):
        # What would be rounded up to 1,000 of a unit is 1 of the next.
        if number >= unit - unit // 2_000:
            count = number / unit
            decimals = 2 if count < 9.995 else 1 if count < 99.95 else 0
            text = f"{count:,.{decimals}f}"
            return f"{text.rstrip('0').rstrip('.') if decimals else text} {name}"
    return f"{number:,}"
