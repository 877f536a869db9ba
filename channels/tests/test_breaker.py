"""The breaker: closed, open, probed once a second by one of many, and closed again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from channels import breaker
from channels.breaker import Health
from channels.errors import ProviderError
from channels.models import RouteHealth
from conftest import run_in_threads

pytestmark = pytest.mark.django_db
ROUTE = ("groq", "llama")


def health() -> Health:
    row = RouteHealth.objects.filter(provider_name="groq", provider_model="llama").first()
    return Health(row.failure_count, row.is_permanent, row.retry_at) if row else Health()


def fail(error: ProviderError | None = None) -> None:
    breaker.note_failure(*ROUTE, error or ProviderError("timeout"), now=timezone.now())


def may_call() -> bool:
    return breaker.may_call(*ROUTE, health(), now=timezone.now())


def test_opens_at_the_fifth_failure_in_a_row(clock: Any) -> None:
    for _ in range(4):
        fail()
        assert may_call()
    fail()
    assert not may_call()


def test_a_success_in_between_starts_the_count_anew(clock: Any) -> None:
    for _ in range(4):
        fail()
    breaker.note_success(*ROUTE, health())
    for _ in range(4):
        fail()
    assert may_call()


def test_one_probe_a_second_until_it_answers(clock: Any) -> None:
    for _ in range(5):
        fail()
    for _ in range(3):
        clock.shift(timedelta(seconds=1))
        assert may_call()
        assert not may_call()
        fail()
    clock.shift(timedelta(seconds=1))
    assert may_call()
    breaker.note_success(*ROUTE, health())
    assert health() == Health()
    assert may_call()


def test_a_retry_after_is_honoured_up_to_a_minute(clock: Any) -> None:
    fail(ProviderError("status_429", retry_after_seconds=7))
    clock.shift(6.9)
    assert not may_call()
    clock.shift(0.1)
    assert may_call()
    fail(ProviderError("status_429", retry_after_seconds=86_400))
    clock.shift(60)
    assert may_call()


def test_a_permanent_failure_is_out_for_a_minute_at_a_time(clock: Any, caplog: Any) -> None:
    fail(ProviderError("status_401", permanent=True))
    assert "provider.route.broken" in caplog.text
    clock.shift(59)
    assert not may_call()
    clock.shift(1)
    assert may_call()
    assert not may_call()
    clock.shift(59)
    assert not may_call()


def test_a_healthy_route_costs_no_query(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert breaker.may_call(*ROUTE, Health(), now=timezone.now())
        breaker.note_success(*ROUTE, Health())


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_one_probes() -> None:
    RouteHealth.objects.create(
        provider_name="groq",
        provider_model="llama",
        failure_count=9,
        reason="timeout",
        retry_at=timezone.now(),
        failed_at=timezone.now(),
    )
    before = health()
    now = timezone.now()
    assert sum(run_in_threads(lambda _: breaker.may_call(*ROUTE, before, now=now), 8)) == 1
