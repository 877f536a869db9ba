"""What an account has, and how long that lasts at the pace it is spent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import Min, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from billing import grants, holds, selectors
from billing.days import last_days, utc_day
from billing.models import CreditAccount, Hold, LedgerEntry
from channels.models import Channel

DAY = timedelta(days=1)
# Beyond that a date says nothing.
LONGEST_RUNWAY_DAYS = 5 * 365


@dataclass(frozen=True, slots=True)
class Balance:
    """What an account has now, in micro-credits; `held` is what calls in flight have set aside."""

    balance: int = 0
    available: int = 0
    held: int = 0
    spent: int = 0
    low_balance: int = 10_000_000
    entry_count: int = 0
    first_entry_at: datetime | None = None
    # The cheapest reply of the account's own channels: less than that is as good as nothing.
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
        """Tell whether credits have run low, which an account that never had any has not seen."""
        return self.entry_count > 0 and self.is_below_threshold


@dataclass(frozen=True, slots=True)
class Runway:
    """What was charged in which time, up to now, and the UTC day credits last until at that pace.

    `span` is the time since the last 7 days began, or since the account's first entry, if that was
    later: then the pace is no whole one. A day at least.
    """

    spent_microcredits: int
    span: timedelta
    is_whole: bool
    until: date | None


def get_balance(*, account_id: int, now: datetime) -> Balance:
    """Return what the account has; takes back grants that have ended, as spending would."""
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
    """What open holds past their end had set aside is free already, whoever tidies them."""
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


def get_runway(*, account_id: int, balance: Balance, now: datetime) -> Runway:
    """Return what was charged in the last seven days, and how long the balance lasts at that pace.

    Of an account that is not as old, the pace is that of the time since its first entry, a day at
    least.
    """
    starts_at, _ = last_days(now)
    spent = selectors.sum_charges(account_id=account_id, starts_at=starts_at)
    first = balance.first_entry_at or starts_at
    is_whole = first <= starts_at
    span = now - starts_at if is_whole else max(DAY, now - first)
    return Runway(spent, span, is_whole, _lasts_until(balance.available, spent, span, now))


def _lasts_until(available: int, spent: int, span: timedelta, now: datetime) -> date | None:
    if spent <= 0 or available <= 0:
        return None
    seconds = available * int(span.total_seconds()) // spent
    if seconds > LONGEST_RUNWAY_DAYS * 86_400:
        return None
    return utc_day(now + timedelta(seconds=seconds))
