"""Rolls up the usage of finished hours and days, and corrects rollups that came too early.

Each hour or day is one transaction, which advances the progress and writes the rows of that time.
Only speed depends on it: until then, the same figures come from messages (rows.py).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Greatest

from channels.models import Account
from common import db
from common.days import UTC_NAME, day_of
from common.db.plans import planned_for_values
from conversations.models import RollupProgress, UsageRollup
from conversations.usage import provider_days, sums
from conversations.usage.rows import floor
from conversations.usage.sums import COLUMNS, DAY, HOUR, KEYS

logger = logging.getLogger("gateway.conversations")

# A message gets its time before it is written. This allows for clocks that differ between machines,
# and for statements that wait.
GRACE = timedelta(minutes=10)
# Hours are kept for today and yesterday, which contain the last 24 hours. If an account has another
# zone than UTC, they are kept for the longest period that pages offer, because its days are made of
# hours: for all accounts, so that a reader need not know whose hours are kept since when.
_HOURS_KEPT = DAY
_HOURS_KEPT_FOR_ZONES = 31 * DAY
_THE_ONE = 1


@dataclass(frozen=True, slots=True)
class Span:
    """An hour or a day (UTC)."""

    starts_at: datetime
    step: timedelta

    @property
    def ends_at(self) -> datetime:
        return self.starts_at + self.step

    @property
    def params(self) -> dict[str, Any]:
        return {
            "start": db.param(self.starts_at),
            "end": db.param(self.ends_at),
            "is_day": self.step == DAY,
        }


def _spans(starts_at: datetime, ends_at: datetime, step: timedelta) -> Iterator[Span]:
    while starts_at < ends_at:
        yield Span(starts_at, step)
        starts_at += step


# --- Finished hours and days --------------------------------------------------------------------


def roll_up(*, now: datetime) -> int:
    """Roll up the finished hours and days. Returns how many.

    If two run at the same time, each hour and day is still rolled up once.
    """
    until = floor(now - GRACE, HOUR)
    today = floor(until, DAY)
    progress = _begin(today)
    count = 0
    for day in _spans(progress.days_until, today, DAY):
        count += _go_on(day, "days_until")
    has_zones = Account.objects.exclude(time_zone=UTC_NAME).exists()
    kept = _HOURS_KEPT_FOR_ZONES if has_zones else _HOURS_KEPT
    for hour in _spans(_forget_hours(today - kept), until, HOUR):
        count += _go_on(hour, "hours_until")
    first = _first_day() if progress.providers_until is None else None
    provider_days.add_up(first=first or today, until=until)
    return count


def _begin(today: datetime) -> RollupProgress:
    """Return the progress. The first run creates it, with nothing rolled up yet."""
    progress = RollupProgress.objects.filter(pk=_THE_ONE).first()
    if progress is None:
        first = min(_first_day() or today, today)
        times = dict.fromkeys(("days_until", "hours_from", "hours_until"), first)
        progress, _ = RollupProgress.objects.get_or_create(pk=_THE_ONE, defaults=times)
    return progress


# Looks up each channel separately, which the index answers at once.
_FIRST = """
SELECT MIN(first) FROM (
    SELECT (SELECT MIN(m.created_at) FROM conversations_message m
             WHERE m.channel_id = c.id AND m.role = 'assistant') AS first FROM channels_channel c
     UNION ALL SELECT MIN(created_at) FROM conversations_failedrequest) AS firsts
