"""Memory's expiry, and an outage of Redis: asked again after a while, by one caller at a time."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
import time_machine

from common.cache import Memory, Outage


class Lost(Exception):
    """Redis does not answer."""


def fail() -> str:
    raise Lost


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the monotonic clock says."""
    passed = [1000.0]
    monkeypatch.setattr("common.cache.time.monotonic", lambda: passed[0])
    return passed


def ask(outage: Outage, in_redis: Callable[[], str]) -> str:
    return outage.ask(in_redis, lambda: "memory", lost=Lost)


def test_what_memory_keeps_ends_by_no_clock_that_can_be_set(
    clock: time_machine.Traveller, passed: list[float]
) -> None:
    """Otherwise attempts counted while the clock ran ahead would lock people out for hours."""
    memory = Memory(uuid.uuid4().hex, {})
    clock.shift(3 * 3600)
    memory.set("attempts", [1], 60)
    memory.set("always", 1, None)
    clock.shift(-3 * 3600)
    assert memory.get("attempts") == [1]
    passed[0] += 61
    assert memory.get("attempts") is None
    assert memory.get("always") == 1


def test_redis_is_left_alone_for_5_seconds_after_a_failure(passed: list[float]) -> None:
    outage = Outage()
    assert ask(outage, lambda: "redis") == "redis"
    assert ask(outage, fail) == "memory"
    passed[0] += 4.9
    assert ask(outage, lambda: "redis") == "memory"
    passed[0] += 0.1
    assert ask(outage, lambda: "redis") == "redis"
    assert ask(outage, lambda: "redis") == "redis"


def test_one_caller_at_a_time_tries_whether_redis_is_back(passed: list[float]) -> None:
    outage = Outage()
    ask(outage, fail)
    passed[0] += 5

    def try_while_others_ask() -> str:
        assert ask(outage, lambda: "redis") == "memory"
        return "redis"

    assert ask(outage, try_while_others_ask) == "redis"


def test_the_log_has_a_line_when_redis_is_lost_and_one_when_it_is_back(
    passed: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    outage = Outage()
    for _ in range(3):
        ask(outage, fail)
        passed[0] += 5
    ask(outage, lambda: "redis")
    ask(outage, lambda: "redis")
    assert [record.message for record in caplog.records] == [
        "cache.redis.lost",
        "cache.redis.recovered",
    ]
    assert caplog.records[1].failures == 3  # type: ignore[attr-defined]  # an extra


def test_an_error_of_another_kind_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        Outage().ask(lambda: 1 / 0, lambda: 0.0, lost=Lost)
