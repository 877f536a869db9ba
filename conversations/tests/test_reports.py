"""An account's figures: correct to the micro-credit, without those of other accounts."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from channels.tests.factories import Site, make_site
from conversations.models import FailedRequest, Message
from conversations.usage import reports, top_pages
from conversations.usage.reports import Scope
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db

START = datetime(2026, 4, 1, tzinfo=UTC)


def scope_of(site: Site, **fields: Any) -> Scope:
    return Scope(site.account_id, START, START + timedelta(days=7), **fields)


def add_reply(site: Site, at: datetime, duration_ms: int, **fields: Any) -> None:
    """Store one reply as /v1 does, without its ledger entries."""
    Message.objects.create(
        **{
            "channel": site.channel,
            "is_test": False,
            "position": 0,
            "role": "assistant",
            "created_at": at,
            "duration_ms": duration_ms,
            "request_model": "a",
        }
        | fields
    )


def test_adds_up_replies_tokens_and_credits(site: Site, provider: FakeProvider, clock: Any) -> None:
    api = ApiClient(site.api_key)
    provider.script = [reply(input_tokens=10, output_tokens=5)] * 2
    api.chat()
    clock.shift(24 * 3600)
    api.chat()
    provider.fail("timeout")
    api.chat()
    report = reports.get_report(scope_of(site))
    total = report.total
    assert (total.reply_count, total.error_count, total.request_count) == (2, 1, 3)
    assert (total.input_tokens, total.output_tokens) == (20, 10)
    assert total.charged_microcredits == 2_000_000
    assert [line.request_count for line in report.times] == [0, 0, 0, 0, 1, 2, 0]
    assert [(line.key, line.error_count) for line in report.channels] == [(site.channel.id, 1)]
    assert [line.key for line in report.models] == ["llama-3.3-70b-versatile"]
    assert [(line.key, line.error_count) for line in report.errors] == [("provider_error", 1)]
    compared = reports.compare_with_ledger(scope_of(site), total)
    assert compared is not None
    assert compared.is_equal
    assert compared.ledger_microcredits == 2_000_000


def test_percentiles_are_the_time_that_so_many_did_not_exceed(site: Site) -> None:
    for number in range(1, 101):
        add_reply(site, START + timedelta(minutes=number), 10 * number)
    add_reply(site, START + timedelta(days=1), 7)
    report = reports.get_report(scope_of(site))
    assert (report.times[0].p50_ms, report.times[0].p95_ms) == (500, 950)
    assert (report.times[1].p50_ms, report.times[1].p95_ms) == (7, 7)
    assert (report.times[2].p50_ms, report.times[2].p95_ms) == (None, None)
    assert (report.total.p50_ms, report.total.p95_ms) == (500, 950)


@pytest.mark.parametrize(
    ("ms", "told"),
    [(0, 0), (49, 49), (51, 55), (100, 100), (101, 110), (499, 500), (501, 550), (1_000, 1_000),
     (1_001, 1_100), (4_901, 5_000), (12_001, 13_000), (50_001, 55_000), (100_001, 110_000),
     (500_001, 550_000), (1_000_001, 1_100_000)],
)  # fmt: skip
def test_times_to_answer_are_rounded_up_by_a_tenth_at_most(site: Site, ms: int, told: int) -> None:
    add_reply(site, START, ms)
    assert reports.get_report(scope_of(site)).total.p50_ms == told


def test_hours_begin_and_end_where_they_say(site: Site) -> None:
    for minutes in (-1, 0, 59, 60, 120):
        add_reply(site, START + timedelta(minutes=minutes), 1)
    scope = Scope(site.account_id, START, START + timedelta(hours=2), is_by_hour=True)
    assert [line.reply_count for line in reports.get_report(scope).times] == [2, 1]


def test_filters_keep_the_rest_out(site: Site) -> None:
    other = make_site(name="Second")
    add_reply(site, START, 1)
    add_reply(other, START, 1, request_model="b")
    add_reply(site, START, 1, is_test=True)
    FailedRequest.objects.create(
        channel=other.channel, is_test=False, error_code="overloaded", request_model="b",
        page_url="https://a.example/x", created_at=START,
    )  # fmt: skip

    def counts(**fields: Any) -> tuple[int, int]:
        total = reports.get_report(scope_of(site, **fields)).total
        return total.reply_count, total.error_count

    assert counts() == (2, 1)
    assert counts(channel_id=site.channel.id) == (1, 0)
    assert counts(model_id="b") == (1, 1)
    assert counts(is_test=True) == (1, 0)
    assert counts(page_url="https://a.example/") == (0, 1)
    assert counts(page_url="https://A.example/") == (0, 0)


def test_pages_are_those_of_the_visitors_messages(site: Site, provider: FakeProvider) -> None:
    api = ApiClient(site.api_key)
    for page in ("https://s.example/a", "https://s.example/a", "https://s.example/b?100%", ""):
        api.chat(metadata={"url": page})
    provider.fail()
    api.chat(metadata={"url": "https://s.example/a"})
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    scope = Scope(site.account_id, today - timedelta(days=1), today + timedelta(days=2))
    top = top_pages.list_top_pages(scope)
    pages = [(one.key, one.reply_count, one.error_count) for one in top.lines]
    assert top.since is None
    assert pages == [("https://s.example/a", 2, 1), ("https://s.example/b?100%", 1, 0)]
    by_page = reports.get_report(replace(scope, page_url="https://s.example/b?100%"))
    assert by_page.total.reply_count == 1


def test_top_pages_of_very_many_replies_are_those_of_the_latest(
    site: Site, provider: FakeProvider, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(top_pages, "REPLIES_READ_FOR_PAGES", 2)
    api = ApiClient(site.api_key)
    for page in ("old", "old", "old", "a", "a", "b"):
        api.chat(metadata={"url": f"https://s.example/{page}"})
        clock.shift(24 * 3600 * (page == "old"))
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    scope = Scope(site.account_id, today - timedelta(days=6), today + timedelta(days=1))
    top = top_pages.list_top_pages(scope)
    assert top.since == datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    assert [(one.key[-1], one.reply_count) for one in top.lines] == [("a", 2), ("b", 1)]
    whole = top_pages.list_top_pages(replace(scope, page_url="https://s.example/o"))
    assert (whole.since, whole.lines[0].reply_count) == (None, 3)


def test_a_stranger_adds_nothing(site: Site, stranger: Site) -> None:
    add_reply(stranger, START, 1)
    assert reports.get_report(scope_of(site)).total.request_count == 0
    by_id = scope_of(site, channel_id=stranger.channel.id)
    assert reports.get_report(by_id).total.request_count == 0
    assert reports.get_report(scope_of(site, channel_id=uuid.uuid4())).channels == []


def test_says_where_the_ledger_differs(site: Site) -> None:
    add_reply(site, START, 1, charged_microcredits=5)
    total = reports.get_report(scope_of(site)).total
    compared = reports.compare_with_ledger(scope_of(site), total)
    assert compared is not None
    assert (compared.is_equal, compared.difference_microcredits) == (False, -5)
    assert reports.compare_with_ledger(scope_of(site, model_id="a"), total) is None


def test_a_report_is_two_statements(site: Site, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(2):
        reports.get_report(scope_of(site))
