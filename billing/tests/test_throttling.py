"""Requests per minute: one guarded statement, exact however many requests race."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import throttling
from billing.models import RateWindow
from channels.api_keys import issue_api_key
from channels.authentication import generate_key
from channels.models import ApiKey, Plan
from channels.tests.factories import Site, make_site
from common.errors import RateLimited
from tests.support.threads import run_in_threads

START = 1_775_390_400.0


def admitted(channel_id: uuid.UUID, limit: int, bucket: str = "chat") -> bool:
    try:
        throttling.admit(channel_id=channel_id, bucket=bucket, limit=limit)
    except RateLimited:
        return False
    return True


class Model:
    """The rule in plain terms: at most `limit` in the newest 61 whole seconds.

    Requests more than a minute in the future do not count.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.seconds: list[int] = []

    def admit(self, now: float) -> bool:
        if self.seconds and self.seconds[-1] > int(now) + 60:
            self.seconds.clear()
        newest = max([int(now), *self.seconds[-1:]])
        used = sum(newest - second < throttling.SLOTS for second in self.seconds)
        if used >= self.limit:
            return False
        self.seconds.append(newest)
        return True


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    limit=st.integers(1, 7),
    pauses=st.lists(
        st.one_of(st.floats(0, 3), st.floats(0, 70), st.just(0.0), st.floats(-2, 0)), max_size=40
    ),
)
@pytest.mark.django_db
def test_agrees_with_the_rule_at_any_pace(site: Site, limit: int, pauses: list[float]) -> None:
    RateWindow.objects.all().delete()
    throttling._refused.clear()
    model = Model(limit)
    now = START
    with time_machine.travel(now, tick=False) as clock:
        for pause in pauses:
            now += pause
            clock.move_to(now)
            if pause < 0:
                throttling._refused.clear()
            assert admitted(site.channel.id, limit) == model.admit(time.time())


@pytest.mark.django_db
def test_never_more_than_the_limit_in_any_sixty_seconds(site: Site) -> None:
    times: list[float] = []
    with time_machine.travel(START + 0.9, tick=False) as clock:
        for _ in range(900):
            if admitted(site.channel.id, 10):
                times.append(time.time())
            clock.shift(0.37)
    assert len(times) >= 50
    for first in times:
        assert sum(first <= moment < first + 60 for moment in times) <= 10


@pytest.mark.django_db
def test_the_total_wraps_without_losing_count(site: Site, clock: Any) -> None:
    throttling.admit(channel_id=site.channel.id, bucket="chat", limit=5)
    last = throttling.MODULUS - 1
    history = f"{last - 1:0{throttling.WIDTH}d}" * throttling.SLOTS
    RateWindow.objects.update(total=last, history=history)
    states = [
        throttling.admit(channel_id=site.channel.id, bucket="chat", limit=5) for _ in range(4)
    ]
    assert [state.remaining for state in states] == [3, 2, 1, 0]
    assert RateWindow.objects.get().total == 3
    assert not admitted(site.channel.id, 5)


@pytest.mark.django_db
def test_says_when_the_next_place_comes_free(site: Site, clock: Any) -> None:
    def admit() -> throttling.RateState:
        return throttling.admit(channel_id=site.channel.id, bucket="chat", limit=2)

    assert admit().reset_seconds == 61
    clock.shift(20)
    assert admit().reset_seconds == 41
    with pytest.raises(RateLimited) as refusal:
        admit()
    assert refusal.value.retry_after == 41
    clock.shift(41)
    assert (admit().remaining, admit.__name__) == (0, "admit")


@pytest.mark.django_db
def test_a_refusal_is_remembered_without_a_query_and_an_admission_never(
    site: Site, clock: Any, django_assert_num_queries: Callable[[int], Any]
) -> None:
    with django_assert_num_queries(1):
        assert admitted(site.channel.id, 1)
    with django_assert_num_queries(2):
        assert not admitted(site.channel.id, 1)
    with django_assert_num_queries(0):
        assert not admitted(site.channel.id, 1)
    clock.shift(61)
    with django_assert_num_queries(1):
        assert admitted(site.channel.id, 1)


