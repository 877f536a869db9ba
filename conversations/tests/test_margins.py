"""Margins: exact, by the prices of each day, and the same however much is added up."""

from __future__ import annotations

import random
from dataclasses import astuple
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from channels.models import CostPrice, CreditPrice
from channels.tests.factories import Site
from conversations.models import DraftReply, ProviderDay, RollupProgress
from conversations.tests.test_rollups import add_failure, add_reply
from conversations.usage import provider_days, rollup
from conversations.usage.margins import MarginLine, Margins, get_margins
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
START = datetime(2026, 4, 1, tzinfo=UTC)
FIRST, LAST = date(2026, 4, 1), date(2026, 4, 5)
NOW = START + timedelta(days=4, hours=15, minutes=30)


def set_cost(day: date, came_in: int, went_out: int, cached: int | None = None) -> None:
    CostPrice.objects.create(
        provider_name="acme",
        model_id="small",
        starts_on=day,
        input_price_micros=came_in,
        output_price_micros=went_out,
        cached_input_price_micros=cached,
    )


def answer(site: Site, at: datetime, **fields: Any) -> None:
    add_reply(site, at, **{"provider_name": "acme"} | fields)


def draft(site: Site, at: datetime, **fields: Any) -> None:
    DraftReply.objects.create(
        **{
            "channel": site.channel, "is_test": False, "created_at": at, "request_model": "small",
            "provider_name": "acme", "input_tokens": 0, "output_tokens": 0,
            "charged_microcredits": 0,
        }
        | fields
    )  # fmt: skip


def margins(first: date = FIRST, last: date = LAST) -> Margins:
    return get_margins(first=first, last=last)


def test_cost_revenue_and_margin_are_exact(site: Site) -> None:
    set_cost(FIRST, 50_000, 80_000, 25_000)  # 0.05, 0.08 and 0.025 for a million
    CreditPrice.objects.create(starts_on=FIRST, price_micros=10_000)  # 0.01
    answer(
        site, START, input_tokens=1_000, cached_input_tokens=400, output_tokens=200,
        charged_microcredits=1_000_001,
    )  # fmt: skip
    total = margins().total
    assert total.cost_picos == 600 * 50_000 + 400 * 25_000 + 200 * 80_000
    assert total.revenue_picos == 1_000_001 * 10_000
    assert total.margin_picos == total.revenue_picos - total.cost_picos
    assert total.margin_percent == Decimal("99.4")
    assert (total.request_count, total.token_count) == (1, 1_200)


def test_a_price_that_changes_later_leaves_the_past_alone(site: Site) -> None:
    set_cost(FIRST, 100, 0)
    CreditPrice.objects.create(starts_on=FIRST, price_micros=10)
    answer(site, START + HOUR, input_tokens=7, charged_microcredits=5)
    before = margins(FIRST, FIRST).total
    set_cost(FIRST + DAY, 999, 0)
    CreditPrice.objects.create(starts_on=FIRST + DAY, price_micros=77)
    assert margins(FIRST, FIRST).total == before
    answer(site, START + DAY, input_tokens=7, charged_microcredits=5)
    total = margins().total
    assert (total.cost_picos, total.revenue_picos) == (7 * 100 + 7 * 999, 5 * 10 + 5 * 77)


def test_what_has_no_price_is_unknown_and_never_0(site: Site) -> None:
    answer(site, START, input_tokens=5, charged_microcredits=5)
    answer(site, START, request_model="large", input_tokens=5)
    set_cost(FIRST, 1, 1)
    found = margins()
    assert (found.total.cost_picos, found.total.without_cost_count) == (None, 1)
    assert (found.total.revenue_picos, found.total.margin_picos) == (None, None)
    assert found.total.margin_percent is None
    by_model = {line.model_id: line.cost_picos for line in found.models}
    assert by_model == {"small": 5, "large": None}
    (provider,) = found.providers
    assert provider.cost_picos is None, "only a part of it has a price"


def test_days_before_the_first_price_are_unknown(site: Site) -> None:
    set_cost(FIRST + DAY, 1, 1)
    answer(site, START, input_tokens=5)
    assert margins().total.cost_picos is None
    assert margins(FIRST + DAY, LAST).total.request_count == 0


