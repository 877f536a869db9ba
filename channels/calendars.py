"""How an account's days and months are counted, also while a change of its time zone waits.

A change takes effect when the running period has ended in both zones. Until then the running period
goes on, so nothing is counted again. When that is, is computed once, when the change is saved. So
whoever reads the account's row afterwards comes to the same result from the time alone.

Periods never have the same date twice: the first period after a change has a later date.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any

from common.days import UTC_NAME, day_of, end_of, first_of_month, next_month, start_of

# A request may still use the account's row as it was a moment ago, and clocks differ a little.
# Nothing that a change decides happens sooner than this after it.
MARGIN = timedelta(seconds=5)


class ChangeIsNear(Exception):
    """An earlier change takes effect within seconds, so another one cannot be saved now."""

    def __init__(self, at: datetime) -> None:
        super().__init__("An earlier change is just taking effect. Save again in ten seconds.")
        self.at = at


@dataclass(frozen=True, slots=True)
class Span:
    """The period a moment is in: its first day, its ends, and the first day of the period after."""

    first: date
    starts_at: datetime
    ends_at: datetime
    next_first: date


@dataclass(frozen=True, slots=True)
class Turn:
    """A change from one zone to the next.

    Until `until`, periods are those of the zone `before`, except that the period `last`, which
    began at `since`, goes on.
    """

    before: str
    last: date
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Count:
    """Days or months of a zone, which other days or months may precede."""

    zone: str = UTC_NAME
    turn: Turn | None = None
    is_monthly: bool = False

    def span(self, moment: datetime) -> Span:
        """Return the period that a moment is in."""
        turn = self.turn
        if turn is None:
            return self._plain(moment, self.zone)
        if moment >= turn.until:
            span = self._plain(moment, self.zone)
            return replace(span, starts_at=max(span.starts_at, turn.until))
        span = self._plain(moment, turn.before)
        if span.first < turn.last:
            return span
        return Span(turn.last, turn.since, turn.until, self._first(turn.until, self.zone))

    def changed(self, zone: str, *, now: datetime) -> Count:
        """Return the count after a change of zone. Raises ChangeIsNear."""
        if zone == self.zone:
            return self
        soon, waiting = now + MARGIN, self.waiting(now)
        if waiting and soon >= waiting.until:
            raise ChangeIsNear(waiting.until)
        before = waiting.before if waiting else self.zone
        running = self.span(soon)
        if zone == before and soon < self._end(running.first, before):
            # The earlier change has had no effect yet.
            return replace(self, zone=zone, turn=None)
        until = max(running.ends_at, self._end(running.first, zone))
        turn = Turn(before, running.first, running.starts_at, until)
        return replace(self, zone=zone, turn=turn)

    def waiting(self, now: datetime) -> Turn | None:
        """Return the change that has not taken effect yet, if any."""
        return self.turn if self.turn and now < self.turn.until else None

    def _plain(self, moment: datetime, zone: str) -> Span:
        first = self._first(moment, zone)
        ends_at = self._end(first, zone)
        return Span(first, start_of(first, zone), ends_at, self._first(ends_at, zone))

    def _first(self, moment: datetime, zone: str) -> date:
        day = day_of(moment, zone)
        return first_of_month(day) if self.is_monthly else day

    def _end(self, first: date, zone: str) -> datetime:
        return start_of(next_month(first), zone) if self.is_monthly else end_of(first, zone)


@dataclass(frozen=True, slots=True)
class Calendar:
    """How an account counts: days and months of spend caps, and the day of quotas."""

    day: Count = Count()
    month: Count = Count(is_monthly=True)
    quota_day: Count = Count()

    def changed(self, *, zone: str, quota_zone: str, now: datetime) -> Calendar:
        """Return the calendar after a change of the zones. Raises ChangeIsNear."""
        return Calendar(
            self.day.changed(zone, now=now),
            self.month.changed(zone, now=now),
            self.quota_day.changed(quota_zone, now=now),
        )

    def turns(self) -> str:
        """Return the changes as text to store beside the zones, empty without any."""
        turns = {
            name: [turn.before, str(turn.last), turn.since.isoformat(), turn.until.isoformat()]
            for name in _COUNTS
            if (turn := getattr(self, name).turn)
        }
        return json.dumps(turns) if turns else ""


_COUNTS = ("day", "month", "quota_day")
IN_UTC = Calendar()


@lru_cache(maxsize=4_096)
def read(time_zone: str, has_local_quota: bool, turns: str) -> Calendar:
    """Return the calendar that an account's row describes."""
    if time_zone == UTC_NAME and not turns:
        return IN_UTC
    stored: dict[str, Any] = json.loads(turns) if turns else {}
    found = {name: _read_turn(*turn) for name, turn in stored.items()}
    return Calendar(
        Count(time_zone, found.get("day")),
        Count(time_zone, found.get("month"), is_monthly=True),
        Count(time_zone if has_local_quota else UTC_NAME, found.get("quota_day")),
    )


def _read_turn(before: str, last: str, since: str, until: str) -> Turn:
    return Turn(
        before,
        date.fromisoformat(last),
        datetime.fromisoformat(since),
        datetime.fromisoformat(until),
    )
