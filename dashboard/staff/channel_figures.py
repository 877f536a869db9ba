"""What lists of channels show beside each name, read for a whole page of channels at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.safestring import SafeString

from channels import usable_keys
from channels.models import Channel
from common.days import UTC_NAME
from common.pages.numbers import local_credits
from conversations.usage.activity import Activity, last_used, list_activity
from dashboard.charts import week_sparkline


@dataclass(frozen=True, slots=True)
class ChannelFigures:
    """A channel's live key, and its live traffic of the last days."""

    masked_key: str
    activity: Activity
    last_used_at: datetime | None
    # The most answers a day on any channel of the page. All charts share this scale.
    most_a_day: int

    @property
    def requests_today(self) -> int:
        return self.activity.requests_today + self.activity.errors_today

    @property
    def errors_today(self) -> int:
        return self.activity.errors_today

    @property
    def credits_today(self) -> str:
        return local_credits(self.activity.charged_today_microcredits)

    @property
    def chart(self) -> SafeString:
        return week_sparkline(self.activity.requests_by_day, most=self.most_a_day)


def read_channel_figures(
    channels: Sequence[Channel],
    *,
    now: datetime,
    zone: str = UTC_NAME,
    with_keys: bool = True,
    with_activity: bool = True,
) -> list[ChannelFigures]:
    """Return the figures of each channel, in four queries for any number of channels."""
    ids = [channel.id for channel in channels]
    keys = usable_keys.list_live_keys(channel_ids=ids, now=now) if with_keys else {}
    used = list_activity(channel_ids=ids, now=now, zone=zone) if with_activity else {}
    last = Channel.objects.filter(id__in=ids).annotate(used_at=last_used())
    used_at = dict(last.values_list("id", "used_at")) if with_activity else {}
    most = max((count for one in used.values() for count in one.requests_by_day), default=0)
    return [
        ChannelFigures(
            keys[one].masked if one in keys else "",
            used.get(one, Activity()),
            used_at.get(one),
            most,
        )
        for one in ids
    ]
