"""Numbers as the active language writes them, and large ones in few characters."""

from __future__ import annotations

from django.utils.formats import get_format

from common.money import show_credits


def in_local_signs(text: str) -> str:
    """Return a number such as '1,234.5' with the active language's signs: '1.234,5' in German."""
    thousands, decimal = get_format("THOUSAND_SEPARATOR"), get_format("DECIMAL_SEPARATOR")
    if (thousands, decimal) == (",", "."):
        return text
    return text.translate({ord(","): thousands, ord("."): decimal})


def local_number(number: float, decimals: int = 0) -> str:
    """Return a number with separated thousands: '1,234', or '1,234.50' with two decimals."""
    return in_local_signs(f"{number:,.{decimals}f}" if decimals else f"{number:,}")


def with_unit(number: str, unit: str) -> str:
    """Return a number and its unit, with a space between them at which no line breaks: '95 %'."""
    return f"{number}\N{NO-BREAK SPACE}{unit}"


def local_credits(microcredits: int) -> str:
    """Return credits for a page or an e-mail. `show_credits` is for what is stored or sent."""
    return in_local_signs(show_credits(microcredits))


def short_number(number: int) -> str:
    """Return a number of at least 0 in about three digits: '9,999', '21.1 k', '293 k', '1.25 M'."""
    if number < 10_000:
        return local_number(number)
    for unit, name in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")):
        # What would be rounded up to 1,000 of a unit is 1 of the next.
        if number >= unit - unit // 2_000:
            count = number / unit
            decimals = 2 if count < 9.995 else 1 if count < 99.95 else 0
            text = f"{count:,.{decimals}f}"
            text = text.rstrip("0").rstrip(".") if decimals else text
            return with_unit(in_local_signs(text), name)
    return local_number(number)
