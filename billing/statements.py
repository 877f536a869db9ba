"""Monthly statements: the balance before, what was added and taken, and the balance after.

All figures come from the ledger, in a few statements that cost the same however many charges there
are: balances are read from the entries at the month's ends, and everything but charges from its own
index. What was charged is the rest, as on a bank statement (charges.py). So a statement always adds
up, and begins where the one before ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from billing.balance import Balance
from billing.charges import SKEW, find_sequences
from billing.models import CreditGrant, LedgerEntry
from billing.months import Month, bounds_of, month_of
from common import db
from common.days import UTC_NAME

MONTHS_A_PAGE = 24
MOVEMENTS_A_READ = 500
Kind = LedgerEntry.Kind


@dataclass(frozen=True, slots=True)
class Sums:
    """How a balance changed in a period, in micro-credits. Adjustments may be negative."""

    opening: int = 0
    granted: int = 0
    adjusted: int = 0
    expired: int = 0
    charged: int = 0
    closing: int = 0
    # Its entries have numbers from here to before there, perhaps with others among them.
    first_sequence: int = 1
    end_sequence: int = 1

    @property
    def is_still(self) -> bool:
        """Whether nothing was added or taken."""
        return not (self.granted or self.adjusted or self.expired or self.charged)


@dataclass(frozen=True, slots=True)
class Statement:
    """The sums of a month of a time zone, and whether it still goes on."""

    month: Month
    sums: Sums
    is_open: bool = False
    zone: str = UTC_NAME

    @property
    def bounds(self) -> tuple[datetime, datetime]:
        """When the month begins, and when the next one does."""
        return bounds_of(self.month, self.zone)


@dataclass(frozen=True, slots=True)
class Page:
    """Statements, newest first, and the month with which the next page begins, if any."""

    statements: Sequence[Statement]
    next_month: Month | None = None


def list_statements(
    *, account_id: int, balance: Balance, now: datetime, newest: Month, zone: str = UTC_NAME
) -> Page:
    """Return the statements up to a month, newest first. Call it inside a `snapshot()`."""
    first, last = _find_span(balance, now, zone)
    last = min(last, newest)
    count = min(MONTHS_A_PAGE, max(0, last.since(first) + 1))
    months = [last.plus(-index) for index in range(count)]
    found = _read(account_id, balance, now, months[::-1], zone)
    return Page(found[::-1], months[-1].plus(-1) if months and months[-1] > first else None)


def find_statement(
    *, account_id: int, balance: Balance, now: datetime, month: Month, zone: str = UTC_NAME
) -> Statement | None:
    """Return a month's statement, or None for a month before the first entry or in the future.

    Call it inside a `snapshot()`.
    """
    first, last = _find_span(balance, now, zone)
    months = [month] if first <= month <= last else []
    found = _read(account_id, balance, now, months, zone)
    return found[0] if found else None


def _find_span(balance: Balance, now: datetime, zone: str) -> tuple[Month, Month]:
    """Return the first and the last month that may hold an entry; the first is later if none do."""
    this = month_of(now, zone)
    if balance.first_entry_at is None or balance.newest_entry_at is None:
        return this, this.plus(-1)
    first = month_of(balance.first_entry_at - SKEW, zone)
    return first, max(this, month_of(balance.newest_entry_at + SKEW, zone))


def _read(
    account_id: int, balance: Balance, now: datetime, months: Sequence[Month], zone: str
) -> list[Statement]:
    """Return the statements of consecutive months, the oldest first."""
    if not months or balance.first_entry_at is None:
        return []
    moments = [bounds_of(month, zone)[0] for month in months] + [bounds_of(months[-1], zone)[1]]
    first, this = month_of(balance.first_entry_at, zone), month_of(now, zone)
    return [
        Statement(month, sums, is_open=bounds_of(month, zone)[1] > now, zone=zone)
        for month, sums in zip(
            months, sum_periods(account_id=account_id, moments=moments), strict=True
        )
        # Times may be off by the skew, so the span may begin or end with an empty month.
        if first <= month <= this or not sums.is_still
    ]


# --- Sums ---------------------------------------------------------------------------------------

# `bound` holds a moment and the numbers around it: entries before `low` are earlier, entries from
# `high` on are not. Only those between are compared by their times.
_BOUNDS = "WITH bound(place, moment, low, high) AS (VALUES {rows})"
# In place of a kind: the balance at a moment.
_BALANCE = "balance"
_CHANGE = """
CASE 'customer' WHEN e.credit THEN e.amount_microcredits
                WHEN e.debit THEN -e.amount_microcredits ELSE 0 END
"""
_BALANCES = f"""
SELECT bound.place, '{_BALANCE}' AS kind,
       COALESCE((SELECT e.balance_after_microcredits FROM billing_ledgerentry e
                  WHERE e.credit_account_id = %(account)s AND e.sequence = bound.low - 1), 0)
     + COALESCE((SELECT SUM({_CHANGE}) FROM billing_ledgerentry e
                  WHERE e.credit_account_id = %(account)s AND e.created_at < bound.moment
                    AND e.sequence >= bound.low AND e.sequence < bound.high), 0)
  FROM bound
