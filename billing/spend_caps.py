"""Spend caps: how many credits a channel, or one of its keys, may spend in a day and in a month.

A cap is one row with what is left. A call takes the most it can cost in the statement that places
its hold (admission.py). What it does not use comes back when the hold is resolved (settlement.py,
holds.py). So a cap is as exact as the balance, however many requests race.

The day and the month are those of the admission, in the account's time zone
(channels/calendars.py). The first call of a new day starts a new period.
A channel that never had a cap has no row, and costs nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import BigIntegerField, F, Q, QuerySet, Value
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext as _

from billing import charges
from billing.errors import SpendCapReached
from billing.models import Hold, SpendCap
from channels import api_keys, audit
from channels.api_keys import IssuedKey
from channels.audit import Actor
from channels.calendars import Calendar, Span
from channels.callers import Caller
from channels.models import Account, ApiKey, Channel
from common import db
from common.db import Returned, Step
from common.money import show_credits
from common.pages.numbers import local_credits

# What is left where there is no limit. Far above any sum of credits, and far below an overflow.
NO_LIMIT = 2**62
# Typed, because Django sends an untyped number as four bytes.
_UNLIMITED = Value(NO_LIMIT, output_field=BigIntegerField())


@dataclass(frozen=True, slots=True)
class Period:
    """The day and the month in which a moment counts for an account."""

    day: Span
    month: Span


def period_of(calendar: Calendar, now: datetime) -> Period:
    """Return the period of a moment."""
    return Period(calendar.day.span(now), calendar.month.span(now))


# --- Giving back --------------------------------------------------------------------------------


def after(step: str) -> str:
    """Return a condition that is always true, and makes PostgreSQL run that step first."""
    return f" AND (SELECT COUNT(*) FROM {step}) >= 0"  # noqa: S608  # our own names


# {hold}: a source with a hold's columns. {by}: the column of what it took from this cap.
_GIVE_BACK = """
UPDATE billing_spendcap AS s
   SET day_left_microcredits = s.day_left_microcredits
       + CASE WHEN s.day = h.cap_day THEN h.{by} - %(charge)s ELSE 0 END,
       month_left_microcredits = s.month_left_microcredits
       + CASE WHEN s.month = h.cap_month THEN h.{by} - %(charge)s ELSE 0 END
  FROM {hold} h WHERE s.id = h.{scope} AND h.{by} > %(charge)s{order}
RETURNING day_left_microcredits
"""
_BY_CHANNEL, _BY_KEY = "channel_capped_microcredits", "key_capped_microcredits"


def giving_back(resolved: Returned) -> tuple[Step, Step]:
    """Return the steps by which a charged hold gives back what it did not spend, in order."""
    by_channel = _GIVE_BACK.format(
        hold=resolved, scope=resolved["channel_id"], by=resolved[_BY_CHANNEL], order=""
    )
    by_key = _GIVE_BACK.format(
        hold=resolved, scope=resolved["key_id"], by=resolved[_BY_KEY], order=after("channelback")
    )
    return Step("channelback", ("remaining",), by_channel), Step("keyback", ("remaining",), by_key)


def give_back(hold_id: uuid.UUID, *, charged_microcredits: int = 0) -> None:
    """Return to the caps what a hold took and did not spend, once it is resolved."""
    for scope, by in (("channel_id", _BY_CHANNEL), ("key_id", _BY_KEY)):
        statement = _GIVE_BACK.format(
            hold="billing_hold", scope=scope, by=by, order=" AND h.id = %(hold)s"
        )
        db.execute(statement, {"hold": hold_id.hex, "charge": charged_microcredits})


# --- Periods ------------------------------------------------------------------------------------


def _caps_of(caller: Caller) -> QuerySet[SpendCap]:
    return SpendCap.objects.filter(id__in=[caller.channel_id, caller.key_id or caller.channel_id])


def start_period(*, caller: Caller, amount_microcredits: int, now: datetime) -> bool:
    """Start the day, and perhaps the month, of the caller's caps that still show another one.

    Returns whether there is room for the amount now, perhaps because another call has started it.
    """
    # The channel's first, as everywhere.
    caps = sorted(_caps_of(caller), key=lambda cap: cap.key_id is not None)
    period = period_of(caller.calendar, now)
    if any(_changes_of(cap, period) for cap in caps):
        # In one transaction, so that no call takes from the new day of the one and the old day of
        # the other.
        with transaction.atomic():
            for cap in caps:
                _start_period(cap, period)
        caps = list(_caps_of(caller))
    return all(
        spending.left_microcredits >= amount_microcredits
        for cap in caps
        for spending in list_spending(cap, calendar=caller.calendar, now=now)
    )


def _start_period(cap: SpendCap, period: Period) -> None:
    if changes := _changes_of(cap, period):
        # Of several calls at once, one starts it.
        SpendCap.objects.filter(id=cap.id, day=cap.day, month=cap.month).update(**changes)


def _changes_of(cap: SpendCap, period: Period) -> dict[str, Any]:
    """Return what starts the cap's day and month, empty if both are running."""
    changes: dict[str, Any] = {}
    for name, stored, span in (("day", cap.day, period.day), ("month", cap.month, period.month)):
        if not span.first <= stored <= span.next_first:
            changes |= {
                name: span.first,
                f"{name}_left_microcredits": Coalesce(f"{name}_limit_microcredits", _UNLIMITED),
                f"{name}_alerted": 0,
            }
    return changes


