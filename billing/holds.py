"""Holds that end without a charge: released by their request, or expired by the clock.

Rows are locked in one order, here and in settlement.py: hold, daily usage, spend caps, credit
account.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from datetime import date, datetime

from django.db import transaction
from django.db.models import F, Q, QuerySet

from billing import spend_caps
from billing.models import CreditAccount, DailyUsage, Hold
from common.clock import HONEST_SKEW

logger = logging.getLogger("gateway.billing")

EXPIRE_BATCH = 500


@dataclass(frozen=True, slots=True)
class PlacedHold:
    """An open hold, as the request that placed it passes it on."""

    id: uuid.UUID
    account_id: int
    channel_id: uuid.UUID
    is_test: bool
    day: date
    amount_microcredits: int
    messages_today: int
    request_id: str
    # Whether it met a spend cap when it was placed.
    is_capped: bool = False


def has_ended(now: datetime) -> Q:
    """Return the filter for holds that have expired, or that a clock ahead of ours placed.

    The expiry time of the latter means nothing. Their calls may still capture both until another
    request needs the credits. settlement.py has the same condition in SQL.
    """
    return Q(expires_at__lte=now) | Q(created_at__gt=now + HONEST_SKEW)


def list_open(*, account_id: int, now: datetime) -> QuerySet[Hold]:
    """Return the holds that make up an account's held credits, oldest first."""
    holds = Hold.objects.filter(account_id=account_id, state=Hold.State.HELD)
    paid = holds.exclude(has_ended(now)).exclude(amount_microcredits=0)
    return paid.select_related("channel").order_by("created_at")


def is_known(hold: PlacedHold) -> bool:
    """Return whether a hold's row exists. Placing it does not wait for the database's disk."""
    return Hold.objects.filter(id=hold.id).exists()


@transaction.atomic
def release_hold(*, hold: PlacedHold, now: datetime) -> bool:
    """Give credits and the day's count back. Returns False if the hold was already resolved."""
    return resolve_free(hold, state=Hold.State.RELEASED, now=now)


def expire_holds(*, account_id: int | None = None, now: datetime) -> int:
    """Release up to 500 expired holds, of one account or of all. Returns how many.

    Admission calls this when a limit refuses, and so does the clean-up task. Each hold has its own
    transaction, because several locks at once could deadlock.
    """
    expired = Hold.objects.filter(has_ended(now), state=Hold.State.HELD).order_by("id")
    if account_id is not None:
        expired = expired.filter(account_id=account_id)
    count = 0
    for row in expired[:EXPIRE_BATCH]:
        hold = PlacedHold(
            id=row.id,
            account_id=row.account_id,
            channel_id=row.channel_id,
            is_test=row.is_test,
            day=row.day,
            amount_microcredits=row.amount_microcredits,
            messages_today=0,
            request_id=row.request_id,
            is_capped=row.cap_day is not None,
        )
        with transaction.atomic():
            count += resolve_free(hold, state=Hold.State.EXPIRED, now=now)
    if count:
        logger.warning("billing.holds.expired", extra={"count": count})
    return count


def resolve_free(hold: PlacedHold, *, state: Hold.State, now: datetime) -> bool:
    """Resolve an open hold at no charge. Locks hold, daily usage, spend caps, credit account."""
    open_hold = Hold.objects.filter(id=hold.id, state=Hold.State.HELD)
    if not open_hold.update(state=state, resolved_at=now):
        return False
    DailyUsage.objects.filter(
        channel_id=hold.channel_id, is_test=hold.is_test, day=hold.day, message_count__gt=0
    ).update(message_count=F("message_count") - 1)
    if hold.amount_microcredits or hold.is_capped:
        # A cap that was set during the call has counted this hold since.
        spend_caps.give_back(hold.id)
    if hold.amount_microcredits:
        CreditAccount.objects.filter(account_id=hold.account_id).update(
            held_microcredits=F("held_microcredits") - hold.amount_microcredits
        )
    return True
