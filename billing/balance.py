"""What an account has, and how long it lasts at the current pace."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import Min, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from billing import charges, grants, holds
from billing.models import CreditAccount, Hold, LedgerEntry
from channels.models import Channel
from common.days import UTC_NAME, day_of, last_days

DAY = timedelta(days=1)
# A later date would mean nothing.
LONGEST_RUNWAY_DAYS = 5 * 365


@dataclass(frozen=True, slots=True)
class Balance:
    """An account's credits now, in micro-credits; `held` is set aside for calls in flight."""

    balance: int = 0
    available: int = 0
    held: int = 0
    spent: int = 0
    low_balance: int = 10_000_000
    entry_count: int = 0
    first_entry_at: datetime | None = None
    # The cheapest reply of the account's channels. Less than that can buy nothing.
    cheapest_reply: int = 0
    next_expiry_at: datetime | None = None

    @property
    def is_exhausted(self) -> bool:
        return self.available <= 0 or self.available < self.cheapest_reply

    @property
    def is_below_threshold(self) -> bool:
        return self.available < self.low_balance

    @property
    def is_low(self) -> bool:
        """Return whether credits are low. False for an account that never had any."""
        return self.entry_count > 0 and self.is_below_threshold


@dataclass(frozen=True, slots=True)
class Runway:
    """The recent charges, and the day until which credits last at that pace.

    `span` is the time since the last 7 days began, or since the account's first entry if that was
    later (then `is_whole` is False). It is at least a day.
    """

    spent_microcredits: int
    span: timedelta
    is_whole: bool
    until: date | None


def get_balance(*, account_id: int, now: datetime) -> Balance:
    """Return the account's credits. Expires ended grants first, as spending would."""
    row = _balances(now).filter(account_id=account_id).first()
    if row and row["next_expiry_at"] and row["next_expiry_at"] <= now:
        grants.expire_grants(account_id=account_id, now=now)
        row = _balances(now).filter(account_id=account_id).first()
    if row is None:
        return Balance()
    held = row["held_microcredits"] - row["freed"]
    return Balance(
        balance=row["balance_microcredits"],
        spent=row["spent_microcredits"],
        available=row["balance_microcredits"] - held,
        held=held,
        low_balance=row["low_balance_microcredits"],
        entry_count=row["entry_count"],
        first_entry_at=row["first_entry_at"],
        cheapest_reply=row["cheapest"],
        next_expiry_at=row["next_expiry_at"],
    )


def _balances(now: datetime) -> QuerySet[CreditAccount, Any]:
    """Expired holds count as free, whether or not a task has released them."""
    ended = Hold.objects.filter(
        holds.has_ended(now), account_id=OuterRef("account_id"), state=Hold.State.HELD
    )
    freed = ended.values("account_id").annotate(sum=Sum("amount_microcredits")).values("sum")
    prices = Channel.objects.filter(account_id=OuterRef("account_id")).values("account_id")
    cheapest = prices.annotate(price=Min("model__price_per_reply_microcredits")).values("price")
    first = LedgerEntry.objects.filter(credit_account_id=OuterRef("account_id"), sequence=1)
    return CreditAccount.objects.annotate(
        freed=Coalesce(Subquery(freed), 0),
        cheapest=Coalesce(Subquery(cheapest), 0),
        first_entry_at=Subquery(first.values("created_at")),
    ).values(
        "balance_microcredits",
        "held_microcredits",
        "spent_microcredits",
        "low_balance_microcredits",
        "entry_count",
        "next_expiry_at",
        "freed",
        "cheapest",
        "first_entry_at",
    )


def get_runway(*, account_id: int, balance: Balance, now: datetime, zone: str = UTC_NAME) -> Runway:
    """Return what was charged in the last 7 days, and how long the balance lasts at that pace.

    For a younger account, the pace is that of the time since its first entry, at least a day.
    """
    starts_at, _ = last_days(now, zone=zone)
    spent = charges.sum_charges(account_id=account_id, starts_at=starts_at)
    first = balance.first_entry_at or starts_at
    is_whole = first <= starts_at
    span = now - starts_at if is_whole else max(DAY, now - first)
    return Runway(spent, span, is_whole, _lasts_until(balance.available, spent, span, now, zone))


def _lasts_until(
    available: int, spent: int, span: timedelta, now: datetime, zone: str
) -> date | None:
    if spent <= 0 or available <= 0:
        return None
    seconds = available * int(span.total_seconds()) // spent
    if seconds > LONGEST_RUNWAY_DAYS * 86_400:
        return None
    return day_of(now + timedelta(seconds=seconds), zone)