def test_what_the_gateway_answers_itself_costs_nothing(site: Site) -> None:
    for name in ("demo", "fixed"):
        answer(site, START, provider_name=name, input_tokens=5)
    assert margins().total.cost_picos == 0
    answer(site, START, provider_name="default", input_tokens=5)
    assert margins().total.cost_picos is None, "somebody's server, which may cost something"


def test_drafts_count_and_test_keys_and_failures_do_not(site: Site) -> None:
    set_cost(FIRST, 1, 1)
    draft(site, START, input_tokens=3, charged_microcredits=2)
    answer(site, START, is_test=True, input_tokens=100)
    add_failure(site, START)
    total = margins().total
    assert (total.request_count, total.cost_picos, total.charged_microcredits) == (1, 3, 2)


def as_rows(found: Margins) -> list[Any]:
    lines: list[MarginLine] = [found.total, *found.providers, *found.models, *found.pairs]
    return [astuple(line) for line in lines]


def fill(site: Site, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(120):
        at = START + rng.random() * (NOW - START)
        if rng.random() < 0.3:  # exactly on the hour, or one microsecond before
            at = at.replace(minute=0, second=0, microsecond=0) - timedelta(
                microseconds=rng.randrange(2)
            )
        fields = {
            "request_model": rng.choice(["small", "large"]),
            "provider_name": rng.choice(["acme", "other"]),
            "input_tokens": rng.randrange(900),
            "output_tokens": rng.randrange(900),
            "charged_microcredits": rng.randrange(10**7),
        }
        if rng.random() < 0.2:
            draft(site, at, **fields)
        else:
            cached = rng.choice([None, rng.randrange(int(str(fields["input_tokens"])) + 1)])
            answer(site, at, cached_input_tokens=cached, **fields)


def periods() -> list[Any]:
    return [
        as_rows(margins(FIRST, LAST)),
        as_rows(margins(FIRST - DAY, FIRST + DAY)),
        as_rows(margins(LAST, LAST)),
    ]


@pytest.mark.parametrize("seed", [1, 2])
def test_figures_do_not_depend_on_how_much_is_added_up(site: Site, seed: int) -> None:
    fill(site, seed)
    set_cost(FIRST, 3, 5, 2)
    set_cost(FIRST + 2 * DAY, 7, 11)
    CreditPrice.objects.create(starts_on=FIRST, price_micros=13)
    plain = periods()
    for until in (START + HOUR, START + 2 * DAY + HOUR, NOW - HOUR, NOW, NOW):
        rollup.roll_up(now=until)
        assert periods() == plain, until
    assert ProviderDay.objects.count() <= 5 * 4 + 4
    progress = RollupProgress.objects.get()
    assert progress.providers_until == START + timedelta(days=4, hours=15)


def test_an_installation_that_has_rolled_up_before_begins_with_its_first_day(site: Site) -> None:
    fill(site, 3)
    plain = periods()
    rollup.roll_up(now=NOW)
    ProviderDay.objects.all().delete()
    RollupProgress.objects.update(providers_until=None)
    rollup.roll_up(now=NOW + HOUR)
    assert periods() == plain
    assert ProviderDay.objects.order_by("day")[0].day <= FIRST


def test_messages_that_arrive_late_are_added_each_night(site: Site) -> None:
    fill(site, 4)
    rollup.roll_up(now=NOW)
    answer(site, START + DAY, input_tokens=5, charged_microcredits=3)
    answer(site, START + 4 * DAY + HOUR, input_tokens=6, charged_microcredits=3)
    rollup.mend(now=NOW)
    mended = periods()
    ProviderDay.objects.all().delete()
    RollupProgress.objects.all().delete()
    assert periods() == mended


def test_the_page_knows_since_when_nothing_is_added_up(site: Site) -> None:
    answer(site, START)
    ask = {"starts_at": START, "now": NOW, "within": 3 * HOUR}
    assert provider_days.unread_since(**ask) == START  # type: ignore[arg-type]
    rollup.roll_up(now=NOW)
    assert provider_days.unread_since(**ask) is None  # type: ignore[arg-type]


@pytest.mark.django_db(transaction=True)
def test_two_workers_add_up_once(site: Site) -> None:
    fill(site, 5)
    plain = periods()
    run_in_threads(lambda _: rollup.roll_up(now=NOW), 3)
    assert periods() == plain
    total = sum(ProviderDay.objects.values_list("request_count", flat=True))
    assert total <= 120
