"""One turn at a time in a session, and the messages that wait for it."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from billing import admission, holds
from billing.errors import CreditsExhausted
from billing.models import CreditAccount, DailyUsage, Hold
from billing.tests.test_settlement import differences
from channels.tests.factories import Site, make_site, set_prices
from conversations.chat import turns
from conversations.models import ChatSession, WaitingTurn
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider, reply
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _long_waits(settings: Any) -> None:
    """Keep requests from giving up on a busy machine, except in tests about giving up."""
    settings.SESSION_WAIT_SECONDS = 300


def test_parallel_messages_of_a_session_are_answered_one_after_the_other(
    provider: FakeProvider,
) -> None:
    api_key = make_site().api_key

    def send(index: int) -> int:
        return int(ApiClient(api_key).chat(f"Message {index}").status_code)

    assert run_in_threads(send, 6) == [200] * 6
    roles = [message["role"] for message in ApiClient(api_key).history()]
    assert roles == ["user", "assistant"] * 6
    # Each prompt contains exactly the turns before it.
    assert sorted(len(prompt) for prompt in provider.prompts) == [1, 3, 5, 7, 9, 11]
    assert not WaitingTurn.objects.exists()


def test_eight_may_wait_and_the_rest_are_told_at_once(provider: FakeProvider) -> None:
    api_key = make_site().api_key
    begun, finish = threading.Event(), threading.Event()

    def hold_the_turn() -> Any:
        begun.set()
        assert finish.wait(60)
        return reply()

    provider.script.append(hold_the_turn)
    statuses: list[int] = []
    lock = threading.Lock()

    def send(index: int) -> None:
        if index:
            begun.wait(60)
        response = ApiClient(api_key).chat(f"Message {index}")
        with lock:
            statuses.append(response.status_code)
            if response.status_code == 409:
                assert response.json()["code"] == "session_busy"
                assert response["Retry-After"] == "2"
            if statuses.count(409) == 4:
                finish.set()

    run_in_threads(send, 13)
    assert sorted(statuses) == [200] * 9 + [409] * 4
    assert [m["role"] for m in ApiClient(api_key).history()] == ["user", "assistant"] * 9


def test_a_message_waits_no_longer_than_it_may(provider: FakeProvider, settings: Any) -> None:
    settings.SESSION_WAIT_SECONDS = 0.2
    api_key = make_site().api_key
    given_up = threading.Event()

    def hold_the_turn() -> Any:
        assert given_up.wait(60)
        return reply()

    def send(index: int) -> int:
        status = int(ApiClient(api_key).chat().status_code)
        if status == 409:
            given_up.set()
        return status

    provider.script.append(hold_the_turn)
    assert sorted(run_in_threads(send, 2)) == [200, 409]
    assert not WaitingTurn.objects.exists()


def test_a_turn_whose_process_died_ends_by_arithmetic(provider: FakeProvider) -> None:
    import time_machine

    site = make_site()
    with time_machine.travel("2026-04-05T12:00:00Z", tick=False) as clock:
        api = ApiClient(site.api_key)
        assert api.chat().status_code == 200
        lease_ends = "2026-04-05T12:00:05Z"
        ChatSession.objects.update(lease_expires_at=lease_ends)
        clock.shift(5)
        assert api.chat().status_code == 200


@pytest.mark.parametrize("stores_first", ["the turn without a lease", "the turn with it"])
def test_a_turn_that_lost_its_lease_is_in_no_other_turns_way(
    provider: FakeProvider, settings: Any, stores_first: str
) -> None:
    settings.PROVIDER_DEADLINE, settings.PROVIDER_STREAM_DEADLINE = 3000, 3600
    api = ApiClient(make_site().api_key)
    events = {name: threading.Event() for name in ("lost", "taken", "stored")}
    lost_first = stores_first == "the turn without a lease"

    def loses_its_lease() -> Any:
        # A process that was restarted with lower deadlines believes no lease that lasts so long.
        settings.PROVIDER_DEADLINE, settings.PROVIDER_STREAM_DEADLINE = 60, 300
        events["lost"].set()
        assert events["taken" if lost_first else "stored"].wait(60)
        return reply("Too late")

    def takes_the_turn() -> Any:
        events["taken"].set()
        assert not lost_first or events["stored"].wait(60)
        return reply("In time")

    provider.script += [loses_its_lease, takes_the_turn]

    def send(index: int) -> Any:
        if index:
            assert events["lost"].wait(60)
        response = api.chat(f"Message {index}")
        events["stored"].set()
        return response

    first, second = run_in_threads(send, 2)
    assert second.status_code == 200
    assert second.json()["reply"] == "In time"
    assert first.status_code == 200
    assert first.json()["credits"]["charged"] == "1.000000"
    assert api.chat("And then?").status_code == 200
    assert [m["content"] for m in api.history()][:2] == ["Message 1", "In time"]
    assert len(api.history()) == 4
    assert differences() == []


def test_no_connection_is_held_while_the_provider_talks(provider: FakeProvider) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite connections are files of the process itself")
    site = make_site()
    seen: list[Any] = []

    def look() -> Any:
        seen.append(connection.connection)
        return reply()

    provider.script.append(look)
    assert ApiClient(site.api_key).chat().status_code == 200
    assert seen == [None]


def test_where_tokens_cost_each_prompt_still_holds_exactly_the_turns_before_it(
    provider: FakeProvider,
) -> None:
    set_prices(price_per_1k_input_tokens_microcredits=10)
    api_key = make_site().api_key
    statuses = run_in_threads(lambda index: ApiClient(api_key).chat(f"{index}").status_code, 6)
    assert statuses == [200] * 6
    assert sorted(len(prompt) for prompt in provider.prompts) == [1, 3, 5, 7, 9, 11]
    assert differences() == []


def test_a_turn_that_found_more_than_was_foreseen_is_taken_again(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another turn made the conversation longer after the hold was computed from it."""
    set_prices(price_per_1k_input_tokens_microcredits=10)
    api = ApiClient(make_site().api_key)
    assert api.chat().status_code == 200
    looked = iter([None])
    find = turns.find_open_session
    monkeypatch.setattr(turns, "find_open_session", lambda **asked: next(looked, find(**asked)))
    assert api.chat().status_code == 200
    assert len(provider.prompts[1]) == 3
    assert sorted(Hold.objects.values_list("state", flat=True)) == [
        "captured",
        "captured",
        "released",
    ]
    assert not WaitingTurn.objects.exists()
    assert differences() == []


