"""Usage by the days of the account's time zone: every day exact, whatever is rolled up."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from channels.models import Account
from channels.tests.factories import Site, make_site
from common.days import day_of, end_of, start_of
from conversations.models import Message, RollupProgress, UsageRollup
from conversations.tests.test_rollups import NOW, START, add_failure, add_reply, fill
from conversations.usage import reports, request_tally, rollup, sums
from conversations.usage import rows as usage_rows
from conversations.usage.activity import list_activity
from conversations.usage.reports import Scope
from conversations.usage.request_filter import RequestFilter
from conversations.usage.rows import Chosen, Progress

pytestmark = pytest.mark.django_db
ZONES = ["UTC", "Europe/Berlin", "America/Los_Angeles", "Asia/Kathmandu", "Australia/Lord_Howe"]
DAY = timedelta(days=1)


def days_scope(site: Site, zone: str, first: date, last: date, **fields: Any) -> Scope:
    return Scope(site.account_id, start_of(first, zone), end_of(last, zone), zone=zone, **fields)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("rolled_until", [None, NOW - timedelta(days=1, hours=7), NOW])
def test_each_day_has_its_own_messages_whatever_is_rolled_up(
    zone: str, rolled_until: datetime | None
) -> None:
    sites = [make_site(), make_site(owner="b@example.com")]
    fill(sites, seed=5)
    if rolled_until:
        rollup.roll_up(now=rolled_until)
    scope = days_scope(sites[0], zone, date(2026, 3, 31), date(2026, 4, 6))
    report = reports.get_report(scope)
    replies = Message.objects.filter(channel=sites[0].channel, is_test=False, role="assistant")
    for line in report.times:
        part = scope.part(line.key)
        own = replies.filter(created_at__gte=part.starts_at, created_at__lt=part.ends_at)
        assert line.reply_count == own.count(), line.key
        assert line.charged_microcredits == sum(one.charged_microcredits for one in own)
        alone = reports.get_report(part).total
        assert (alone.reply_count, alone.error_count) == (line.reply_count, line.error_count)
    total = report.total
    assert sum(line.charged_microcredits for line in report.times) == total.charged_microcredits
    assert sum(line.request_count for line in report.times) == total.request_count
    of_log = RequestFilter(sites[0].account_id, scope.starts_at, scope.ends_at)
    tally = request_tally.tally_requests(of_log).total
    assert tally
    assert (tally.request_count, tally.charged_microcredits) == (
        total.request_count,
        total.charged_microcredits,
    )


# The clocks of Berlin change on both of these days, those of Lord Howe on the first and another.
@pytest.mark.parametrize("changed", [date(2026, 3, 29), date(2026, 10, 25), date(2026, 4, 5)])
@pytest.mark.parametrize("zone", ZONES)
def test_days_add_up_where_clocks_change(zone: str, changed: date) -> None:
    site = make_site()
    scope = days_scope(site, zone, changed - DAY, changed + DAY)
    moment, count = scope.starts_at, 0
    while moment < scope.ends_at:
        add_reply(site, moment, charged_microcredits=7)
        moment += timedelta(minutes=5)
        count += 1
    add_reply(site, scope.starts_at - timedelta(microseconds=1))
    add_reply(site, scope.ends_at)
    for roll in (False, True):
        if roll:
            rollup.roll_up(now=scope.ends_at - timedelta(hours=1))
        report = reports.get_report(scope)
        lengths = [
            int((end_of(day, zone) - start_of(day, zone)).total_seconds()) // 300
            for day in (changed - DAY, changed, changed + DAY)
        ]
        assert [line.reply_count for line in report.times] == lengths
        assert report.total.reply_count == count == sum(lengths)
        assert report.total.charged_microcredits == 7 * count


@pytest.mark.parametrize("zone", ZONES)
def test_the_overview_counts_the_same_days(zone: str) -> None:
    site = make_site()
    fill([site], seed=9)
    for hours in range(0, 100, 7):
        add_failure(site, NOW - timedelta(hours=hours))
    rollup.roll_up(now=NOW - timedelta(hours=3))
    activity = list_activity(channel_ids=[site.channel.id], now=NOW, zone=zone)[site.channel.id]
    today = day_of(NOW, zone)
    report = reports.get_report(days_scope(site, zone, today - 6 * DAY, today))
    assert list(activity.requests_by_day) == [line.reply_count for line in report.times]
    assert activity.charged_today_microcredits == report.times[-1].charged_microcredits
    assert activity.errors_today == report.times[-1].error_count


def test_a_date_that_a_zone_leaves_out_has_no_line() -> None:
    site = make_site()
    scope = days_scope(site, "Pacific/Apia", date(2011, 12, 29), date(2011, 12, 31))
    add_reply(site, scope.ends_at - timedelta(seconds=1))
    report = reports.get_report(scope)
    assert [line.reply_count for line in report.times] == [0, 1]


def test_days_in_utc_read_as_many_parts_as_ever() -> None:
    progress = Progress(START + 4 * DAY, START + 3 * DAY, START + 4 * DAY + timedelta(hours=9))
    week = Chosen(START, START + 5 * DAY)
    assert [part.step for part in usage_rows.split(week, progress)] == [
        sums.DAY,
        sums.HOUR,
        None,
    ]
    local = replace(week, starts_at=START - timedelta(hours=2))
    assert [part.step for part in usage_rows.split(local, progress)] == [
        None,
        sums.DAY,
        sums.HOUR,
        None,
    ]


def test_every_zone_of_today_begins_its_days_at_a_quarter() -> None:
    for zone in ("Asia/Kathmandu", "Pacific/Chatham", "Australia/Eucla", "Asia/Pyongyang"):
        for number in range(0, 366, 5):
            start = start_of(date(2026, 1, 1) + timedelta(days=number), zone)
            assert start.astimezone(UTC).minute % 15 == start.second == 0


def set_zone(site: Site, zone: str) -> None:
    Account.objects.filter(id=site.account_id).update(time_zone=zone)


def test_hours_are_kept_for_thirty_days_once_an_account_has_a_zone() -> None:
    site = make_site()
    for days in (40, 20, 0):
        add_reply(site, NOW - timedelta(days=days, hours=1))

    def kept() -> list[int]:
        hours = UsageRollup.objects.filter(is_day=False).order_by("starts_at")
        return [(NOW - hour).days for hour in hours.values_list("starts_at", flat=True)]

    rollup.roll_up(now=NOW)
    assert kept() == [0]
    UsageRollup.objects.all().delete()
    RollupProgress.objects.all().delete()
    set_zone(site, "Europe/Berlin")
    rollup.roll_up(now=NOW)
    assert kept() == [20, 0]
    set_zone(site, "UTC")
    rollup.roll_up(now=NOW)
    assert kept() == [0]


def test_days_of_a_zone_are_read_from_kept_hours(site: Site) -> None:
    set_zone(site, "Europe/Berlin")
    fill([site], seed=7)
    rollup.roll_up(now=NOW)
    scope = days_scope(site, "Europe/Berlin", day_of(START) + DAY, day_of(START) + 3 * DAY)
    before = reports.get_report(scope)
    assert before.total.request_count > 20
    until = scope.ends_at.replace(minute=0)
    Message.objects.filter(created_at__gte=scope.starts_at, created_at__lt=until).delete()
    # The first message, which says that the channel's past is rolled up, is older.
    after = reports.get_report(scope)
    assert [line.reply_count for line in after.times] == [line.reply_count for line in before.times]


def test_the_log_reads_days_where_hours_are_kept_for_longer(site: Site) -> None:
    set_zone(site, "Europe/Berlin")
    fill([site], seed=8)
    rollup.roll_up(now=NOW)
    chosen = RequestFilter(site.account_id, START, NOW)
    starts = [moment for moment, _ in request_tally.tally_requests(chosen).starts]
    today = NOW.replace(hour=0, minute=0)
    assert {moment.hour for moment in starts if moment < today - DAY} == {0}
    assert len({moment.hour for moment in starts if moment >= today - DAY}) > 1
