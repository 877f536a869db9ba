"""What the live traffic of some channels came to of late, in few queries however many they are."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django.db.models import Count, OuterRef, Q, QuerySet, Subquery, Sum

from billing.days import utc_day
from channels.models import Channel
from conversations.models import FailedRequest, Message

DAYS = 7


@dataclass(frozen=True, slots=True)
class Activity:
    """A channel's replies and charges of today (UTC), its replies a day, oldest first."""

    requests_by_day: tuple[int, ...] = (0,) * DAYS
    charged_today_microcredits: int = 0
    errors_today: int = 0

    @property
    def requests_today(self) -> int:
        return self.requests_by_day[-1]


def last_used() -> Subquery:
    """Return when the channel of the outer query last replied to a live key."""
    return _latest_reply(_replies_of_channel().filter(is_test=False))


def has_any_reply(*, account_id: int) -> bool:
    """Tell whether a channel of the account has ever replied, to a test key or a live one.

    Asked channel by channel for the latest one, which the index answers at once. Asked for any
    reply of any of them, PostgreSQL may read along all messages there are until it meets one (it
    does where an index alone will not do): to the end where the account is new.
    """
    channels = Channel.objects.filter(account_id=account_id)
    replied = channels.annotate(replied_at=_latest_reply(_replies_of_channel()))
    return replied.filter(replied_at__isnull=False).exists()


def _replies_of_channel() -> QuerySet[Message]:
    return Message.objects.filter(channel_id=OuterRef("pk"), role=Message.Role.ASSISTANT)


def _latest_reply(replies: QuerySet[Message]) -> Subquery:
    return Subquery(replies.order_by("-created_at").values("created_at")[:1])


def list_activity(*, channel_ids: Sequence[uuid.UUID], now: datetime) -> dict[uuid.UUID, Activity]:
    """Return the activity of each of these channels; two queries for all."""
    midnights = _midnights(now)
    errors = _errors_by_channel(channel_ids, midnights[-2])
    used = {row["channel_id"]: row for row in _replies_by_channel(channel_ids, midnights)}
    return {
        channel_id: _activity(used.get(channel_id, {}), errors.get(channel_id, 0))
        for channel_id in channel_ids
    }


def _midnights(now: datetime) -> list[datetime]:
    """Return where each of the last days begins, and where the last of them ends (UTC)."""
    today = datetime.combine(utc_day(now), time(), UTC)
    return [today + timedelta(days=offset) for offset in range(1 - DAYS, 2)]


def _replies_by_channel(
    channel_ids: Sequence[uuid.UUID], midnights: list[datetime]
) -> list[dict[str, Any]]:
    """One pass over the index: a count a day by comparing times, which no function slows down."""
    replies = Message.objects.filter(
        channel_id__in=channel_ids,
        role=Message.Role.ASSISTANT,
        is_test=False,
        created_at__gte=midnights[0],
        created_at__lt=midnights[-1],
    )
    days = [
        Q(created_at__gte=midnights[day], created_at__lt=midnights[day + 1]) for day in range(DAYS)
    ]
    counts = {f"day{number}": Count("id", filter=day) for number, day in enumerate(days)}
    charged = Sum("charged_microcredits", filter=days[-1], default=0)
    rows = replies.order_by().values("channel_id").annotate(**counts, charged=charged)
    return [dict(row) for row in rows]


def _errors_by_channel(channel_ids: Sequence[uuid.UUID], since: datetime) -> dict[uuid.UUID, int]:
    failed = FailedRequest.objects.filter(
        channel_id__in=channel_ids, is_test=False, created_at__gte=since
    )
    return dict(failed.order_by().values_list("channel_id").annotate(number=Count("id")))


def _activity(row: dict[str, Any], errors: int) -> Activity:
    counts = tuple(row.get(f"day{number}", 0) for number in range(DAYS))
    return Activity(counts, row.get("charged", 0), errors)