@pytest.mark.django_db
def test_channels_and_buckets_do_not_share(site: Site, stranger: Site) -> None:
    assert admitted(site.channel.id, 1)
    assert admitted(site.channel.id, 1, bucket="read")
    assert admitted(stranger.channel.id, 1)
    assert not admitted(site.channel.id, 1)


@pytest.mark.django_db(transaction=True)
def test_exactly_the_limit_is_admitted_of_many_at_once(site: Site, clock: Any) -> None:
    def work(index: int) -> int:
        throttling._refused.clear()
        return sum(admitted(site.channel.id, 30) for _ in range(10))

    assert sum(run_in_threads(work, 8)) == 30


# --- With the look-up of the key ------------------------------------------------------------------


def found(key: str, bucket: str = "chat", factor: int = 1) -> tuple[bool, bool | None]:
    """Return whether the key's caller was found, and whether the request was admitted."""
    caller, state = throttling.find_and_count(key=key, bucket=bucket, factor=factor)
    return caller is not None, state.is_admitted if state else None


@pytest.mark.django_db
def test_a_key_is_found_and_its_request_counted_by_one_statement(site: Site) -> None:
    with CaptureQueriesContext(connection) as captured:
        caller, state = throttling.find_and_count(key=site.api_key, bucket="read", factor=10)
    assert len(captured) == (1 if connection.vendor == "postgresql" else 3)
    assert caller == site.caller()
    assert state is not None
    assert (state.limit, state.remaining) == (600, 599)
    assert list(RateWindow.objects.values_list("bucket", "total")) == [("read", 1)]


@pytest.mark.django_db
def test_an_unknown_key_counts_nothing(site: Site, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        assert found(generate_key(is_test=False)) == (False, None)
    assert not RateWindow.objects.exists()


@pytest.mark.django_db
def test_a_channel_that_is_switched_off_counts_nothing(site: Site) -> None:
    type(site.channel).objects.update(is_enabled=False)
    assert found(site.api_key) == (True, None)
    type(site.channel).objects.update(is_enabled=True)
    type(site.channel.account).objects.update(is_enabled=False)
    assert found(site.api_key) == (True, None)
    assert not RateWindow.objects.exists()


@pytest.mark.django_db
def test_the_plans_limit_counts_where_it_is_the_tighter_one(db: None) -> None:
    site = make_site(requests_per_minute=2)
    plan = Plan.objects.create(name="small", requests_per_minute=1)
    type(site.channel.account).objects.update(plan=plan)
    assert [found(site.api_key) for _ in range(2)] == [(True, True), (True, False)]
    assert found(site.test_key) == (True, True)
    plan.requests_per_minute = 3
    plan.save()
    assert [found(site.api_key) for _ in range(2)] == [(True, True), (True, False)]


@pytest.mark.django_db
def test_who_is_refused_is_looked_up_but_not_counted_until_a_place_comes_free(
    clock: Any, django_assert_num_queries: Any
) -> None:
    site = make_site(requests_per_minute=1)
    assert found(site.api_key) == (True, True)
    assert found(site.api_key) == (True, False)
    clock.shift(60)
    with django_assert_num_queries(1):
        assert found(site.api_key) == (True, False)
    clock.shift(1)
    assert found(site.api_key) == (True, True)


@pytest.mark.django_db
def test_a_remembered_refusal_hides_neither_a_revoked_key_nor_a_higher_limit(clock: Any) -> None:
    site = make_site(requests_per_minute=1)
    assert [found(site.api_key) for _ in range(2)] == [(True, True), (True, False)]
    type(site.channel).objects.update(requests_per_minute=2)
    assert found(site.api_key) == (True, True)
    assert found(site.api_key) == (True, False)
    ApiKey.objects.update(revoked_at=timezone.now())
    assert found(site.api_key) == (False, None)


@pytest.mark.django_db(transaction=True)
def test_exactly_the_limit_is_admitted_of_many_keys_at_once(clock: Any) -> None:
    site = make_site(requests_per_minute=30)
    other = issue_api_key(channel=site.channel, is_test=False).clear

    def work(index: int) -> int:
        throttling._refused.clear()
        return sum(found((site.api_key, other)[index % 2]) == (True, True) for _ in range(10))

    assert sum(run_in_threads(work, 8)) == 30
