"""Days as quotas and pages count them: UTC's, whatever TIME_ZONE or the database's zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

# What “the last 7 days” has on every page, so that figures of two pages agree.
RECENT_DAYS = 7


def utc_day(moment: datetime) -> date:
    """Return the UTC day of a moment, whatever TIME_ZONE or the database's zone."""
    return moment.astimezone(UTC).date()


def start_of(day: date) -> datetime:
    """Return the first moment of a UTC day."""
    return datetime.combine(day, time(), UTC)


def last_days(now: datetime, days: int = RECENT_DAYS) -> tuple[datetime, datetime]:
    """Return where the last UTC days begin, and where today, which is one of them, ends."""
    tomorrow = start_of(utc_day(now) + timedelta(days=1))
    return tomorrow - timedelta(days=days), tomorrow


def seconds_to_next_day(moment: datetime) -> int:
    """Return whole seconds, rounded up, until the UTC day of a moment ends."""
    midnight = start_of(utc_day(moment) + timedelta(days=1))
    return max(1, -int((moment - midnight).total_seconds() // 1))
