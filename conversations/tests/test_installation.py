"""The figures of all accounts together equal those of each account added up."""

from __future__ import annotations

from datetime import timedelta

import pytest

from channels.tests.factories import Site, make_site
from conversations.models import Message
from conversations.tests.test_rollups import DAY, HOUR, NOW, START, add_failure, add_reply, fill
from conversations.usage import installation, reports, rollup
from conversations.usage.reports import Line, Scope
from conversations.usage.rows import cover_everything

pytestmark = pytest.mark.django_db

Figures = tuple[int, int, int]


def figures(line: Line) -> Figures:
    return line.reply_count, line.error_count, line.charged_microcredits


def added_up(sites: list[Site]) -> list[Figures]:
    """Return the figures of each day, added up from the accounts' own reports."""
    found = []
    for site in sites:
        scope = Scope(site.account_id, START - DAY, START + 5 * DAY)
        found.append([figures(line) for line in reports.get_report(scope).times])
    days: list[Figures] = []
    for of_day in zip(*found, strict=True):
        replies, errors, charged = map(sum, zip(*of_day, strict=True))
        days.append((replies, errors, charged))
    return days


@pytest.mark.parametrize("until", [None, START + DAY + HOUR, NOW - 5 * HOUR, NOW])
def test_days_equal_the_accounts_own_figures(site: Site, until: object) -> None:
    sites = [site, make_site(owner="other@example.com")]
    fill(sites, seed=5)
    if until:
        rollup.roll_up(now=until)  # type: ignore[arg-type]  # a time, from the parameters
    days = installation.list_days(cover_everything(), now=NOW, days=6)
    assert [figures(day) for day in days] == added_up(sites)
    assert sum(day.request_count for day in days) > 50


@pytest.mark.parametrize("is_rolled_up", [False, True])
def test_yesterday_counts_up_to_the_same_time(site: Site, is_rolled_up: bool) -> None:
    same_time = NOW - DAY
    for at in (START + 3 * DAY, same_time - timedelta(microseconds=1)):
        add_reply(site, at, charged_microcredits=7)
        add_failure(site, at)
    for at in (START + 3 * DAY - timedelta(microseconds=1), same_time, NOW):
        add_reply(site, at, charged_microcredits=100)
    if is_rolled_up:
        rollup.roll_up(now=NOW)
    assert figures(installation.sum_yesterday(cover_everything(), now=NOW)) == (2, 2, 14)


@pytest.mark.parametrize("is_rolled_up", [False, True])
def test_accounts_that_spent_the_most_today_come_first(site: Site, is_rolled_up: bool) -> None:
    second = make_site(name="Second")
    other = make_site(owner="other@example.com")
    for one, charged in ((site, 5), (second, 6), (other, 10)):
        add_reply(one, NOW - 3 * HOUR, charged_microcredits=charged)
        add_reply(one, NOW - DAY, charged_microcredits=10**6)
    add_failure(other, NOW)
    add_reply(other, NOW, is_test=True, charged_microcredits=10**6)
    if is_rolled_up:
        rollup.roll_up(now=NOW)
    top = installation.list_top_accounts(cover_everything(), now=NOW, most=5)
    assert [(line.key, *figures(line)) for line in top] == [
        (site.account_id, 2, 0, 11),
        (other.account_id, 1, 1, 10),
    ]
    (first,) = installation.list_top_accounts(cover_everything(), now=NOW, most=1)
    assert first.key == site.account_id


def test_what_is_summed_is_not_read_again(site: Site) -> None:
    add_reply(site, START, charged_microcredits=3)
    rollup.roll_up(now=NOW)
    Message.objects.update(charged_microcredits=9)
    days = installation.list_days(cover_everything(), now=NOW, days=30)
    assert sum(day.charged_microcredits for day in days) == 3


def test_says_since_when_nothing_is_summed(site: Site) -> None:
    starts_at = START - DAY
    assert (
        installation.unsummed_since(cover_everything(), starts_at=starts_at, now=NOW) == starts_at
    )
    add_reply(site, START)
    rollup.roll_up(now=NOW)
    covered = cover_everything()
    assert installation.unsummed_since(covered, starts_at=starts_at, now=NOW) is None
    later = NOW + 4 * DAY
    since = installation.unsummed_since(covered, starts_at=starts_at, now=later)
    assert since == NOW.replace(minute=0)