def _left(limit_microcredits: int | None) -> int:
    return NO_LIMIT if limit_microcredits is None else limit_microcredits


def refusal_of(*, caller: Caller, amount_microcredits: int, now: datetime) -> SpendCapReached:
    """Return the refusal of a call that the caps leave no room for. Names the latest reset."""
    calendar = caller.calendar
    reached = [
        spending
        for cap in _caps_of(caller)
        for spending in list_spending(cap, calendar=calendar, now=now)
        if spending.left_microcredits < amount_microcredits
    ]
    zone = calendar.day.zone
    if not reached:  # another call has given back its room since
        return SpendCapReached(resets_at=calendar.day.span(now).ends_at, zone=zone)
    last = max(reached, key=lambda spending: spending.resets_at)
    return SpendCapReached(
        resets_at=last.resets_at,
        zone=zone,
        limit=_readable(last.limit_microcredits),
        period=last.period,
    )


# --- Setting and reading caps -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spending:
    """A cap's limit and what is spent of it in the running period, calls in flight included."""

    period: str
    limit_microcredits: int | None
    used_microcredits: int
    resets_at: datetime

    @property
    def left_microcredits(self) -> int:
        return _left(self.limit_microcredits) - self.used_microcredits

    @property
    def percent(self) -> int:
        """Return the share of the limit that is used up, rounded down. 0 without a limit."""
        if self.limit_microcredits is None:
            return 0
        if not self.limit_microcredits:
            return 100
        return self.used_microcredits * 100 // self.limit_microcredits


def list_spending(cap: SpendCap, *, calendar: Calendar, now: datetime) -> list[Spending]:
    """Return the cap's day and month. A period that has ended counts as not yet used."""
    period = period_of(calendar, now)
    return [
        Spending(name, limit, _left(limit) - left if first >= span.first else 0, span.ends_at)
        for name, limit, left, first, span in (
            ("day", cap.day_limit_microcredits, cap.day_left_microcredits, cap.day, period.day),
            (
                "month",
                cap.month_limit_microcredits,
                cap.month_left_microcredits,
                cap.month,
                period.month,
            ),
        )
    ]


def list_caps_of(caller: Caller) -> list[SpendCap]:
    """Return the caps of this caller's channel and key. None for a test key: it costs nothing."""
    return (
        [] if caller.is_test else list(_caps_of(caller).order_by(F("key_id").asc(nulls_first=True)))
    )


def guess_left(*, caller: Caller, now: datetime) -> int:
    """Return what the tightest cap leaves to spend, in micro-credits, without locking anything."""
    return min(
        (
            spending.left_microcredits
            for cap in list_caps_of(caller)
            for spending in list_spending(cap, calendar=caller.calendar, now=now)
        ),
        default=NO_LIMIT,
    )


