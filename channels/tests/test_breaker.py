"""The breaker: it counts suspicions, one process claims the probe, and its result decides."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from channels import breaker
from channels.breaker import Claim, Health
from channels.errors import Fault, ProviderError
from channels.models import RouteHealth
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db
ROUTE = ("groq", "llama")


def health() -> Health:
    names = ("failure_count", "stream_failure_count", "is_for_streams")
    times = ("opened_at", "retry_at", "failed_at")
    row = RouteHealth.objects.filter(provider_name="groq", provider_model="llama").first()
    return Health(*(getattr(row, name) for name in names + times)) if row else Health()


def fail(
    fault: Fault = Fault.DOUBTFUL, *, times: int = 1, is_stream: bool = False, wait: float = 0
) -> Health:
    error = ProviderError("timeout", fault=fault, retry_after_seconds=wait)
    known = Health()
    for _ in range(times):
        known = breaker.note_failure(*ROUTE, error, is_stream=is_stream, now=timezone.now())
    return known


def answer(*, is_stream: bool = False) -> None:
    breaker.note_success(*ROUTE, health(), is_stream=is_stream, now=timezone.now())


# The claims of all probes. The last one is the latest.
claims: list[Claim] = []


def claim(known: Health | None = None) -> bool:
    now = timezone.now()
    until = now + timedelta(seconds=10)
    claimed = breaker.claim_probe(*ROUTE, known or health(), now=now, until=until)
    claims.extend([claimed] if claimed else [])
    return claimed is not None


def fail_probe(claimed: Claim | None = None) -> None:
    error = ProviderError("timeout")
    breaker.note_probe_failure(*ROUTE, error, claimed or claims[-1], now=timezone.now())


def answer_probe() -> None:
    breaker.note_probe_success(*ROUTE, claims[-1])


def open_route(*, is_stream: bool = False) -> None:
    """Let five requests fail, and then their probe."""
    fail(times=5, is_stream=is_stream)
    assert claim()
    fail_probe()


def is_out(*, is_stream: bool = False) -> bool:
    return health().is_out(is_stream=is_stream, now=timezone.now())


def due_probe() -> bool | None:
    return health().due_probe(now=timezone.now())


# --- Suspicion ------------------------------------------------------------------------------------


def test_five_doubtful_failures_are_looked_into_and_open_nothing(clock: Any) -> None:
    assert fail(times=4).due_probe(now=timezone.now()) is None
    assert fail().due_probe(now=timezone.now()) is False
    assert not is_out()
    assert claim()


@pytest.mark.parametrize("fault", [Fault.REQUEST, Fault.DECLINED, Fault.LIMITED])
def test_what_is_the_requests_own_leaves_no_trace(fault: Fault) -> None:
    assert fail(fault, times=9) == Health()
    assert not RouteHealth.objects.exists()


def test_an_answer_in_between_begins_the_count_anew(clock: Any) -> None:
    fail(times=4)
    answer()
    assert health() == Health()
    assert fail(times=4).due_probe(now=timezone.now()) is None


def test_streams_are_counted_past_plain_answers(clock: Any) -> None:
    """Otherwise a provider whose streams always fail would stay healthy forever."""
    for _ in range(4):
        fail(is_stream=True)
        answer()
    assert fail(is_stream=True).due_probe(now=timezone.now()) is True
    answer(is_stream=True)
    assert health() == Health()


def test_a_stream_that_was_refused_has_not_failed_as_a_stream(clock: Any) -> None:
    error = ProviderError("status_400", is_refusal=True)
    breaker.note_failure(*ROUTE, error, is_stream=True, now=timezone.now())
    assert (health().failure_count, health().stream_failure_count) == (1, 0)
    answer()
    assert not RouteHealth.objects.exists()


def test_a_plain_failure_among_streams_makes_a_plain_probe(clock: Any) -> None:
    fail(times=4, is_stream=True)
    fail()
    assert due_probe() is False
    assert claim()
    answer_probe()
    assert (health().failure_count, health().stream_failure_count) == (0, 4)
    assert fail(is_stream=True).due_probe(now=timezone.now()) is True
    assert claim()


def test_failures_of_streams_are_forgotten_where_nobody_streams(clock: Any) -> None:
    fail(is_stream=True)
    clock.shift(59)
    answer()
    assert health().stream_failure_count == 1
    clock.shift(1)
    answer()
    assert not RouteHealth.objects.exists()


def test_a_retry_after_is_waited_for_up_to_a_minute_and_then_forgotten(clock: Any) -> None:
    fail(Fault.LIMITED, wait=7)
    answer()  # to a call that was in flight
    clock.shift(6.9)
    assert is_out()
    assert not claim()
    clock.shift(0.1)
    assert not is_out()
    fail(Fault.LIMITED, wait=86_400)
    clock.shift(60)
    assert not is_out()
    answer()
    assert not RouteHealth.objects.exists()


# --- Probes ---------------------------------------------------------------------------------------


def test_a_suspicion_is_looked_into_by_one_at_a_time(clock: Any) -> None:
    fail(times=5)
    assert claim()
    fail(times=5)
    clock.shift(9.9)
    assert not claim()
    clock.shift(0.1)  # the earlier claim has expired
    assert claim()


def test_a_good_probe_clears_the_count(clock: Any) -> None:
    fail(times=7)
    assert claim()
    answer_probe()
    assert not RouteHealth.objects.exists()


def test_a_failed_probe_opens_and_once_a_second_another_is_made(clock: Any, caplog: Any) -> None:
    open_route()
    assert is_out()
    assert is_out(is_stream=True)
    assert "provider.route.opened" in caplog.text
    for _ in range(30):
        assert not claim()
        clock.shift(1)
        assert claim()
        fail_probe()
        assert is_out()
    assert caplog.text.count("provider.route.opened") == 1
    answer()  # a caller's request proves nothing
    assert is_out()
    caplog.set_level("INFO")
    answer_probe()
    assert "provider.route.recovered" in caplog.text
    assert not RouteHealth.objects.exists()


@pytest.mark.parametrize("fault", [Fault.BROKEN, Fault.UNREACHABLE])
def test_what_no_request_can_bring_about_is_out_at_once_and_soon_probed(
    clock: Any, caplog: Any, fault: Fault
) -> None:
    known = fail(fault)
    assert is_out()
    assert not known.is_proven
    assert known.due_probe(now=timezone.now()) is None
    clock.shift(1)
    assert [claim(), claim()] == [True, False]
    event = "broken" if fault is Fault.BROKEN else "opened"
    assert f"provider.route.{event}" in caplog.text
    assert RouteHealth.objects.get().is_permanent is (fault is Fault.BROKEN)
    fail_probe()
    assert health().is_proven
    assert [claim(), fail(fault).due_probe(now=timezone.now())] == [False, None]


def test_what_no_probe_has_proven_ends_with_the_next_answer(clock: Any) -> None:
    """A route that is out may still get a request if all other routes are out too."""
    fail(Fault.BROKEN, times=4)
    assert is_out()
    answer()
    assert not RouteHealth.objects.exists()
    fail(Fault.BROKEN)
    clock.shift(1)
    assert claim()
    fail_probe()
    answer()
    assert is_out()


def test_without_probes_for_long_what_is_known_is_out_of_date(clock: Any) -> None:
    open_route()
    clock.shift(14.9)
    assert is_out()
    clock.shift(0.1)
    assert not is_out()
    assert claim()
    assert not is_out()
    fail()
    assert is_out()


def test_a_failed_probe_of_a_stream_takes_streams_alone(clock: Any) -> None:
    open_route(is_stream=True)
    assert [is_out(), is_out(is_stream=True)] == [False, True]
    clock.shift(1)
    assert claim()
    late = claims[-1]
    # Now plain answers fail as well.
    fail(times=5)
    clock.shift(1)
    assert claim()
    assert [late.is_stream, claims[-1].is_stream] == [True, False]
    fail_probe()
    assert [is_out(), is_out(is_stream=True)] == [True, True]
    fail_probe(late)
    assert is_out()
    clock.shift(1)
    assert due_probe() is False
    answer_probe()
    assert not RouteHealth.objects.exists()


def test_plain_answers_that_are_well_leave_streams_out(clock: Any) -> None:
    open_route(is_stream=True)
    fail(times=5)
    clock.shift(1)
    assert claim()
    answer_probe()
    assert [is_out(), is_out(is_stream=True)] == [False, True]
    clock.shift(1)
    assert claim()
    answer_probe()
    assert not RouteHealth.objects.exists()


@pytest.mark.parametrize("is_open", [True, False])
def test_a_probe_that_hung_undoes_nothing(clock: Any, is_open: bool) -> None:
    """The provider has recovered meanwhile, and another probe has shown it."""
    if is_open:
        open_route()
        clock.shift(1)
    else:
        fail(times=5)
    assert claim()
    late = claims[-1]
    clock.shift(1)
    breaker.note_probe_success(*ROUTE, late)
    fail_probe(late)
    assert not RouteHealth.objects.exists()
    fail(times=5)
    fail_probe(late)
    assert not is_out()


def test_a_healthy_route_costs_no_query(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert not Health().is_out(is_stream=False, now=timezone.now())
        assert Health().due_probe(now=timezone.now()) is None
        breaker.note_success(*ROUTE, Health(), is_stream=False, now=timezone.now())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_open", [True, False])
def test_of_many_at_once_one_probes(clock: Any, is_open: bool) -> None:
    RouteHealth.objects.create(
        provider_name="groq",
        provider_model="llama",
        failure_count=9,
        reason="timeout",
        opened_at=timezone.now() if is_open else None,
        retry_at=timezone.now() if is_open else None,
        failed_at=timezone.now(),
    )
    known = health()
    assert sum(run_in_threads(lambda _: claim(known), 8)) == 1
