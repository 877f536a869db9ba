"""Reads of usage."""

from __future__ import annotations

from datetime import datetime

from billing.models import DailyUsage
from billing.services import utc_day
from channels.callers import Caller


def get_messages_used(*, caller: Caller, now: datetime) -> int:
    """Return how many messages of the caller's quota this UTC day has used."""
    usage = DailyUsage.objects.filter(
        channel_id=caller.channel_id, is_test=caller.is_test, day=utc_day(now)
    )
    return usage.values_list("message_count", flat=True).first() or 0
