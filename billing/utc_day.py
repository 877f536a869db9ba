"""Days of quotas and pages: UTC days, whatever TIME_ZONE or the database's time zone is."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

# The length of “the last 7 days” on every page, so that the figures of two pages agree.
RECENT_DAYS = 7


def utc_day(moment: datetime) -> date:
    """Return the UTC day of a moment."""
    return moment.astimezone(UTC).date()


def start_of(day: date) -> datetime:
    """Return the first moment of a UTC day."""
    return datetime.combine(day, time(), UTC)


def last_days(now: datetime, days: int = RECENT_DAYS) -> tuple[datetime, datetime]:
    """Return when the last `days` UTC days begin and end. Today is the last of them."""
    tomorrow = start_of(utc_day(now) + timedelta(days=1))
    return tomorrow - timedelta(days=days), tomorrow


def seconds_to_next_day(moment: datetime) -> int:
    """Return the seconds until the UTC day of a moment ends, rounded up."""
    midnight = start_of(utc_day(moment) + timedelta(days=1))
    return max(1, -int((moment - midnight).total_seconds() // 1))