def test_a_turn_taken_as_a_limit_was_reached_is_given_up(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another message took the credits between the first check and the guarded update."""
    try_hold = admission.try_hold

    def beaten(**asked: Any) -> admission.Placement:
        placement = try_hold(**asked)
        assert placement.hold is not None
        holds.release_hold(hold=placement.hold, now=timezone.now())
        return replace(placement, hold=None, refusal=CreditsExhausted())

    api = ApiClient(make_site().api_key)
    with monkeypatch.context() as patch:
        patch.setattr(admission, "try_hold", beaten)
        assert api.chat().json()["code"] == "credits_exhausted"
    assert ChatSession.objects.get().lease_expires_at is None
    assert api.chat().status_code == 200
    assert differences() == []


def test_what_fails_after_the_turn_was_taken_gives_it_back(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = ApiClient(make_site().api_key)

    def lost(*asked: Any, **more: Any) -> Any:
        raise OperationalError("server closed the connection")

    with monkeypatch.context() as patch:
        patch.setattr("conversations.chat.message.build_prompt", lost)
        assert api.chat().json()["code"] == "overloaded"
    assert ChatSession.objects.get().lease_expires_at is None
    assert Hold.objects.get().state == "released"
    assert api.get("/api/key").json()["limits"]["day"]["used"] == 0
    assert differences() == []


def test_test_and_live_keys_have_sessions_of_their_own(site: Site, provider: FakeProvider) -> None:
    ApiClient(site.api_key).chat("live")
    ApiClient(site.test_key).chat("test")
    assert ChatSession.objects.filter(session_id="s1").count() == 2
    ApiClient(site.test_key).erase()
    assert len(ApiClient(site.api_key).history()) == 2


def test_a_message_that_the_database_forgot_in_a_crash_is_503_and_touches_no_other_turn(
    provider: FakeProvider,
) -> None:
    """Admission does not wait for the disk, so the numbers of lost rows may be assigned again."""
    api = ApiClient(make_site().api_key)
    another_ends = timezone.now() + timedelta(seconds=60)

    def crash() -> Any:
        Hold.objects.all().delete()
        CreditAccount.objects.update(held_microcredits=0)
        DailyUsage.objects.update(message_count=0)
        ChatSession.objects.update(lease_expires_at=another_ends)
        return reply()

    provider.script.append(crash)
    answer = api.chat(headers={"Idempotency-Key": "k1"})
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert answer["Retry-After"] == "2"
    assert ChatSession.objects.get().lease_expires_at == another_ends
    assert api.history() == []
    ChatSession.objects.update(lease_expires_at=None)
    assert api.chat(headers={"Idempotency-Key": "k1"}).status_code == 200
    assert differences() == []
