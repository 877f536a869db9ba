"""A clock that ran ahead and was corrected: the times it wrote lock nobody out.

Each test kills a process or reaches a limit while the clock is wrong, and then sends a request at
the correct time. All of them run without the worker.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from billing import admission, balance, settlement
from billing.models import Hold
from billing.tests.test_settlement import differences
from channels import breaker
from channels import routes as channels_routes
from channels.errors import Fault, ProviderError
from channels.models import RouteHealth
from channels.providers.base import Completion
from channels.tests.factories import Site, make_site, set_prices
from conversations.archive import retention
from conversations.chat import calls, idempotency, turns
from conversations.models import ChatSession, IdempotencyRecord, WaitingTurn
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db(transaction=True)

# The time of conftest's clock.
RIGHT = "2026-04-05T12:00:00Z"
AHEAD = [timedelta(minutes=10), timedelta(hours=3), timedelta(days=2)]


@pytest.fixture(params=AHEAD, ids=str)
def ahead(request: pytest.FixtureRequest, clock: time_machine.Traveller) -> time_machine.Traveller:
    """Set the clock ahead, until `set_right` corrects it."""
    clock.shift(request.param)
    return clock


def set_right(clock: time_machine.Traveller) -> None:
    clock.move_to(RIGHT)


def die_in_mid_call(site: Site, *, is_stream: bool = False, amount: int = 1_000_000) -> None:
    """Leave what a killed process leaves behind: a hold and a session's lease."""
    now = timezone.now()
    caller = site.caller()
    placement = admission.try_hold(
        caller=caller,
        amount_microcredits=amount,
        now=now,
        expires_at=calls.hold_until(now, caller.model, is_stream=is_stream),
        request_id="killed",
        opening=turns.opening(caller=caller, session_id="s1", now=now, ticket=None),
    )
    assert placement.hold is not None
    assert turns.read_turn(placement.opened) is not None


def test_a_full_minute_is_over(ahead: time_machine.Traveller, provider: FakeProvider) -> None:
    api = ApiClient(make_site(requests_per_minute=2).api_key)
    assert [api.chat().status_code for _ in range(3)] == [200, 200, 429]
    set_right(ahead)
    assert api.get("/api/key").json()["limits"]["minute"]["remaining"] == 2
    assert [api.chat().status_code for _ in range(3)] == [200, 200, 429]
    ahead.shift(62)
    assert api.chat().status_code == 200


def test_a_minute_within_honest_skew_counts(
    clock: time_machine.Traveller, provider: FakeProvider
) -> None:
    """Otherwise two machines whose clocks differ by seconds would let twice as many through."""
    api = ApiClient(make_site(requests_per_minute=2).api_key)
    clock.shift(5)
    assert [api.chat().status_code for _ in range(2)] == [200, 200]
    clock.shift(-5)
    assert api.chat().status_code == 429


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_lost_call_holds_neither_session_nor_credits(
    ahead: time_machine.Traveller, provider: FakeProvider, is_stream: bool
) -> None:
    site = make_site(credit_amount=1)
    api = ApiClient(site.api_key)
    die_in_mid_call(site, is_stream=is_stream)
    assert api.chat(session_id="s2").json()["code"] == "credits_exhausted"
    set_right(ahead)
    now = timezone.now()
    assert settlement.get_available_microcredits(account_id=site.account_id, now=now) == 1_000_000
    assert balance.get_balance(account_id=site.account_id, now=now).available == 1_000_000
    assert api.chat().status_code == 200
    assert Hold.objects.get(request_id="killed").state == "expired"
    assert differences() == []


def test_a_call_under_way_when_the_clock_is_set_right_is_answered_and_charged(
    ahead: time_machine.Traveller, provider: FakeProvider
) -> None:
    site = make_site(credit_amount=1)

    def answer_later() -> Completion:
        set_right(ahead)
        return reply("Here I am.")

    provider.script.append(answer_later)
    response = ApiClient(site.api_key).chat()
    assert (response.status_code, response.json()["reply"]) == (200, "Here I am.")
    assert response.json()["credits"] == {"charged": "1.000000", "remaining": "0.000000"}
    assert differences() == []


def test_a_lost_place_in_the_queue_blocks_nobody(
    ahead: time_machine.Traveller, provider: FakeProvider
) -> None:
    site = make_site()
    api = ApiClient(site.api_key)
    assert api.chat().status_code == 200
    for _ in range(8):
        turns._queue(caller=site.caller(), session_id="s1")
    set_right(ahead)
    assert api.chat().status_code == 200
    turns._queue(caller=site.caller(), session_id="s1")
    assert WaitingTurn.objects.count() == 1


