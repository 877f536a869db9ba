"""While Redis is down, login attempts are still counted, at the cost of one failed try."""

from __future__ import annotations

import json
import pickle
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import time_machine
from django.core.cache import caches

from common import cache
from common.cache import Memory, RedisOrMemory


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisOrMemory]:
    """A cache whose Redis does not answer."""
    monkeypatch.setattr(cache, "_retry_at", 0.0)
    monkeypatch.setattr(cache, "RETRY_AFTER_SECONDS", 3600.0)
    options = {"socket_timeout": 0.1, "socket_connect_timeout": 0.1}
    lost = RedisOrMemory("redis://127.0.0.1:1/0", {"OPTIONS": options, "KEY_PREFIX": "lost"})
    yield lost
    lost._memory.clear()


def test_memory_takes_over(lost: RedisOrMemory) -> None:
    assert lost.get("attempts", []) == []
    lost.set("attempts", [1], 60)
    assert lost.get("attempts", []) == [1]
    assert lost.add("lock", 1, 60)
    assert not lost.add("lock", 1, 60)
    assert lost.delete("lock")
    assert lost.add("lock", 1, 60)


def test_redis_is_used_where_it_answers(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if not settings.REDIS_URL:
        pytest.skip("no REDIS_URL")
    monkeypatch.setattr(cache, "_retry_at", 0.0)
    one, other = (
        RedisOrMemory(settings.REDIS_URL, {"KEY_PREFIX": f"test-{uuid.uuid4().hex}"})
        for _ in range(2)
    )
    other.key_prefix = one.key_prefix
    assert one.add("lock", 1, 60)
    assert not other.add("lock", 1, 60)
    assert one._memory.get("lock") is None
    assert other.delete("lock")
    other.set("attempts", [1], 60)
    assert one.get("attempts") == [1]


def test_what_lies_in_redis_is_json_and_runs_no_code(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not settings.REDIS_URL:
        pytest.skip("no REDIS_URL")
    monkeypatch.setattr(cache, "_retry_at", 0.0)
    configured = settings.CACHES["default"] | {"KEY_PREFIX": f"test-{uuid.uuid4().hex}"}
    settings.CACHES = settings.CACHES | {"default": configured}
    caches["default"].set("attempts", [1.5, True, "y"], 60)
    client = redis.Redis.from_url(settings.REDIS_URL)
    (name,) = client.keys(f"{configured['KEY_PREFIX']}*")
    stored: Any = client.get(name)
    assert json.loads(stored) == [1.5, True, "y"]
    client.set(name, pickle.dumps(Trap()), ex=60)
    assert caches["default"].get("attempts", []) == []
    assert not Trap.was_sprung
    assert settings.CACHES["shared"]["OPTIONS"]["serializer"] == "common.cache.JsonSerializer"


class Trap:
    """What an attacker with write access to Redis would leave there."""

    was_sprung = False

    @classmethod
    def spring(cls) -> Trap:
        cls.was_sprung = True
        return cls()

    def __reduce__(self) -> Any:
        return Trap.spring, ()


def test_redis_is_asked_once_and_then_left_alone(
    lost: RedisOrMemory, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        lost.get("x")
    assert [record.message for record in caplog.records] == ["cache.redis.lost"]
    assert cache._retry_at > time.monotonic()


def test_other_threads_see_the_same_memory(lost: RedisOrMemory) -> None:
    lost.set("attempts", 3, 60)
    other = RedisOrMemory("redis://127.0.0.1:1/0", {"KEY_PREFIX": "lost"})
    assert other.get("attempts") == 3


def test_what_memory_keeps_ends_by_no_clock_that_can_be_set(
    monkeypatch: pytest.MonkeyPatch, clock: time_machine.Traveller
) -> None:
    """Otherwise attempts counted while the clock ran ahead would lock people out for hours."""
    passed = [1000.0]
    monkeypatch.setattr("common.cache.time.monotonic", lambda: passed[0])
    memory = Memory(uuid.uuid4().hex, {})
    clock.shift(3 * 3600)
    memory.set("attempts", [1], 60)
    memory.set("always", 1, None)
    clock.shift(-3 * 3600)
    assert memory.get("attempts") == [1]
    passed[0] += 61
    assert memory.get("attempts") is None
    assert memory.get("always") == 1
