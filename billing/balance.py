"""What an account has, and how long it lasts at the current pace."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from billing import charges, grants, settlement
from common import db
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
    newest_entry_at: datetime | None = None
    # The cheapest reply of the account's channels. Less than that can buy nothing.
    cheapest_reply: int = 0
    next_expiry_at: datetime | None = None
    # What was charged in the last 7 days of the zone.
    charged_lately: int = 0
    zone: str = UTC_NAME

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


# One statement, because every page of the console shows all of it. Expired holds count as free,
# whether or not a task has released them.
_BALANCE = f"""
SELECT c.balance_microcredits,
       c.held_microcredits - COALESCE((
       SELECT SUM(h.amount_microcredits) FROM billing_hold h
        WHERE h.account_id = c.account_id AND h.state = 'held' AND {settlement.HAS_ENDED}), 0),
       c.spent_microcredits, c.low_balance_microcredits, c.entry_count,
       COALESCE((
       SELECT MIN(m.price_per_reply_microcredits) FROM channels_channel ch
         JOIN channels_languagemodel m ON m.id = ch.model_id
        WHERE ch.account_id = c.account_id), 0),
       ({charges.SUM_CHARGES}),
       (SELECT e.created_at FROM billing_ledgerentry e
         WHERE e.credit_account_id = c.account_id AND e.sequence = 1),
       (SELECT e.created_at FROM billing_ledgerentry e
         WHERE e.credit_account_id = c.account_id AND e.sequence = c.entry_count),
       c.next_expiry_at
  FROM billing_creditaccount c WHERE c.account_id = %(account)s
"""  # noqa: S608  # built from constants only


def get_balance(*, account_id: int, now: datetime, zone: str = UTC_NAME) -> Balance:
    """Return the account's credits. Expires ended grants first, as spending would."""
    lately, _ = last_days(now, zone=zone)
    params = charges.charges_params(account_id, lately) | settlement.ended_params(now)
    row = db.fetch_row(_BALANCE, params)
    if row and row[-1] and db.time_value(row[-1]) <= now:
        grants.expire_grants(account_id=account_id, now=now)
        row = db.fetch_row(_BALANCE, params)
    if row is None:
        return Balance(zone=zone)
    *amounts, first_entry_at, newest_entry_at, next_expiry_at = row
    balance, held, spent, low_balance, entry_count, cheapest, charged = map(int, amounts)
    return Balance(
        balance=balance,
        available=balance - held,
        held=held,
        spent=spent,
        low_balance=low_balance,
        entry_count=entry_count,
        first_entry_at=first_entry_at and db.time_value(first_entry_at),
        newest_entry_at=newest_entry_at and db.time_value(newest_entry_at),
        cheapest_reply=cheapest,
        next_expiry_at=next_expiry_at and db.time_value(next_expiry_at),
        charged_lately=charged,
        zone=zone,
    )


def get_runway(*, balance: Balance, now: datetime) -> Runway:
    """Return what was charged in the last 7 days, and how long the balance lasts at that pace.

    For a younger account, the pace is that of the time since its first entry, at least a day.
    """
    starts_at, _ = last_days(now, zone=balance.zone)
    first = balance.first_entry_at or starts_at
    is_whole = first <= starts_at
    span = now - starts_at if is_whole else max(DAY, now - first)
    spent = balance.charged_lately
    return Runway(
        spent, span, is_whole, _lasts_until(balance.available, spent, span, now, balance.zone)
    )


def _lasts_until(
    available: int, spent: int, span: timedelta, now: datetime, zone: str
) -> date | None:
    if spent <= 0 or available <= 0:
        return None
    seconds = available * int(span.total_seconds()) // spent
    if seconds > LONGEST_RUNWAY_DAYS * 86_400:
        return None
    return day_of(now + timedelta(seconds=seconds), zone)
