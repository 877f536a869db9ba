"""Reads of balances and usage."""

from __future__ import annotations

from datetime import datetime

from billing.models import DailyUsage
from billing.services import utc_day
from channels.callers import Caller
from common import db

# What was held for calls that never came back counts as available from the moment it expires.
_AVAILABLE = """
SELECT c.balance_microcredits - c.held_microcredits + COALESCE((
       SELECT SUM(h.amount_microcredits) FROM billing_hold h
        WHERE h.account_id = c.account_id AND h.state = 'held' AND h.expires_at <= %(now)s), 0)
  FROM billing_creditaccount c WHERE c.account_id = %(account)s
"""


def get_available_microcredits(*, account_id: int, now: datetime) -> int:
    """Return what the account can spend now: its balance less what is held by calls in flight."""
    row = db.fetch_row(_AVAILABLE, {"account": account_id, "now": db.time_param(now)})
    return int(row[0]) if row else 0


def get_messages_used(*, caller: Caller, now: datetime) -> int:
    """Return how many messages of the caller's quota this UTC day has used."""
    usage = DailyUsage.objects.filter(
        channel_id=caller.channel_id, is_test=caller.is_test, day=utc_day(now)
    )
    return usage.values_list("message_count", flat=True).first() or 0
