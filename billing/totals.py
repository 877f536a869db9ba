"""Sums over all accounts, for the staff. Reads only small tables, never the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Q, Sum

from billing import holds
from billing.models import CreditAccount, CreditGrant, DailyUsage, Hold
from common.days import day_of


@dataclass(frozen=True, slots=True)
class Books:
    """The sums of all accounts, in micro-credits."""

    issued: int
    balance: int
    held: int
    spent: int


def sum_books() -> Books:
    """Return the total granted, and the accounts' balances, holds, and spending."""
    issued = CreditGrant.objects.aggregate(sum=Sum("amount_microcredits", default=0))["sum"]
    sums = CreditAccount.objects.aggregate(
        balance=Sum("balance_microcredits", default=0),
        held=Sum("held_microcredits", default=0),
        spent=Sum("spent_microcredits", default=0),
    )
    return Books(issued, **sums)


def count_messages_today(*, now: datetime) -> tuple[int, int]:
    """Return how many messages were sent this UTC day, with live keys and with test keys."""
    today = DailyUsage.objects.filter(day=day_of(now))
    sums = today.aggregate(
        live=Sum("message_count", filter=Q(is_test=False), default=0),
        test=Sum("message_count", filter=Q(is_test=True), default=0),
    )
    return sums["live"], sums["test"]


def count_what_is_proven() -> int:
    """Return about how many entries and messages a verification of the ledger reads."""
    entries = CreditAccount.objects.aggregate(sum=Sum("entry_count", default=0))["sum"]
    messages = DailyUsage.objects.aggregate(sum=Sum("message_count", default=0))["sum"]
    return int(entries + messages)


def count_open_holds(*, now: datetime) -> tuple[int, int]:
    """Return how many holds are open, and how many of those should have ended by now."""
    counts = Hold.objects.filter(state=Hold.State.HELD).aggregate(
        open=Count("id"), overdue=Count("id", filter=holds.has_ended(now))
    )
    return counts["open"], counts["overdue"]
