"""Reads daily usage, and the ledger by time: its entries, and what was charged."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from billing.models import DailyUsage, LedgerEntry
from channels.callers import Caller
from common import db

# Entries are numbered in the order of writing, but their times are taken a moment before. A later
# entry's time can be earlier by at most this much.
SKEW = timedelta(minutes=10)


def get_messages_used(*, caller: Caller, now: datetime) -> int:
    """Return how many messages of the caller's quota are used up in its day."""
    day = caller.calendar.quota_day.span(now).first
    usage = DailyUsage.objects.filter(channel_id=caller.channel_id, is_test=caller.is_test, day=day)
    return usage.values_list("message_count", flat=True).first() or 0


# --- Entries by time ----------------------------------------------------------------------------

# An account's entries are numbered without gaps, and their times grow with the numbers. So a binary
# search finds the first entry at or after a moment, for several moments in one statement, however
# many entries there are. It looks at the newest entry first, because most periods end after it.
_SEARCH = """
WITH RECURSIVE wanted(place, moment) AS (VALUES {moments}),
step(place, moment, low, high) AS (
    SELECT w.place, w.moment,
           CASE WHEN newest.created_at < w.moment THEN c.entry_count ELSE 0 END,
           c.entry_count + 1
      FROM wanted w
      JOIN billing_creditaccount c ON c.account_id = %(account)s
      LEFT JOIN billing_ledgerentry newest ON newest.credit_account_id = c.account_id
                                          AND newest.sequence = c.entry_count
    UNION ALL
    SELECT step.place, step.moment,
           CASE WHEN e.created_at < step.moment THEN e.sequence ELSE step.low END,
           CASE WHEN e.created_at < step.moment THEN step.high ELSE e.sequence END
      FROM step
      JOIN billing_ledgerentry e ON e.credit_account_id = %(account)s
                                AND e.sequence = (step.low + step.high) / 2
     WHERE step.high - step.low > 1
)
"""


_SEQUENCES = "SELECT high FROM step WHERE high - low = 1 ORDER BY place"


def find_sequences(account_id: int, *moments: datetime) -> list[int]:
    """Return the number of an account's first entry at or after each moment, or the next number.

    A later moment's number is never smaller than an earlier one's.
    """
    statement = _search(len(moments)) + _SEQUENCES
    rows = db.fetch_rows(statement, {"account": account_id} | _moments(moments))
    return [int(row[0]) for row in rows] or [1] * len(moments)


def _search(count: int) -> str:
    """Return the beginning of a statement about so many moments: `step`, the search for them."""
    moments = ", ".join(f"({at}, %(moment_{at})s)" for at in range(count))
    return _SEARCH.replace("{moments}", moments)


def _moments(moments: Sequence[datetime]) -> dict[str, Any]:
    return {f"moment_{at}": db.param(moment) for at, moment in enumerate(moments)}


def entries_between(
    entries: QuerySet[LedgerEntry],
    *,
    account_id: int,
    starts_at: datetime | None,
    ends_at: datetime | None,
) -> QuerySet[LedgerEntry]:
    """Return an account's entries from one moment to just before another, found by their numbers.

    None leaves that side open.
    """
    moments = [starts_at - SKEW] if starts_at else []
    moments += [ends_at + SKEW] if ends_at else []
    if not moments:
        return entries
    sequences = find_sequences(account_id, *moments)
    if starts_at:
        entries = entries.filter(sequence__gte=sequences[0], created_at__gte=starts_at)
    if ends_at:
        entries = entries.filter(sequence__lt=sequences[-1], created_at__lt=ends_at)
    return entries


# --- What was charged ---------------------------------------------------------------------------

