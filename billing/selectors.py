"""Reads of usage and of the ledger by time."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import QuerySet, Sum

from billing.days import utc_day
from billing.models import DailyUsage, LedgerEntry
from channels.callers import Caller
from common import db

# Entries are written in the order of their numbers, their times taken a moment before.
_SKEW = timedelta(minutes=10)


def get_messages_used(*, caller: Caller, now: datetime) -> int:
    """Return how many messages of the caller's quota this UTC day has used."""
    usage = DailyUsage.objects.filter(
        channel_id=caller.channel_id, is_test=caller.is_test, day=utc_day(now)
    )
    return usage.values_list("message_count", flat=True).first() or 0


def sum_charges(*, account_id: int, starts_at: datetime, ends_at: datetime) -> int:
    """Return the micro-credits charged to an account from one moment to before another.

    Reads no entry from before that time, however many the account has. Later ones are read past:
    most periods end now, and a search for the last one would be another statement.
    """
    charges = LedgerEntry.objects.filter(
        credit_account_id=account_id, kind=LedgerEntry.Kind.CHARGE, created_at__lt=ends_at
    )
    charges = entries_since(charges, account_id=account_id, moment=starts_at)
    total: int = charges.aggregate(sum=Sum("amount_microcredits", default=0))["sum"]
    return int(total)


# --- Entries by time ----------------------------------------------------------------------------

# Entries of an account are numbered without a gap, and their times grow with the numbers: the
# first one of a day is found by halving, in one statement, however many there are.
_FIND_SEQUENCE = """
WITH RECURSIVE step(low, high) AS (
    SELECT CAST(0 AS bigint), entry_count + 1
      FROM billing_creditaccount WHERE account_id = %(account)s
    UNION ALL
    SELECT CASE WHEN e.created_at < %(moment)s THEN e.sequence ELSE step.low END,
           CASE WHEN e.created_at < %(moment)s THEN step.high ELSE e.sequence END
      FROM step
      JOIN billing_ledgerentry e ON e.credit_account_id = %(account)s
                                AND e.sequence = (step.low + step.high) / 2
     WHERE step.high - step.low > 1
)
SELECT high FROM step WHERE high - low = 1
"""


def _find_sequence(account_id: int, moment: datetime) -> int:
    """Return the number of an account's first entry at or after a moment, or the next to come."""
    params = {"account": account_id, "moment": db.time_param(moment)}
    row = db.fetch_row(_FIND_SEQUENCE, params)
    return int(row[0]) if row else 1


def entries_since(
    entries: QuerySet[LedgerEntry], *, account_id: int, moment: datetime
) -> QuerySet[LedgerEntry]:
    """Return an account's entries of a moment and later, found by their numbers."""
    first = _find_sequence(account_id, moment - _SKEW)
    return entries.filter(sequence__gte=first, created_at__gte=moment)


def entries_before(
    entries: QuerySet[LedgerEntry], *, account_id: int, moment: datetime
) -> QuerySet[LedgerEntry]:
    """Return an account's entries before a moment, found by their numbers."""
    following = _find_sequence(account_id, moment + _SKEW)
    return entries.filter(sequence__lt=following, created_at__lt=moment)
