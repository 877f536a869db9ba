"""The figures in the staff's list of accounts, read for a whole page of accounts at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from channels.models import Channel, Membership
from conversations.usage import installation
from conversations.usage import rows as usage_rows

DAYS = 30


@dataclass(slots=True)
class Figures:
    """An account's channels, owners, and live traffic of 30 UTC days, as on the owner's pages.

    Requests include those that got no answer. Credits are in micro-credits.
    """

    channel_count: int = 0
    request_count: int = 0
    charged_microcredits: int = 0
    owner_email: str = ""


def read_figures(account_ids: Sequence[int], *, now: datetime) -> dict[int, Figures]:
    """Return the figures of some accounts in four queries, however many accounts there are."""
    found = {account_id: Figures() for account_id in account_ids}
    channels = Channel.objects.filter(account_id__in=account_ids).values_list("id", "account_id")
    for _id, account in channels:
        found[account].channel_count += 1
    coverage = usage_rows.cover_channels([channel_id for channel_id, _account in channels])
    for account, line in installation.sum_accounts(coverage, now=now, days=DAYS).items():
        found[account].request_count = line.request_count
        found[account].charged_microcredits = line.charged_microcredits
    owners = Membership.objects.filter(account_id__in=account_ids, role=Membership.Role.OWNER)
    for account, email in owners.order_by("-id").values_list("account_id", "user__email"):
        found[account].owner_email = email
    return found
