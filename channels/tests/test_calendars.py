"""After a change of time zone, the running period goes on until it has ended in both zones."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels import calendars
from channels.calendars import MARGIN, Calendar, ChangeIsNear, Count, Span
from common.days import start_of

ZONES = [
    "UTC", "Europe/Berlin", "America/Los_Angeles", "Asia/Kathmandu", "Pacific/Kiritimati",
    "Etc/GMT+12", "Asia/Beirut", "Pacific/Apia",
]  # fmt: skip
NOON = datetime(2026, 8, 14, 12, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_to_a_zone_further_west_the_running_day_lasts_longer() -> None:
    count = Count("Europe/Berlin").changed("America/Los_Angeles", now=NOON)
    running = count.span(NOON)
    assert (running.first, running.ends_at) == (date(2026, 8, 14), at("2026-08-15T07:00"))
    assert running.starts_at == at("2026-08-13T22:00")
    # Berlin's midnight passes.
    assert count.span(at("2026-08-14T22:00")) == running
    following = count.span(running.ends_at)
    assert (following.first, following.starts_at) == (date(2026, 8, 15), running.ends_at)


def test_a_change_leaves_the_days_before_it_as_they_were() -> None:
    # Clocks differ: a moment may be earlier than the change that the account's row already has.
    count = Count("Europe/Berlin").changed("America/Los_Angeles", now=NOON)
    before = NOON - timedelta(days=1)
    assert count.span(before) == Count("Europe/Berlin").span(before)


def test_to_a_zone_further_east_the_next_day_is_shorter() -> None:
    count = Count("UTC").changed("Europe/Berlin", now=at("2026-08-14T23:00"))
    running = count.span(at("2026-08-14T23:00"))
    assert (running.first, running.ends_at) == (date(2026, 8, 14), at("2026-08-15T00:00"))
    following = count.span(running.ends_at)
    assert (following.starts_at, following.ends_at) == (running.ends_at, at("2026-08-15T22:00"))


def test_an_early_return_is_as_if_nothing_had_changed() -> None:
    away = Count("Europe/Berlin").changed("America/Los_Angeles", now=NOON)
    assert away.changed("Europe/Berlin", now=NOON + timedelta(hours=1)) == Count("Europe/Berlin")


def test_a_return_after_the_old_midnight_does_not_end_the_day() -> None:
    away = Count("Europe/Berlin").changed("America/Los_Angeles", now=NOON)
    back = away.changed("Europe/Berlin", now=at("2026-08-14T23:00"))
    assert back.span(at("2026-08-14T23:00")) == away.span(at("2026-08-14T23:00"))
    assert back.span(at("2026-08-15T07:00")).first == date(2026, 8, 15)


def test_a_month_changes_when_it_has_ended_in_both_zones() -> None:
    count = Count("UTC", is_monthly=True).changed("America/Los_Angeles", now=NOON)
    assert count.span(NOON).ends_at == at("2026-09-01T07:00")
    assert count.span(at("2026-09-01T06:59")).first == date(2026, 8, 1)
    assert count.span(at("2026-09-01T07:00")).ends_at == at("2026-10-01T07:00")


def test_a_change_just_before_midnight_leaves_that_midnight_alone() -> None:
    # A request that still uses the earlier row gets the same days as one that does not.
    moment = at("2026-08-14T21:59:59")
    count = Count("Europe/Berlin").changed("UTC", now=moment)
    for seconds in (-1, 0, 0.5, 1, 4.9):
        later = moment + timedelta(seconds=seconds)
        assert count.span(later).first == Count("Europe/Berlin").span(later).first
    # The day that began at 22:00 goes on until it has ended in UTC too.
    assert count.span(at("2026-08-14T22:00")).ends_at == at("2026-08-16T00:00")


def test_a_second_change_waits_for_one_that_is_just_taking_effect() -> None:
    count = Count("UTC").changed("Europe/Berlin", now=NOON)
    with pytest.raises(ChangeIsNear):
        count.changed("Asia/Kathmandu", now=at("2026-08-14T23:59:57"))


MOVES = st.lists(st.tuples(st.integers(1, 100_000), st.sampled_from(ZONES)), max_size=6)


@settings(deadline=None)
@given(st.sampled_from(ZONES), st.booleans(), st.integers(0, 30_000_000), MOVES)
def test_no_change_ends_a_period_early_or_starts_one_twice(
    zone: str, is_monthly: bool, start: int, moves: list[tuple[int, str]]
) -> None:
    """Walk through days and changes, and look at the periods as a limit would."""
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=start)
    count = Count(zone, is_monthly=is_monthly)
    seen: list[Span] = [count.span(now)]
    for seconds, to in moves:
        for moment in _boundaries(count, now, now + timedelta(seconds=seconds)):
            _look(seen, count, moment)
        now += timedelta(seconds=seconds)
        _look(seen, count, now)
        try:
            changed = count.changed(to, now=now)
        except ChangeIsNear:
            continue
        # Requests of these seconds may still know the old row.
        for later in (timedelta(), MARGIN / 2, MARGIN - timedelta(microseconds=1)):
            assert changed.span(now + later).first == count.span(now + later).first
        assert changed.span(now).ends_at >= count.span(now).ends_at or changed == Count(
            to, is_monthly=is_monthly
        )
        count = calendars_round_trip(changed)
        _look(seen, count, now)


def _boundaries(count: Count, now: datetime, until: datetime) -> list[datetime]:
    found: list[datetime] = []
    while (now := count.span(now).ends_at) <= until and len(found) < 100:
        found += [now - timedelta(microseconds=1), now]
    return found


def _look(seen: list[Span], count: Count, moment: datetime) -> None:
    span, last = count.span(moment), seen[-1]
    assert count.span(moment).first == span.first
    assert span.starts_at <= moment < span.ends_at
    assert count.span(span.ends_at).first == span.next_first > span.first
    assert count.span(span.ends_at - timedelta(microseconds=1)).first == span.first
    assert span.first >= last.first
    if span.first > last.first:
        # A new period begins only where the previous one should end.
        assert span.starts_at >= last.ends_at
        seen.append(span)
    else:
        seen[-1] = span


def calendars_round_trip(count: Count) -> Count:
    """Return the count as it is stored and read again."""
    if count.is_monthly:
        whole = Calendar(Count(count.zone), count)
        return calendars.read(count.zone, False, whole.turns()).month
    whole = Calendar(count, Count(count.zone, is_monthly=True))
    return calendars.read(count.zone, False, whole.turns()).day


def test_an_account_in_utc_needs_no_calendar_of_its_own() -> None:
    assert calendars.read("UTC", False, "") is calendars.IN_UTC
    assert calendars.IN_UTC.day.span(NOON).starts_at == start_of(date(2026, 8, 14))
