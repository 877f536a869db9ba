"""Reads of usage."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Sum

from billing.models import DailyUsage, LedgerEntry
from billing.services import utc_day
from channels.callers import Caller


def get_messages_used(*, caller: Caller, now: datetime) -> int:
    """Return how many messages of the caller's quota this UTC day has used."""
    usage = DailyUsage.objects.filter(
        channel_id=caller.channel_id, is_test=caller.is_test, day=utc_day(now)
    )
    return usage.values_list("message_count", flat=True).first() or 0


def sum_charges(*, account_id: int, starts_at: datetime, ends_at: datetime) -> int:
    """Return the micro-credits charged to an account from one moment to before another."""
    charges = LedgerEntry.objects.filter(
        credit_account_id=account_id,
        kind=LedgerEntry.Kind.CHARGE,
        created_at__gte=starts_at,
        created_at__lt=ends_at,
    )
    total: int = charges.aggregate(sum=Sum("amount_microcredits", default=0))["sum"]
    return int(total)