# As on a bank statement, the charges between two entries are the balance before, minus the balance
# after, plus all other changes. So only the other changes are read, and they have their own index.
# Their kinds are literals, so that a planner sees that the index applies, whatever the parameters.
# Where times may be out of order, charges are checked one by one.
#
# An entry may be in the period from `opening` on, and is from `inner_at` on. It may be past the
# period from `closing` on, and is from `end_at` on. In a short period all entries are checked.
_BOUNDS = """
, bounds(opening, inner_at, closing, end_at) AS (
    SELECT MAX(CASE place WHEN 0 THEN high END), MAX(CASE place WHEN 1 THEN high END),
           MAX(CASE WHEN place IN (1, 2) THEN high END), MAX(CASE place WHEN 3 THEN high END)
      FROM step WHERE high - low = 1
)
"""
_BALANCE_BEFORE = """
COALESCE((SELECT balance_after_microcredits FROM billing_ledgerentry
           WHERE credit_account_id = %(account)s
             AND sequence = (SELECT {number} FROM bounds) - 1), 0)
"""
_CHANGED_OTHERWISE = """
COALESCE((SELECT SUM(CASE 'customer' WHEN credit THEN amount_microcredits
                                     WHEN debit THEN -amount_microcredits ELSE 0 END)
            FROM billing_ledgerentry
           WHERE credit_account_id = %(account)s AND NOT (kind IN ('absorbed', 'charge'))
             AND sequence >= (SELECT inner_at FROM bounds)
             AND sequence < (SELECT closing FROM bounds)), 0)
"""
_CHARGED_AMONG = """
COALESCE((SELECT SUM(amount_microcredits) FROM billing_ledgerentry
           WHERE credit_account_id = %(account)s AND kind = 'charge'
             AND sequence >= (SELECT {first} FROM bounds)
             AND sequence < (SELECT {end} FROM bounds)
             AND created_at >= %(starts_at)s AND created_at < %(ends_at)s), 0)
"""
SUM_CHARGES = (
    _search(4)
    + _BOUNDS
    + "SELECT "
    + _BALANCE_BEFORE.format(number="inner_at")
    + " - "
    + _BALANCE_BEFORE.format(number="closing")
    + " + "
    + _CHANGED_OTHERWISE
    + " + "
    + _CHARGED_AMONG.format(first="opening", end="inner_at")
    + " + "
    + _CHARGED_AMONG.format(first="closing", end="end_at")
)
_NO_END = datetime(9999, 1, 1, tzinfo=UTC)


def sum_charges(*, account_id: int, starts_at: datetime, ends_at: datetime = _NO_END) -> int:
    """Return the micro-credits charged to an account from one moment to just before another.

    Costs the same however many charges there are: it reads the charges within `SKEW` of the two
    moments, and everything but charges between them.
    """
    row = db.fetch_row(SUM_CHARGES, charges_params(account_id, starts_at, ends_at))
    return int(row[0]) if row else 0


def charges_params(
    account_id: int, starts_at: datetime, ends_at: datetime = _NO_END
) -> dict[str, Any]:
    """Return the parameters of SUM_CHARGES."""
    moments = (starts_at - SKEW, starts_at + SKEW, ends_at - SKEW, ends_at + SKEW)
    period = {"starts_at": db.param(starts_at), "ends_at": db.param(ends_at)}
    return {"account": account_id} | _moments(moments) | period


# One statement, so that a call counts once, however it ends meanwhile.
_SUM_SPENT = """
SELECT COALESCE(SUM(CASE WHEN created_at >= %(day_starts_at)s THEN spent ELSE 0 END), 0),
       COALESCE(SUM(spent), 0)
  FROM (SELECT h.captured_microcredits AS spent, h.created_at, h.channel_id, h.key_id
          FROM billing_ledgerentry e
          JOIN billing_hold h ON h.id = e.hold_id
         WHERE e.credit_account_id = %(account)s AND e.sequence >= %(first)s AND e.kind = 'charge'
        UNION ALL
        SELECT h.amount_microcredits, h.created_at, h.channel_id, h.key_id
          FROM billing_hold h
         WHERE h.account_id = %(account)s AND h.state = 'held') calls
 WHERE channel_id = %(channel)s AND created_at >= %(month_starts_at)s
"""


def sum_spent(
    *,
    account_id: int,
    channel_id: uuid.UUID,
    key_id: uuid.UUID | None,
    day_starts_at: datetime,
    month_starts_at: datetime,
) -> tuple[int, int]:
    """Return what a channel, or one of its keys, spent in a day and in its month so far.

    Counts by the time of admission, and calls in flight with what they hold. Reads every charge of
    the account in the month.
    """
    (first,) = find_sequences(account_id, month_starts_at - SKEW)
    params = {
        "account": account_id,
        "channel": channel_id.hex,
        "key": key_id and key_id.hex,
        "first": first,
        "day_starts_at": db.param(day_starts_at),
        "month_starts_at": db.param(month_starts_at),
    }
    of_key = " AND key_id = %(key)s" if key_id else ""
    row = db.fetch_row(_SUM_SPENT + of_key, params)
    assert row is not None, "an aggregate always has a row"
    return int(row[0]), int(row[1])