"""


def _first_day() -> datetime | None:
    """Return the day of the first reply or failure, or None if there is none."""
    row = db.fetch_row(_FIRST, {})
    return floor(db.time_value(row[0]), DAY) if row and row[0] else None


def _go_on(span: Span, until: str) -> bool:
    """Roll up the next hour or day. Returns False if another process has done it."""
    with transaction.atomic():
        progress = RollupProgress.objects.filter(pk=_THE_ONE, **{until: span.starts_at})
        is_next = bool(progress.update(**{until: span.ends_at}))
        if is_next:
            _write(span)
    return is_next


@transaction.atomic
def _forget_hours(before: datetime) -> datetime:
    """Delete hours that their day now covers. Returns the time up to which hours are rolled up."""
    RollupProgress.objects.filter(pk=_THE_ONE).update(
        hours_from=Greatest(F("hours_from"), before), hours_until=Greatest(F("hours_until"), before)
    )
    UsageRollup.objects.filter(is_day=False, starts_at__lt=before).delete()
    return RollupProgress.objects.get(pk=_THE_ONE).hours_until


_OF_ALL_CHANNELS = """m.channel_id IN (SELECT id FROM channels_channel)
    AND m.created_at >= %(start)s AND m.created_at < %(end)s"""


def _messages(span: Span, columns: tuple[str, ...], *, with_failures: bool = True) -> str:
    return sums.sum_messages(_OF_ALL_CHANNELS, columns, span.step, with_failures=with_failures)


def _write(span: Span, *, with_failures: bool = True) -> None:
    columns = ", ".join((*KEYS, *COLUMNS))
    messages = _messages(span, COLUMNS, with_failures=with_failures)
    statement = f"""
        INSERT INTO conversations_usagerollup (is_day, {columns})
        SELECT %(is_day)s, {columns} FROM ({messages}) AS used
    """  # noqa: S608  # our own words alone
    with planned_for_values():
        db.execute(statement, span.params)


# --- Corrections --------------------------------------------------------------------------------

_COMPARED = ("request_count", "input_tokens", "output_tokens", "charged_microcredits")


def mend(*, now: datetime) -> int:
    """Compare all rollups with the messages and rewrite those that differ. Returns how many.

    Rows differ if messages of their time arrived later, from an import or a wrong clock. Failures
    past their retention are gone, so their sums stay as they are.
    """
    progress = RollupProgress.objects.filter(pk=_THE_ONE).first()
    if progress is None:
        return 0
    kept_since = now - timedelta(days=settings.SESSION_RETENTION_DAYS)
    mended = [
        span
        for span in _rolled_up(progress)
        if _mend(span, with_failures=span.starts_at > kept_since)
    ]
    for day in {day_of(span.starts_at) for span in mended}:
        provider_days.add_up_again(day)
    if mended:
        first = min(span.starts_at for span in mended)
        fields = {"count": len(mended), "first": first.isoformat()}
        logger.warning("conversations.usage.rows.mended", extra=fields)
    return len(mended)


def _rolled_up(progress: RollupProgress) -> Iterator[Span]:
    first = _first_day() or progress.days_until
    yield from _spans(first, progress.days_until, DAY)
    yield from _spans(progress.hours_from, progress.hours_until, HOUR)


def _mend(span: Span, *, with_failures: bool) -> bool:
    messages = _messages(span, _COMPARED, with_failures=with_failures)
    if not _differs(span, messages, with_failures=with_failures):
        return False
    rows = UsageRollup.objects.filter(is_day=span.step == DAY, starts_at=span.starts_at)
    if not with_failures:
        rows = rows.filter(error_code="")
    with transaction.atomic():
        # One at a time, because a second one would write the same rows.
        RollupProgress.objects.select_for_update().get(pk=_THE_ONE)
        rows.delete()
        _write(span, with_failures=with_failures)
    return True


def _differs(span: Span, messages: str, *, with_failures: bool) -> bool:
    """Return whether the sums of the messages differ from the rows."""
    keys = ", ".join(KEYS)
    less = ", ".join(f"-{name}" for name in _COMPARED)
    rest = " OR ".join(f"SUM({name}) <> 0" for name in _COMPARED)
    of_replies = "" if with_failures else "AND error_code = ''"
    statement = f"""
        SELECT COUNT(*) FROM (
            SELECT {keys} FROM (
                {messages} UNION ALL SELECT {keys}, {less} FROM conversations_usagerollup
                 WHERE starts_at = %(start)s AND is_day = %(is_day)s {of_replies}) AS rows_of_both
             GROUP BY {keys} HAVING {rest}) AS differing
    """  # noqa: S608  # our own words alone
    with planned_for_values():
        row = db.fetch_row(statement, span.params)
    return bool(row and row[0])
