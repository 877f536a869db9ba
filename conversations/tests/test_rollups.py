"""Rolled-up usage: same figures however much is rolled up, nothing counted twice or left out."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import DatabaseError

from channels.tests.factories import Site, make_site
from common import db
from conversations.models import FailedRequest, Message, RollupProgress, UsageRollup
from conversations.usage import receipts, reports, rollup, top_pages
from conversations.usage import rows as usage_rows
from conversations.usage.activity import list_activity
from conversations.usage.receipts import Period
from conversations.usage.reports import Scope
from conversations.usage.rows import Chosen
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
START = datetime(2026, 4, 1, tzinfo=UTC)
NOW = START + timedelta(days=4, hours=15, minutes=30)
MODELS = ("small", "large")


def add_reply(site: Site, at: datetime, **fields: Any) -> None:
    """Store one reply as /v1 does, without its ledger entries."""
    Message.objects.create(
        **{
            "channel": site.channel, "is_test": False, "position": 0, "role": "assistant",
            "created_at": at, "request_model": "small", "duration_ms": 1,
        }
        | fields
    )  # fmt: skip


def add_failure(site: Site, at: datetime, **fields: Any) -> None:
    FailedRequest.objects.create(
        **{"channel": site.channel, "is_test": False, "error_code": "overloaded", "created_at": at}
        | fields
    )


def fill(sites: list[Site], *, seed: int, count: int = 150) -> None:
    """Add replies and failures of all kinds, from START until NOW."""
    rng = random.Random(seed)
    for _ in range(count):
        site, is_test = rng.choice(sites), rng.random() < 0.2
        at = START + rng.random() * (NOW - START)
        if rng.random() < 0.3:  # exactly on the hour, or one microsecond before
            at = at.replace(minute=0, second=0, microsecond=0) - timedelta(
                microseconds=rng.randrange(2)
            )
        if rng.random() < 0.2:
            code = rng.choice(["overloaded", "provider_error"])
            add_failure(
                site, at, is_test=is_test, error_code=code, request_model=rng.choice(MODELS)
            )
            continue
        add_reply(
            site, at, is_test=is_test, request_model=rng.choice(MODELS),
            input_tokens=rng.randrange(900), output_tokens=rng.randrange(900),
            charged_microcredits=rng.randrange(10**7), is_estimated=rng.random() < 0.1,
            duration_ms=int(rng.lognormvariate(7, 1.5)),
        )  # fmt: skip


def all_figures(site: Site) -> Iterator[Any]:
    """Yield the figures that every reader returns for a channel's account."""
    week = Scope(site.account_id, START - DAY, START + 5 * DAY)
    hours = Scope(site.account_id, NOW.replace(minute=0) - 23 * HOUR, NOW + HOUR, is_by_hour=True)
    for scope in (week, hours, replace(week, ends_at=START + 2 * DAY)):
        yield reports.get_report(scope)
        yield reports.get_report(replace(scope, is_test=True))
        yield reports.get_report(replace(scope, model_id="large"))
        yield reports.get_report(replace(scope, channel_id=site.channel.id))
        yield top_pages.list_top_pages(scope)
    activity = list_activity(channel_ids=[site.channel.id], now=NOW)
    yield activity
    period = Period(date(2026, 3, 31), date(2026, 4, 5))
    for group_by in receipts.GROUPS:
        yield receipts.get_usage(caller=site.caller(), period=period, group_by=group_by)
        yield receipts.get_usage(caller=site.caller(is_test=True), period=period, group_by=group_by)


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_the_same_however_much_is_rolled_up(site: Site, seed: int) -> None:
    second = make_site(name="Second")
    stranger = make_site(owner="other@example.com")
    fill([site, second, stranger], seed=seed)
    plain = list(all_figures(site))
    assert plain[0].total.request_count > 30
    for until in (
        START + timedelta(minutes=5), START + DAY + timedelta(minutes=9),
        START + DAY + timedelta(minutes=10), NOW - timedelta(hours=5), NOW,
    ):  # fmt: skip
        rollup.roll_up(now=until)
        assert list(all_figures(site)) == plain
    assert RollupProgress.objects.get().hours_until == START + timedelta(days=4, hours=15)
    assert UsageRollup.objects.filter(is_day=True).exists()
    assert rollup.mend(now=NOW) == 0


def test_what_is_rolled_up_is_not_read_again(site: Site) -> None:
    add_reply(site, START)
    add_reply(site, NOW)
    rollup.roll_up(now=NOW)
    Message.objects.all().update(input_tokens=1)
    assert reports.get_report(Scope(site.account_id, START, NOW + DAY)).total.input_tokens == 1


def test_an_hour_is_added_up_when_late_writers_have_had_ten_minutes(site: Site) -> None:
    add_reply(site, START)
    rollup.roll_up(now=START + HOUR + timedelta(minutes=9, seconds=59))
    assert not UsageRollup.objects.exists()
    rollup.roll_up(now=START + HOUR + timedelta(minutes=10))
    (row,) = UsageRollup.objects.all()
    assert (row.is_day, row.starts_at, row.request_count) == (False, START, 1)
    assert rollup.roll_up(now=START + HOUR + timedelta(minutes=10)) == 0


