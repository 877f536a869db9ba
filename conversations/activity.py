"""What the live traffic of some channels came to of late, in few queries however many they are."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import OuterRef, QuerySet, Subquery

from billing.days import RECENT_DAYS, last_days
from channels.models import Channel
from common import db
from conversations import rollups
from conversations.models import Message
from conversations.rollups import Chosen


@dataclass(frozen=True, slots=True)
class Activity:
    """A channel's replies and charges of today (UTC), its replies a day, oldest first."""

    requests_by_day: tuple[int, ...] = (0,) * RECENT_DAYS
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


# A count a day by comparing times, then what was charged and what failed on the last of them.
_COUNTS = ", ".join(
    f"SUM(CASE WHEN error_code = '' AND starts_at >= %(day{number})s"
    f" AND starts_at < %(day{number + 1})s THEN request_count ELSE 0 END)"
    for number in range(RECENT_DAYS)
)
_LAST_DAY = f"starts_at >= %(day{RECENT_DAYS - 1})s"
_BY_CHANNEL = f"""
SELECT channel_id, {_COUNTS},
       SUM(CASE WHEN {_LAST_DAY} THEN charged_microcredits ELSE 0 END),
       SUM(CASE WHEN {_LAST_DAY} AND error_code <> '' THEN request_count ELSE 0 END)
  FROM ({{rows}}) AS used GROUP BY channel_id
"""  # noqa: S608  # our own words alone


def list_activity(*, channel_ids: Sequence[uuid.UUID], now: datetime) -> dict[uuid.UUID, Activity]:
    """Return the activity of each of these channels; two queries for all."""
    midnights = _midnights(now)
    coverage = rollups.cover_channels(channel_ids)
    chosen = Chosen(midnights[0], midnights[-1])
    columns = ("request_count", "charged_microcredits")
    rows, params = rollups.usage_rows(coverage, chosen, columns)
    params |= {f"day{number}": db.time_param(moment) for number, moment in enumerate(midnights)}
    activity = dict.fromkeys(channel_ids, Activity())
    for channel_id, *counts, charged, errors in db.fetch_rows(
        _BY_CHANNEL.format(rows=rows), params
    ):
        used = Activity(tuple(map(int, counts)), int(charged), int(errors))
        activity[uuid.UUID(str(channel_id))] = used
    return activity


def _midnights(now: datetime) -> list[datetime]:
    """Return where each of the last days begins, and where the last of them ends (UTC)."""
    first, _ = last_days(now)
    return [first + timedelta(days=number) for number in range(RECENT_DAYS + 1)]