"""  # noqa: S608  # our own words alone
# The kinds are literals, so that a planner sees that the index without charges applies.
_OTHERWISE = f"""
SELECT starts.place, e.kind, SUM({_CHANGE})
  FROM bound starts
  JOIN bound ends ON ends.place = starts.place + 1
  JOIN billing_ledgerentry e ON e.credit_account_id = %(account)s
   AND NOT (e.kind IN ('absorbed', 'charge'))
   AND e.sequence >= %(first)s AND e.sequence < %(end)s
   AND e.sequence >= starts.low AND e.sequence < ends.high
   AND e.created_at >= starts.moment AND e.created_at < ends.moment
 GROUP BY starts.place, e.kind
"""  # noqa: S608


def sum_periods(*, account_id: int, moments: Sequence[datetime]) -> list[Sums]:
    """Return the sums from each moment to just before the next. Call it inside a `snapshot()`.

    Reads everything but charges between the first moment and the last, and the entries within
    `SKEW` of each moment.
    """
    around = [moment + shift for moment in moments for shift in (-SKEW, SKEW)]
    numbers = find_sequences(account_id, *around)
    lows, highs = numbers[::2], numbers[1::2]
    params: dict[str, Any] = {"account": account_id, "first": lows[0], "end": highs[-1]}
    for place, (moment, low, high) in enumerate(zip(moments, lows, highs, strict=True)):
        params |= {f"moment{place}": db.param(moment), f"low{place}": low}
        params[f"high{place}"] = high
    rows = ", ".join(
        f"({place}, %(moment{place})s, %(low{place})s, %(high{place})s)"
        for place in range(len(moments))
    )
    statement = f"{_BOUNDS} {_BALANCES} UNION ALL {_OTHERWISE}".format(rows=rows)
    changes: dict[tuple[int, str], int] = {
        (place, kind): int(change) for place, kind, change in db.fetch_rows(statement, params)
    }
    balances = [changes[place, _BALANCE] for place in range(len(moments))]
    return [
        _add_up(opening, closing, place, changes, (lows[place], highs[place + 1]))
        for place, (opening, closing) in enumerate(pairwise(balances))
    ]


def _add_up(
    opening: int,
    closing: int,
    place: int,
    changes: dict[tuple[int, str], int],
    numbers: tuple[int, int],
) -> Sums:
    granted = changes.get((place, Kind.GRANT), 0)
    adjusted = changes.get((place, Kind.ADJUSTMENT), 0)
    expired = -changes.get((place, Kind.EXPIRY), 0)
    charged = opening + granted + adjusted - expired - closing
    return Sums(opening, granted, adjusted, expired, charged, closing, *numbers)


# --- Everything but charges, one by one ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Movement:
    """An entry other than a charge, and its effect on the balance in micro-credits."""

    sequence: int
    created_at: datetime
    kind: str
    change: int
    reason: str
    reference: str
    category: str
    expires_at: datetime | None

    @property
    def kind_label(self) -> str:
        return str(Kind(self.kind).label)

    @property
    def category_label(self) -> str:
        return str(CreditGrant.Category(self.category).label) if self.category else ""


_LIST = f"""
SELECT e.sequence, e.created_at, e.kind, {_CHANGE}, e.reason, COALESCE(e.reference, ''),
       COALESCE(g.category, ''), g.expires_at
  FROM billing_ledgerentry e LEFT JOIN billing_creditgrant g ON g.entry_id = e.id
 WHERE e.credit_account_id = %(account)s AND NOT (e.kind IN ('absorbed', 'charge'))
   AND e.sequence > %(after)s AND e.sequence < %(end)s
   AND e.created_at >= %(starts_at)s AND e.created_at < %(ends_at)s
 ORDER BY e.sequence LIMIT %(most)s
"""  # noqa: S608


def list_movements(
    *, account_id: int, statement: Statement, most: int, after: int = 0
) -> list[Movement]:
    """Return the grants, adjustments, and expiries of a statement, after the entry of a number."""
    starts_at, ends_at = statement.bounds
    params = {
        "account": account_id,
        "after": max(after, statement.sums.first_sequence - 1),
        "end": statement.sums.end_sequence,
        "starts_at": db.param(starts_at),
        "ends_at": db.param(ends_at),
        "most": most,
    }
    return [
        Movement(
            sequence,
            db.time_value(created_at),
            kind,
            int(change),
            reason,
            reference,
            category,
            db.time_value(expires_at) if expires_at else None,
        )
        for sequence, created_at, kind, change, reason, reference, category, expires_at in (
            db.fetch_rows(_LIST, params)
        )
    ]


def iterate_movements(*, account_id: int, statement: Statement) -> Iterator[Movement]:
    """Yield all of a statement's movements, reading them in pieces."""

    def read(last: Movement | None) -> list[Movement]:
        return list_movements(
            account_id=account_id,
            statement=statement,
            most=MOVEMENTS_A_READ,
            after=last.sequence if last else 0,
        )

    for piece in db.read_in_pieces(read, size=MOVEMENTS_A_READ):
        yield from piece
