"""Credits as integers: one credit is 1,000,000 micro-credits; decimals exist only at the edge."""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow, localcontext

MICROCREDITS_PER_CREDIT = 1_000_000

# Far below the 63 bits of a database integer, so that sums of many amounts fit as well.
MAX_MICROCREDITS = 10**15


# Inexact is trapped, so that digits beyond the context's precision are refused, not rounded.
_STRICT = Context(prec=40, traps=[Inexact, InvalidOperation, Overflow])


class InvalidAmount(ValueError):
    """The text is not an amount of credits. The message says what an amount looks like."""


def parse_credits(text: str | int | Decimal) -> int:
    """Return micro-credits for a decimal number of credits with at most six decimals.

    Raises InvalidAmount for anything else: not a number, infinite, finer than a micro-credit, or
    beyond 10^9 credits. Refuses every binary float.
    """
    if isinstance(text, float):
        raise InvalidAmount("An amount must not be a binary float.")
    microcredits, is_whole = Decimal(0), False
    try:
        with localcontext(_STRICT):
            microcredits = Decimal(str(text).strip()) * MICROCREDITS_PER_CREDIT
            is_whole = microcredits.is_finite() and microcredits == microcredits.to_integral_value()
    except ArithmeticError:
        pass  # is_whole stays False
    if not is_whole:
        raise InvalidAmount(
            f"'{text}' is not an amount of credits: use a number with at most six decimals, "
            "such as 250 or 0.5."
        )
    if abs(microcredits) > MAX_MICROCREDITS:
        raise InvalidAmount("An amount must be at most 1,000,000,000 credits.")
    return int(microcredits)


def format_credits(microcredits: int) -> str:
    """Return credits with six decimals: 1500000 -> '1.500000'."""
    sign = "-" if microcredits < 0 else ""
    whole, fraction = divmod(abs(microcredits), MICROCREDITS_PER_CREDIT)
    return f"{sign}{whole}.{fraction:06d}"


def show_credits(microcredits: int) -> str:
    """Return credits for people: 1234500000 -> '1,234.5'. Exact; drops only trailing zeros."""
    sign = "-" if microcredits < 0 else ""
    whole, fraction = divmod(abs(microcredits), MICROCREDITS_PER_CREDIT)
    decimals = f"{fraction:06d}".rstrip("0")
    return f"{sign}{whole:,}.{decimals}" if decimals else f"{sign}{whole:,}"
