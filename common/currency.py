"""Amounts of the operator's currency: whole numbers inside, decimals at the edge, never float.

A price is a whole number of millionths of the currency (`_micros`), for a million tokens or for one
credit. Tokens or micro-credits times such a price are a whole number of picos, 10^-12 of the
currency. So costs and revenue add up without rounding.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal

_PICO_DIGITS = 12
_SHOWN = Decimal("0.0001")
_TENTH = Decimal("0.1")
# Wide enough for any sum of database integers, so that only the step to what is shown rounds.
_WIDE = Context(prec=60, rounding=ROUND_HALF_EVEN)


def exact_amount(picos: int) -> str:
    """Return an amount in full, with twelve decimals, for files."""
    return f"{_amount(picos):f}"


def show_amount(picos: int) -> str:
    """Return an amount for people, rounded to four decimals: '1,234.5000'.

    One that would become 0 by this is returned in full: '0.00002'.
    """
    shown = _amount(picos).quantize(_SHOWN, context=_WIDE)
    return exact_amount(picos).rstrip("0") if picos and not shown else f"{shown:,f}"


def percent_of(part: int, whole: int) -> Decimal:
    """Return a share in per cent, rounded to one decimal. The whole must not be 0."""
    share = _WIDE.divide(Decimal(part * 100), Decimal(whole))
    return share.quantize(_TENTH, context=_WIDE)


def _amount(picos: int) -> Decimal:
    return Decimal(picos).scaleb(-_PICO_DIGITS, context=_WIDE)
