"""Sums over all accounts, for the staff. Reads only small tables, never the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from django.db.models import Count, F, Sum

from billing import holds
from billing.models import CreditAccount, CreditGrant, DailyUsage, Hold


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


def count_messages_since(day: date) -> int:
    """Return about how many messages were sent with live keys since a day."""
    usage = DailyUsage.objects.filter(day__gte=day, is_test=False)
    return int(usage.aggregate(sum=Sum("message_count", default=0))["sum"])


def list_low_balances(*, most: int) -> list[CreditAccount]:
    """Return accounts below their warning threshold, the largest customers first.

    Leaves out accounts that are disabled or never had credits. `available` is set on each.
    """
    available = F("balance_microcredits") - F("held_microcredits")
    low = CreditAccount.objects.annotate(available=available).filter(
        available__lt=F("low_balance_microcredits"), entry_count__gt=0, account__is_enabled=True
    )
    return list(low.select_related("account").order_by("-spent_microcredits", "-pk")[:most])


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
