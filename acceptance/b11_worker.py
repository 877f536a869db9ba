"""Inside B8 and B11: sets spend caps and time zones."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from django.utils import timezone

from billing import spend_caps
from channels import time_zones
from channels.audit import COMMAND_LINE
from channels.models import Account, ApiKey, Channel


def set_cap(order: dict[str, Any]) -> None:
    """Set the cap of `order["channel_id"]`, or of its live key if `order["of_key"]`."""
    channel = Channel.objects.get(id=order["channel_id"])
    key = ApiKey.objects.get(channel=channel, mode="live") if order["of_key"] else None
    spend_caps.set_cap(
        channel=channel,
        key=key,
        day_microcredits=order.get("day"),
        month_microcredits=order.get("month"),
        actor=COMMAND_LINE,
        now=timezone.now(),
    )


def used(channel_id: str) -> list[list[int]]:
    """Return what is used of the day and the month of each cap of the channel."""
    now = timezone.now()
    return [
        [
            each.used_microcredits
            for each in spend_caps.list_spending(
                cap, calendar=cap.channel.account.calendar, now=now
            )
        ]
        for cap in spend_caps.list_caps(channel_ids=[uuid.UUID(channel_id)])
    ]


def set_time_zone(order: dict[str, Any]) -> None:
    """Set the zone of an account's days, including those of its quota, as of a moment."""
    time_zones.set_time_zone(
        account=Account.objects.get(id=order["account_id"]),
        time_zone=order["zone"],
        has_local_quota=True,
        actor=COMMAND_LINE,
        now=datetime.fromisoformat(order["at"]),
    )
