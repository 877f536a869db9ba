"""Days of time zones: they follow each other exactly, whatever the clocks do."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common import days
from common.days import day_of, end_of, start_of

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",  # changed its clocks at 00:01 until 2011
    "Asia/Kathmandu",  # 5:45
    "Asia/Beirut",  # changes its clocks at midnight, so there is none
    "America/Asuncion",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "Australia/Lord_Howe",  # changes by half an hour
    "Pacific/Apia",  # left out 30 December 2011
    "Pacific/Kiritimati",
    "Etc/GMT+12",
]
SOME_DAYS = st.dates(date(2000, 1, 1), date(2037, 12, 31))


@given(st.sampled_from(ZONES), SOME_DAYS)
@example("Pacific/Apia", date(2011, 12, 30))
@example("America/St_Johns", date(2010, 11, 7))
def test_a_day_ends_where_the_next_one_begins(zone: str, day: date) -> None:
    start, end = start_of(day, zone), end_of(day, zone)
    assert start <= end <= start + timedelta(hours=25)
    if start < end:
        last = end - timedelta(microseconds=1)
        assert day_of(start, zone) == day_of(last, zone) == day
        assert day_of(start - timedelta(microseconds=1), zone) < day < day_of(end, zone)


@given(st.sampled_from(ZONES), SOME_DAYS, st.integers(0, 90_000))
def test_every_moment_is_in_exactly_one_day(zone: str, near: date, seconds: int) -> None:
    moment = start_of(near) + timedelta(seconds=seconds)
    day = day_of(moment, zone)
    assert start_of(day, zone) <= moment < end_of(day, zone)
    around = [day + timedelta(days=number) for number in range(-2, 3)]
    holding = [one for one in around if start_of(one, zone) <= moment < end_of(one, zone)]
    assert holding == [day]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("Europe/Berlin", "2026-06-01", 24),
        ("Asia/Beirut", "2026-03-29", 23),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Pacific/Apia", "2011-12-30", 0),
        ("Pacific/Apia", "2011-12-31", 24),
    ],
)
def test_days_are_as_long_as_the_clocks_say(zone: str, day: str, hours: float) -> None:
    chosen = date.fromisoformat(day)
    assert end_of(chosen, zone) - start_of(chosen, zone) == timedelta(hours=hours)


def test_a_day_without_midnight_begins_when_the_clock_jumps() -> None:
    # Toronto's clocks went from 23:30 to 0:30.
    start = start_of(date(1919, 3, 31), "America/Toronto")
    assert start == datetime(1919, 3, 31, 4, 30, tzinfo=UTC)
    assert day_of(start - timedelta(seconds=1), "America/Toronto") == date(1919, 3, 30)


def test_a_zone_that_this_system_does_not_know_counts_as_utc() -> None:
    assert start_of(date(2026, 1, 1), "Mars/Olympus") == start_of(date(2026, 1, 1))


def test_times_are_named_in_the_zone_and_in_utc() -> None:
    moment = start_of(date(2026, 8, 15), "Europe/Berlin")
    assert days.time_words(moment, "Europe/Berlin") == "00:00 Europe/Berlin (22:00 UTC)"
    assert days.moment_words(moment, "Europe/Berlin").endswith("(22:00 UTC) on 15 August")
    assert days.time_words(moment) == "22:00 UTC"
