"""The day that a quota counts: UTC's, whatever TIME_ZONE or the database's zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta


def utc_day(moment: datetime) -> date:
    """Return the UTC day of a moment, whatever TIME_ZONE or the database's zone."""
    return moment.astimezone(UTC).date()


def seconds_to_next_day(moment: datetime) -> int:
    """Return whole seconds, rounded up, until the UTC day of a moment ends."""
    midnight = datetime.combine(utc_day(moment) + timedelta(days=1), time(), UTC)
    return max(1, -int((moment - midnight).total_seconds() // 1))
