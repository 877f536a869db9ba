"""The figures in the staff's list of accounts, read for a whole page of accounts at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Sum

from billing.models import DailyUsage
from channels.models import Channel, Membership
from common.days import day_of
from conversations.models import Message

DAYS = 30


@dataclass(slots=True)
class Figures:
    """An account's channels, owners, and activity of 30 days. Credits are in micro-credits."""

    channel_count: int = 0
    request_count: int = 0
    charged_microcredits: int = 0
    owner_email: str = ""


def read_figures(account_ids: Sequence[int], *, now: datetime) -> dict[int, Figures]:
    """Return the figures of some accounts in four queries, however many accounts there are."""
    found = {account_id: Figures() for account_id in account_ids}
    since = now - timedelta(days=DAYS)
    channels = Channel.objects.filter(account_id__in=account_ids)
    for account, count in channels.values_list("account_id").annotate(count=Count("id")):
        found[account].channel_count = count
    usage = DailyUsage.objects.filter(
        channel__account_id__in=account_ids, is_test=False, day__gt=day_of(since)
    )
    for account, count in usage.values_list("channel__account_id").annotate(
        count=Sum("message_count")
    ):
        found[account].request_count = count
    replies = Message.objects.filter(
        channel__account_id__in=account_ids, role=Message.Role.ASSISTANT, created_at__gte=since
    )
    for account, charged in replies.values_list("channel__account_id").annotate(
        charged=Sum("charged_microcredits")
    ):
        found[account].charged_microcredits = charged
    owners = Membership.objects.filter(account_id__in=account_ids, role=Membership.Role.OWNER)
    for account, email in owners.order_by("-id").values_list("account_id", "user__email"):
        found[account].owner_email = email
    return found
