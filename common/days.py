"""Days and months of a time zone: which one a moment is in, and when it begins.

Days follow each other without gaps or overlaps, also where clocks change. A day begins at its first
moment, even if midnight is skipped. A date that a zone skips has no moment at all.
"""

from __future__ import annotations

import zoneinfo
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache, lru_cache

from django.utils.dateformat import format as format_date
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

UTC_NAME = "UTC"
# The length of “the last 7 days” on every page, so that the figures of two pages agree.
RECENT_DAYS = 7
ONE_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


@cache
def names() -> dict[str, str]:
    """Return the IANA names of this system's time zones, by their name in lower case."""
    known = sorted({UTC_NAME, *zoneinfo.available_timezones()} - {"Factory", "localtime"})
    return {name.lower(): name for name in known}


@lru_cache(maxsize=1_000)
def zone_of(name: str) -> tzinfo:
    """Return a time zone. UTC if this system does not know the name, so that requests go on."""
    try:
        return UTC if name == UTC_NAME else zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return UTC


def day_of(moment: datetime, zone: str = UTC_NAME) -> date:
    """Return the day that a moment is in."""
    if zone == UTC_NAME:
        return moment.astimezone(UTC).date()
    day = moment.astimezone(zone_of(zone)).date()
    # Where clocks go back across midnight, a date shows twice. Its second showing is the next day.
    return day + ONE_DAY if moment >= start_of(day + ONE_DAY, zone) else day


@lru_cache(maxsize=4_096)
def start_of(day: date, zone: str = UTC_NAME) -> datetime:
    """Return the first moment of a day, in UTC."""
    if zone == UTC_NAME:
        return datetime.combine(day, time(), UTC)
    local = datetime.combine(day, time(), zone_of(zone))
    start = local.astimezone(UTC)
    if start.astimezone(zone_of(zone)).replace(tzinfo=None) == local.replace(tzinfo=None):
        return start
    # Midnight is skipped. The clock jumps between these two moments.
    before = local.replace(fold=1).astimezone(UTC)
    while start - before > _SECOND:
        middle = before + (start - before) // 2
        middle = middle.replace(microsecond=0)
        if middle.astimezone(zone_of(zone)).date() < day:
            before = middle
        else:
            start = middle
    return start


def end_of(day: date, zone: str = UTC_NAME) -> datetime:
    """Return the first moment after a day, in UTC."""
    return start_of(day + ONE_DAY, zone)


def last_days(
    now: datetime, days: int = RECENT_DAYS, zone: str = UTC_NAME
) -> tuple[datetime, datetime]:
    """Return when the last so many days begin and end. Today is the last of them."""
    today = day_of(now, zone)
    return start_of(today - timedelta(days=days - 1), zone), end_of(today, zone)


def list_starts(starts_at: datetime, ends_at: datetime, zone: str = UTC_NAME) -> list[datetime]:
    """Return when each day of a period begins. The period begins with a day."""
    day = day_of(starts_at, zone)
    starts: list[datetime] = []
    while (start := start_of(day, zone)) < ends_at:
        # A date that a zone skips begins together with the next one.
        if not starts or start > starts[-1]:
            starts.append(start)
        day += ONE_DAY
    return starts


def first_of_month(day: date) -> date:
    """Return the first day of a day's month."""
    return day.replace(day=1)


def next_month(first: date) -> date:
    """Return the first day of the month after the one that begins on a day."""
    return first_of_month(first + timedelta(days=31))


def seconds_until(moment: datetime, now: datetime) -> int:
    """Return the seconds until a moment, rounded up, at least 1."""
    return max(1, -int((now - moment).total_seconds() // 1))


def time_words(moment: datetime, zone: str = UTC_NAME) -> str:
    """Return the time of day for a sentence: in the zone, and in UTC."""
    in_utc = f"{moment.astimezone(UTC):%H:%M} UTC"
    if zone == UTC_NAME:
        return in_utc
    return f"{moment.astimezone(zone_of(zone)):%H:%M} {zone} ({in_utc})"


def moment_words(moment: datetime, zone: str = UTC_NAME) -> str:
    """Return the time and the day for a sentence: in the zone, and the time in UTC."""
    local = moment.astimezone(zone_of(zone))
    named = {
        "time": time_words(moment, zone),
        "day": format_date(local, pgettext("date format", "j F")),
    }
    return _("%(time)s on %(day)s") % named