def list_caps(*, channel_ids: Sequence[uuid.UUID]) -> list[SpendCap]:
    """Return the caps of these channels and of their keys that still work."""
    has_limit = Q(day_limit_microcredits__isnull=False) | Q(month_limit_microcredits__isnull=False)
    caps = SpendCap.objects.filter(has_limit, channel_id__in=channel_ids, key__revoked_at=None)
    return list(caps.select_related("channel__account", "key").order_by("channel_id", "key_id"))


def find_cap(*, channel: Channel, key: ApiKey | None = None) -> SpendCap | None:
    """Return the cap of a channel, or of one of its keys, or None if it never had one."""
    return SpendCap.objects.filter(id=(key or channel).id).first()


def half_used(period: str) -> Q:
    """Return the filter for caps of which half or more of the day or month is used."""
    limit = F(f"{period}_limit_microcredits")
    return Q(**{f"{period}_left_microcredits__lte": limit / 2 + 1})


def list_half_used(*, account_id: int, now: datetime) -> list[tuple[SpendCap, Spending]]:
    """Return what an account's caps have used, from 50 % on, the fullest first."""
    caps = SpendCap.objects.filter(
        half_used("day") | half_used("month"), channel__account_id=account_id, key__revoked_at=None
    )
    found = [
        (cap, spending)
        for cap in caps.select_related("channel__account", "key")
        for spending in list_spending(cap, calendar=cap.channel.account.calendar, now=now)
        if spending.percent >= 50
    ]
    return sorted(found, key=lambda each: -each[1].percent)


def set_cap(
    *,
    channel: Channel,
    key: ApiKey | None = None,
    day_microcredits: int | None,
    month_microcredits: int | None,
    actor: Actor,
    now: datetime,
) -> None:
    """Set how much a channel, or one of its keys, may spend in a day and in a month.

    None removes a limit. What was spent before in the running day and month counts, and so do
    calls in flight. Raises ValidationError, by field, for a limit below what is spent.
    """
    limits = {"day": day_microcredits, "month": month_microcredits}
    if limits != {"day": None, "month": None}:
        _ensure_row(channel, key, now)
    _set_limits(channel, key, limits, actor, now)


@transaction.atomic
def rotate_key(*, api_key: ApiKey, overlap: timedelta, actor: Actor) -> IssuedKey:
    """Rotate a key. Its successor has the same spend cap, of which it has spent nothing yet.

    Raises what api_keys.rotate_api_key raises.
    """
    issued = api_keys.rotate_api_key(api_key=api_key, overlap=overlap, actor=actor)
    if (cap := find_cap(channel=api_key.channel, key=api_key)) is not None:
        set_cap(
            channel=api_key.channel,
            key=issued.record,
            day_microcredits=cap.day_limit_microcredits,
            month_microcredits=cap.month_limit_microcredits,
            actor=actor,
            now=timezone.now(),
        )
    return issued


_COUNT_CHANGE = """
INSERT INTO billing_dailyusage (channel_id, is_test, day, message_count, cap_changes)
VALUES (%(channel)s, %(is_test)s, %(day)s, 0, 1)
ON CONFLICT (channel_id, is_test, day) DO UPDATE
   SET cap_changes = billing_dailyusage.cap_changes + 1
"""


@transaction.atomic
def _ensure_row(channel: Channel, key: ApiKey | None, now: datetime) -> None:
    """Create the row, if there is none. From its commit on, each call that is admitted counts.

    Each admission locks its day's row. So those that have locked it before are visible after this,
    and those that lock it later begin again, and count. The neighbouring days are those of clocks
    that are a little ahead or behind.
    """
    if SpendCap.objects.filter(id=(key or channel).id).exists():
        return
    calendar = Account.objects.get(id=channel.account_id).calendar
    today = calendar.quota_day.span(now).first
    # Where a new time zone takes effect, a date may be left out.
    for days in (-2, -1, 0, 1, 2):
        params = {
            "channel": channel.id.hex,
            "is_test": False,
            "day": (today + timedelta(days)).isoformat(),
        }
        db.execute(_COUNT_CHANGE, params)
    period = period_of(calendar, now)
    row = SpendCap(
        id=(key or channel).id,
        channel=channel,
        key=key,
        day=period.day.first,
        month=period.month.first,
        day_left_microcredits=NO_LIMIT,
        month_left_microcredits=NO_LIMIT,
    )
    SpendCap.objects.bulk_create([row], ignore_conflicts=True)