def test_a_lost_claim_of_an_idempotency_key_is_taken_over(
    ahead: time_machine.Traveller, provider: FakeProvider
) -> None:
    site = make_site()
    key = idempotency.Key("once", "another body")
    idempotency.claim(site.caller(), key, session_id="s1", is_stream=False)
    set_right(ahead)
    response = ApiClient(site.api_key).chat(headers={"Idempotency-Key": "once"})
    assert response.status_code == 200


def test_an_answer_of_that_time_is_replayed_and_never_charged_twice(
    ahead: time_machine.Traveller, provider: FakeProvider
) -> None:
    site = make_site()
    api = ApiClient(site.api_key)
    first = api.chat(headers={"Idempotency-Key": "once"})
    set_right(ahead)
    for _ in range(2):
        again = api.chat(headers={"Idempotency-Key": "once"})
        assert again.content == first.content
        retention.expire_stale_sessions(now=timezone.now())
    assert len(provider.requests) == 1
    ahead.shift(timedelta(hours=24, minutes=1))
    assert api.chat(headers={"Idempotency-Key": "once"}).content != first.content
    assert IdempotencyRecord.objects.count() == 1


@pytest.mark.parametrize("fault", [Fault.BROKEN, Fault.DOUBTFUL])
def test_a_route_that_failed_then_is_asked_and_probed_at_once(
    ahead: time_machine.Traveller, fault: Fault
) -> None:
    site = make_site()
    route = "default", site.caller().model.model_id
    error = ProviderError("status_500", fault=fault)
    for _ in range(breaker.FAILURES_TO_OPEN - 1):
        breaker.note_failure(*route, error, now=timezone.now())
    health = breaker.note_failure(*route, error, now=timezone.now())
    if fault is Fault.DOUBTFUL:
        claim = claim_probe(route, health)
        assert claim
        breaker.note_probe_failure(*route, error, claim, now=timezone.now())
    assert read_health(site).is_out(is_stream=False, now=timezone.now())
    set_right(ahead)
    health = read_health(site)
    assert not health.is_out(is_stream=False, now=timezone.now())
    assert breaker.state_of(RouteHealth.objects.get(), now=timezone.now()) == "open"
    claim = claim_probe(route, health)
    assert claim
    assert claim_probe(route, read_health(site)) is None  # the next probe is due a second later
    breaker.note_probe_success(*route, claim)
    assert not RouteHealth.objects.exists()


def test_a_route_that_was_to_be_left_alone_then_is_asked_again(
    ahead: time_machine.Traveller,
) -> None:
    site = make_site()
    route = "default", site.caller().model.model_id
    error = ProviderError("status_429", fault=Fault.LIMITED, retry_after_seconds=60)
    breaker.note_failure(*route, error, now=timezone.now())
    assert read_health(site).is_out(is_stream=False, now=timezone.now())
    set_right(ahead)
    health = read_health(site)
    assert not health.is_out(is_stream=False, now=timezone.now())
    breaker.note_success(*route, health, is_stream=False, now=timezone.now())
    assert not RouteHealth.objects.exists()


def read_health(site: Site) -> breaker.Health:
    rows = channels_routes._kept_routes(site.caller().model, None).rows
    return next(row for row in rows if row.step == -1).health()


def claim_probe(route: tuple[str, str], health: breaker.Health) -> breaker.Claim | None:
    now = timezone.now()
    return breaker.claim_probe(*route, health, now=now, until=now + timedelta(seconds=10))


def test_a_conversation_of_that_time_goes_on_and_ends_a_day_later(
    ahead: time_machine.Traveller, provider: FakeProvider
) -> None:
    api = ApiClient(make_site().api_key)
    assert api.chat("Before").status_code == 200
    set_right(ahead)
    assert api.chat("After").status_code == 200
    assert [message["content"] for message in api.history()][::2] == ["Before", "After"]
    ahead.shift(timedelta(hours=24, seconds=1))
    assert api.history() == []


def test_a_conversation_that_nobody_came_back_to_ends_too(
    ahead: time_machine.Traveller, provider: FakeProvider
) -> None:
    api = ApiClient(make_site().api_key)
    assert api.chat().status_code == 200
    set_right(ahead)
    retention.expire_stale_sessions(now=timezone.now())
    assert len(api.history()) == 2
    ahead.shift(timedelta(hours=24, seconds=1))
    assert api.history() == []
    retention.expire_stale_sessions(now=timezone.now())
    assert not ChatSession.objects.filter(closed_at=None).exists()


def test_free_messages_recover_as_well(
    ahead: time_machine.Traveller, provider: FakeProvider
) -> None:
    set_prices(price_per_reply_microcredits=0)
    site = make_site(credit_amount=0, daily_quota=1)
    die_in_mid_call(site, amount=0)
    set_right(ahead)
    assert ApiClient(site.api_key).chat().status_code == 200