def test_hours_end_when_two_days_have_passed(site: Site) -> None:
    for hour in range(100):
        add_reply(site, START + hour * HOUR)
    for hour in range(0, 100, 7):
        rollup.roll_up(now=START + hour * HOUR + rollup.GRACE)
    rollup.roll_up(now=START + 100 * HOUR + rollup.GRACE)
    hours = UsageRollup.objects.filter(is_day=False).order_by("starts_at")
    assert hours.first() is not None
    assert hours[0].starts_at == START + 3 * DAY
    assert hours.count() == 100 - 72
    assert UsageRollup.objects.filter(is_day=True).count() == 4


@pytest.mark.django_db(transaction=True)
def test_two_workers_add_up_once(site: Site) -> None:
    fill([site], seed=1, count=60)
    plain = list(all_figures(site))
    run_in_threads(lambda _: rollup.roll_up(now=NOW), 4)
    run_in_threads(lambda _: rollup.mend(now=NOW), 4)
    assert list(all_figures(site)) == plain


def test_rolled_up_between_two_reads_it_counts_once(site: Site) -> None:
    fill([site], seed=2, count=60)
    rollup.roll_up(now=START + 2 * DAY)
    coverage = usage_rows.cover_account(site.account_id)
    rollup.roll_up(now=START + 3 * DAY)
    rows, params = usage_rows.usage_rows(coverage, Chosen(START, NOW), ["request_count"])
    live = Message.objects.filter(is_test=False), FailedRequest.objects.filter(is_test=False)
    assert sum(row[-1] for row in db.fetch_rows(rows, params)) == sum(map(len, live))


def test_a_broken_off_step_leaves_all_as_it_was(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_reply(site, START)

    def fail(*_: object) -> int:
        raise DatabaseError

    with monkeypatch.context() as patch:
        patch.setattr(db, "execute", fail)
        with pytest.raises(DatabaseError):
            rollup.roll_up(now=NOW)
    progress = RollupProgress.objects.get()
    assert progress.days_until == progress.hours_until == START
    rollup.roll_up(now=NOW)
    assert reports.get_report(Scope(site.account_id, START, NOW)).total.reply_count == 1


def test_messages_from_before_all_that_is_rolled_up_count_at_once(site: Site) -> None:
    other = make_site(name="Second")
    add_reply(other, START)
    rollup.roll_up(now=NOW)
    add_reply(site, START + DAY)  # a channel with nothing rolled up
    add_reply(other, START - DAY)
    total = reports.get_report(Scope(site.account_id, START - DAY, NOW)).total
    assert total.reply_count == 3
    assert rollup.mend(now=NOW) == 2
    assert reports.get_report(Scope(site.account_id, START - DAY, NOW)).total.reply_count == 3
    assert usage_rows.cover_account(site.account_id).unrolled == []


def test_what_came_late_is_mended_by_night(site: Site) -> None:
    scope = Scope(site.account_id, START, NOW + DAY)
    add_reply(site, START)
    add_reply(site, NOW - 3 * HOUR)
    rollup.roll_up(now=NOW)
    add_reply(site, START + HOUR, charged_microcredits=5)
    add_reply(site, NOW - 3 * HOUR)
    assert reports.get_report(scope).total.reply_count == 2
    assert rollup.mend(now=NOW) == 2
    total = reports.get_report(scope).total
    assert (total.reply_count, total.charged_microcredits) == (4, 5)
    assert rollup.mend(now=NOW) == 0


def test_failures_stay_counted_when_they_are_deleted(site: Site, settings: Any) -> None:
    settings.SESSION_RETENTION_DAYS = 2
    scope = Scope(site.account_id, START, NOW + DAY)
    add_failure(site, START)
    add_failure(site, NOW - DAY)
    rollup.roll_up(now=NOW)
    FailedRequest.objects.filter(created_at=START).delete()
    add_reply(site, START)  # makes the day's rows differ, so they are rewritten
    assert rollup.mend(now=NOW) == 1
    total = reports.get_report(scope).total
    assert (total.reply_count, total.error_count) == (1, 2)
    FailedRequest.objects.all().delete()
    assert rollup.mend(now=NOW) == 2  # the day and the hour of the failure within its retention
    assert reports.get_report(scope).total.error_count == 1


def test_a_worker_that_was_away_goes_on_where_it_was(site: Site) -> None:
    with time_machine.travel(NOW, tick=False):
        fill([site], seed=3, count=60)
        plain = list(all_figures(site))
        rollup.roll_up(now=START + HOUR)
        assert rollup.roll_up(now=NOW) == 4 + 24 + 15
        assert list(all_figures(site)) == plain


def test_an_empty_installation_has_nothing_to_add_up(site: Site) -> None:
    assert rollup.mend(now=NOW) == 0
    rollup.roll_up(now=NOW)
    assert not UsageRollup.objects.exists()
    assert rollup.mend(now=NOW) == 0