@transaction.atomic
def _set_limits(
    channel: Channel,
    key: ApiKey | None,
    limits: dict[str, int | None],
    actor: Actor,
    now: datetime,
) -> None:
    row = SpendCap.objects.filter(id=(key or channel).id)
    if not row.exists():
        return
    # First the holds, then the cap, as everywhere.
    open_holds = list(_open_holds(channel, key).select_for_update())
    cap = row.select_for_update().get()
    calendar = cap.channel.account.calendar
    period = period_of(calendar, now)
    _start_period(cap, period)
    if not cap.is_complete:
        _count_what_was_before(cap, open_holds, period)
    cap.refresh_from_db()
    before = {"day": cap.day_limit_microcredits, "month": cap.month_limit_microcredits}
    spending = list_spending(cap, calendar=calendar, now=now)
    used = {each.period: each.used_microcredits for each in spending}
    _require_room(limits, before, used)
    row.update(
        day_limit_microcredits=limits["day"],
        month_limit_microcredits=limits["month"],
        day_left_microcredits=_left(limits["day"]) - used["day"],
        month_left_microcredits=_left(limits["month"]) - used["month"],
        day_alerted=0,
        month_alerted=0,
    )
    changes = {
        f"credits a {name}": (_readable(before[name]), _readable(limit))
        for name, limit in limits.items()
        if before[name] != limit
    }
    if changes:
        audit.record(
            "key.spend_cap_changed" if key else "channel.spend_cap_changed",
            actor=actor,
            account_id=channel.account_id,
            channel=channel,
            target=key.masked if key else "",
            changes=changes,
        )


def _readable(limit_microcredits: int | None) -> str:
    return "no limit" if limit_microcredits is None else show_credits(limit_microcredits)


def _require_room(
    limits: dict[str, int | None], before: dict[str, int | None], used: dict[str, int]
) -> None:
    """Raise ValidationError for a new limit that is used up already, by field."""
    errors = {}
    texts = {
        "day": _(
            "Enter at least %(amount)s, which is spent today already. Or leave it empty for no "
            "limit."
        ),
        "month": _(
            "Enter at least %(amount)s, which is spent this month already. Or leave it empty for "
            "no limit."
        ),
    }
    for name, text in texts.items():
        limit = limits[name]
        if limit is not None and limit != before[name] and limit < used[name]:
            errors[f"spend_cap_{name}"] = text % {"amount": local_credits(used[name])}
    if errors:
        raise ValidationError(errors)


def _open_holds(channel: Channel, key: ApiKey | None) -> QuerySet[Hold]:
    open_holds = Hold.objects.filter(
        account_id=channel.account_id, channel_id=channel.id, state=Hold.State.HELD
    )
    return open_holds.filter(key_id=key.id) if key else open_holds


def _count_what_was_before(cap: SpendCap, open_holds: Iterable[Hold], period: Period) -> None:
    """Count what was spent in this period before the row existed, and the calls in flight.

    The locks keep calls from taking or giving back meanwhile.
    """
    taken_by = _BY_KEY if cap.key_id else _BY_CHANNEL
    for hold in open_holds:
        if hold.created_at >= period.month.starts_at:
            is_today = hold.created_at >= period.day.starts_at
            Hold.objects.filter(id=hold.id).update(
                cap_day=period.day.first - timedelta(days=not is_today),
                cap_month=period.month.first,
                **{taken_by: hold.amount_microcredits},
            )
    by_day, by_month = charges.sum_spent(
        account_id=cap.channel.account_id,
        channel_id=cap.channel_id,
        key_id=cap.key_id,
        day_starts_at=period.day.starts_at,
        month_starts_at=period.month.starts_at,
    )
    SpendCap.objects.filter(id=cap.id).update(
        is_complete=True,
        day_left_microcredits=NO_LIMIT - by_day,
        month_left_microcredits=NO_LIMIT - by_month,
    )
