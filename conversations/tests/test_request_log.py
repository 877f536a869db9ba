"""The log of requests: what it lists, in which order, and that it adds up to the figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from billing import charges
from channels.models import ApiKey
from channels.tests.factories import Site, make_site, save_reply
from conversations.models import FailedRequest, Message, ReplayedRequest
from conversations.usage import request_log, request_tally, rollup
from conversations.usage.request_filter import FILTERS, RequestFilter
from conversations.usage.request_log import Entry, Place
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db

PAGE = "https://shop.example/cart"


def all_of(site: Site, **more: Any) -> RequestFilter:
    now = timezone.now()
    return RequestFilter(site.account_id, now - timedelta(days=7), now + timedelta(days=1), **more)


def read_all(chosen: RequestFilter, most: int = 3) -> Iterator[Entry]:
    """Yield all requests, a few on a page."""
    tally, after = request_tally.tally_requests(chosen), None
    for _ in range(1_000):
        page = request_log.list_requests(chosen, tally, after=after, most=most)
        assert len(page.entries) <= most
        yield from page.entries
        if page.following is None:
            return
        after = Place.parse(str(page.following))
        assert after == page.following
    raise AssertionError("the log has no end")


def make_traffic(site: Site, provider: FakeProvider, clock: Any) -> None:
    """Make a request of every outcome, on three days, with several pages, models, and keys."""
    save_reply(site.channel, "When are you open?", "Always.")
    api, test = ApiClient(site.api_key), ApiClient(site.test_key)
    for day in range(3):
        for number in range(4):
            provider.script.append(reply(input_tokens=10 + number, output_tokens=day))
            assert api.chat(metadata={"url": PAGE}).status_code == 200
            clock.shift(60)
        provider.fail("timeout")
        api.chat(metadata={"url": PAGE + "?a=1"})
        completion = {"model": "gpt", "messages": [{"role": "user", "content": "Hi"}]}
        assert api.post("/v1/chat/completions", completion).status_code == 404
        for _ in range(2):
            api.chat("Again", headers={"Idempotency-Key": f"k{day}"})
        api.chat("When are you open?")
        test.chat()
        clock.shift(86_400)


@pytest.fixture
def busy(site: Site, provider: FakeProvider, clock: Any) -> Site:
    make_traffic(site, provider, clock)
    return site


def test_lists_every_request_once_newest_first(busy: Site) -> None:
    found = list(read_all(all_of(busy)))
    times = [entry.row.created_at for entry in found]
    assert times == sorted(times, reverse=True)
    assert len({(entry.kind, entry.row.pk) for entry in found}) == len(found)
    outcomes = [entry.outcome for entry in found]
    assert {one: outcomes.count(one) for one in outcomes} == {
        "answered": 15, "saved_reply": 3, "failed": 3, "refused": 3, "replayed": 3
    }  # fmt: skip


@pytest.mark.parametrize("outcome", ["", *FILTERS])
@pytest.mark.parametrize("is_rolled_up", [False, True])
def test_a_filters_figures_are_those_of_its_requests(
    busy: Site, outcome: str, is_rolled_up: bool
) -> None:
    if is_rolled_up:
        rollup.roll_up(now=timezone.now())
    ours = ApiKey.objects.get(channel=busy.channel, mode="live").id
    for more in (
        {},
        {"error_code": "provider_error"},
        {"model_id": "llama-3.3-70b-versatile"},
        {"model_id": "gpt"},
        {"api_key_id": ours},
        {"page_url": PAGE},
        {"page_url": PAGE, "is_whole_page": True},
        {"least_ms": 1},
        {"channel_id": busy.channel.id},
        {"is_test": True},
        {"starts_at": timezone.now() - timedelta(days=2, minutes=17)},
        {"ends_at": timezone.now() - timedelta(days=1, minutes=3)},
    ):
        chosen = replace(all_of(busy), outcome=outcome, **more)
        tally = request_tally.tally_requests(chosen)
        found = list(read_all(chosen))
        replies = [entry.reply for entry in found if entry.reply]
        total = tally.total
        assert total is not None
        counted = [entry for entry in found if entry.outcome != "replayed"]
        assert total.request_count == len(counted), more
        assert total.reply_count == len(replies)
        assert tally.replay_count == len(found) - len(counted)
        assert total.charged_microcredits == sum(one.charged_microcredits for one in replies)
        assert total.input_tokens == sum(one.input_tokens for one in replies)
        assert total.output_tokens == sum(one.output_tokens for one in replies)


def test_the_whole_log_equals_the_ledger(busy: Site) -> None:
    chosen = all_of(busy)
    total = request_tally.tally_requests(chosen).total
    charged = charges.sum_charges(account_id=busy.account_id, starts_at=chosen.starts_at)
    assert total is not None
    assert (total.charged_microcredits, charged) == (15_000_000, 15_000_000)


def test_a_page_is_the_whole_address_only_if_asked(busy: Site) -> None:
    beginning = list(read_all(all_of(busy, page_url=PAGE)))
    whole = list(read_all(all_of(busy, page_url=PAGE, is_whole_page=True)))
    assert (len(beginning), len(whole)) == (15, 12)


def test_requests_of_one_moment_are_neither_lost_nor_doubled(site: Site) -> None:
    at = datetime(2026, 4, 5, 12, tzinfo=UTC)
    common = {"channel": site.channel, "is_test": False, "created_at": at}
    for number in range(7):
        Message.objects.create(**common, role="assistant", position=number)
        FailedRequest.objects.create(**common, error_code="provider_error")
        ReplayedRequest.objects.create(**common)
    chosen = RequestFilter(site.account_id, at, at + timedelta(hours=1))
    for most in (1, 2, 5, 20, 21):
        found = list(read_all(chosen, most=most))
        assert len(found) == len({(entry.kind, entry.row.pk) for entry in found}) == 21, most


def test_a_rare_key_is_looked_for_piece_by_piece(
    busy: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "FIRST_LOOKED_AT", 1)
    monkeypatch.setattr(request_log, "LOOKED_AT_ONCE", 1)
    chosen = all_of(busy, api_key_id=busy.channel.id)  # nobody's key
    tally = request_tally.tally_requests(chosen)
    page = request_log.list_requests(chosen, tally)
    assert (page.entries, page.is_cut) == ([], True)
    assert list(read_all(chosen)) == []
    assert len(list(read_all(all_of(busy, outcome="saved_reply")))) == 3


def test_too_many_requests_are_not_counted_one_by_one(
    busy: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_tally, "MOST_COUNTED", 10)
    assert request_tally.tally_requests(all_of(busy, least_ms=1)).total is None
    assert request_tally.tally_requests(all_of(busy)).total is not None


def test_a_stranger_finds_nothing(busy: Site, stranger: Site) -> None:
    theirs = list(read_all(all_of(busy)))
    assert list(read_all(all_of(stranger))) == []
    assert list(read_all(all_of(stranger, channel_id=busy.channel.id))) == []
    for entry in theirs:
        for account_id, found in ((busy.account_id, entry), (stranger.account_id, None)):
            assert found == request_log.find_request(
                account_id=account_id, kind=entry.kind, pk=entry.row.pk
            )
        reference = entry.row.request_id
        assert [entry] == request_log.find_by_reference(
            account_id=busy.account_id, reference=reference
        )
        assert not request_log.find_by_reference(
            account_id=stranger.account_id, reference=reference
        )


@pytest.mark.parametrize("prefix", ["", "chatcmpl-", "resp_"])
def test_a_reply_is_found_by_its_own_id(busy: Site, prefix: str) -> None:
    message = Message.objects.filter(role="assistant")[0]
    reference = f"{prefix}{message.id.hex if prefix else message.id}"
    (found,) = request_log.find_by_reference(account_id=busy.account_id, reference=reference)
    assert found.row == message


@pytest.mark.parametrize("text", ["", "~", "x~2~1", "2026-04-05T12:00:00+00:00~2~no",
                                  "2026-04-05T12:00:00~1~1", "2026-04-05T12:00:00+00:00~9~1",
                                  "2026-04-05T12:00:00+00:00~1~-1",
                                  f"2026-04-05T12:00:00+00:00~1~{2**63}"])  # fmt: skip
def test_what_is_no_place_is_none(text: str) -> None:
    assert Place.parse(text) is None


def test_the_export_has_every_request_with_its_page(
    busy: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "REQUESTS_A_READ", 4)
    found = list(request_log.iterate_requests(all_of(busy)))
    assert [entry for entry, _ in found] == list(read_all(all_of(busy)))
    pages = [page for _, page in found]
    assert (pages.count(PAGE), pages.count(PAGE + "?a=1")) == (12, 3)


def test_a_page_takes_as_many_statements_for_one_channel_as_for_five(
    busy: Site, provider: FakeProvider, django_assert_max_num_queries: Any
) -> None:
    chosen = all_of(busy)
    tally = request_tally.tally_requests(chosen)
    with django_assert_max_num_queries(8):
        assert request_log.list_requests(chosen, tally).entries
    for number in range(4):
        ApiClient(make_site(name=f"Shop {number}").api_key).chat()
    tally = request_tally.tally_requests(chosen)
    with django_assert_max_num_queries(8):
        assert request_log.list_requests(chosen, tally).entries
