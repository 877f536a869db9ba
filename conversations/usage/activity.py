"""The recent live traffic of channels, in a fixed number of queries for any number of channels."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import OuterRef, Q, QuerySet, Subquery, Sum

from channels.models import Channel
from common import db
from common.days import RECENT_DAYS, UTC_NAME, day_of, start_of
from conversations.models import DraftReply, Message
from conversations.usage import rows as usage_rows
from conversations.usage.rows import Chosen, floor
from conversations.usage.sums import DAY, HOUR, QUARTER


@dataclass(frozen=True, slots=True)
class Activity:
    """A channel's requests by day, oldest first, and the charges and errors of today."""

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
    """Return whether a channel of the account has ever replied, to a test key or a live one.

    Looks up the latest reply of each channel, which the index answers at once. For any reply of any
    channel, PostgreSQL may scan all messages until it finds one (it does if an index alone is not
    enough). For a new account, that means all of them.
    """
    channels = Channel.objects.filter(account_id=account_id)
    replied = channels.annotate(replied_at=_latest_reply(_replies_of_channel()))
    return replied.filter(replied_at__isnull=False).exists()


def _replies_of_channel() -> QuerySet[Message]:
    return Message.objects.filter(channel_id=OuterRef("pk"), role=Message.Role.ASSISTANT)


def _latest_reply(replies: QuerySet[Message]) -> Subquery:
    return Subquery(replies.order_by("-created_at").values("created_at")[:1])


# A count for each day by comparing times, then the charges and failures of the last day.
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


def list_activity(
    *, channel_ids: Sequence[uuid.UUID], now: datetime, zone: str = UTC_NAME
) -> dict[uuid.UUID, Activity]:
    """Return the activity of each of these channels, in two queries for all of them."""
    midnights = _midnights(now, zone)
    coverage = usage_rows.cover_channels(channel_ids)
    step = usage_rows.step_of_days(midnights[0], midnights[-1], zone)
    chosen = Chosen(midnights[0], midnights[-1], step)
    columns = ("request_count", "charged_microcredits")
    rows, params = usage_rows.usage_rows(coverage, chosen, columns)
    params |= {f"day{number}": db.param(moment) for number, moment in enumerate(midnights)}
    activity = dict.fromkeys(channel_ids, Activity())
    for channel_id, *counts, charged, errors in db.fetch_rows(
        _BY_CHANNEL.format(rows=rows), params
    ):
        used = Activity(tuple(map(int, counts)), int(charged), int(errors))
        activity[uuid.UUID(str(channel_id))] = used
    return activity


_CHARGED = """
SELECT COALESCE(SUM(CASE WHEN starts_at >= %(day)s THEN charged_microcredits ELSE 0 END), 0),
       COALESCE(SUM(charged_microcredits), 0)
  FROM ({rows}) AS used
"""


def sum_charged(
    *, channel: Channel, day_starts_at: datetime, month_starts_at: datetime, ends_at: datetime
) -> tuple[int, int]:
    """Return what a channel's replies and drafts cost in the day and in the month so far."""
    moments = (month_starts_at, day_starts_at, ends_at)
    steps = (step for step in (DAY, HOUR) if all(one == floor(one, step) for one in moments))
    chosen = Chosen(month_starts_at, ends_at, next(steps, QUARTER))
    coverage = usage_rows.cover_channels([channel.id])
    rows, params = usage_rows.usage_rows(coverage, chosen, ("charged_microcredits",))
    row = db.fetch_row(_CHARGED.format(rows=rows), params | {"day": db.param(day_starts_at)})
    assert row is not None, "an aggregate always has a row"
    drafts = DraftReply.objects.filter(channel=channel, created_at__gte=month_starts_at)
    is_today = Q(created_at__gte=day_starts_at)
    of_drafts = drafts.aggregate(
        day=Sum("charged_microcredits", default=0, filter=is_today),
        month=Sum("charged_microcredits", default=0),
    )
    return int(row[0]) + of_drafts["day"], int(row[1]) + of_drafts["month"]


def _midnights(now: datetime, zone: str) -> list[datetime]:
    """Return when each of the last days begins, and when the last one ends."""
    today = day_of(now, zone)
    return [start_of(today + timedelta(days=number), zone) for number in range(1 - RECENT_DAYS, 2)]
