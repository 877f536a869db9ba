"""While Redis is down, login attempts are still counted, at the cost of one failed try."""

from __future__ import annotations

import json
import pickle
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.core.cache import caches

from common import redis_cache
from common.cache import Outage
from common.redis_cache import RedisOrMemory

TIMEOUT_SECONDS = 0.1
_OPTIONS = {
    "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
    "SOCKET_TIMEOUT": TIMEOUT_SECONDS,
    "SOCKET_CONNECT_TIMEOUT": TIMEOUT_SECONDS,
}


@pytest.fixture(autouse=True)
def outage(monkeypatch: pytest.MonkeyPatch) -> Outage:
    """The outage of this test, which begins with none. Once begun, it lasts."""
    outage = Outage()
    monkeypatch.setattr(redis_cache, "redis_outage", outage)
    monkeypatch.setattr("common.cache.RETRY_AFTER_SECONDS", 3600.0)
    return outage


def cache_at(url: str, prefix: str) -> RedisOrMemory:
    return RedisOrMemory(url, {"OPTIONS": _OPTIONS, "KEY_PREFIX": prefix})


@pytest.fixture
def lost() -> Iterator[RedisOrMemory]:
    """A cache whose Redis refuses connections."""
    lost = cache_at("redis://127.0.0.1:1/0", "lost")
    yield lost
    lost._memory.clear()


@pytest.fixture
def frozen() -> Iterator[RedisOrMemory]:
    """A cache whose Redis takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        frozen = cache_at(f"redis://127.0.0.1:{listener.getsockname()[1]}/0", "frozen")
        yield frozen
        frozen._memory.clear()


def test_memory_takes_over(lost: RedisOrMemory) -> None:
    assert lost.get("attempts", []) == []
    lost.set("attempts", [1], 60)
    assert lost.get("attempts", []) == [1]
    assert lost.add("lock", 1, 60)
    assert not lost.add("lock", 1, 60)
    assert lost.delete("lock")
    assert lost.add("lock", 1, 60)


def test_a_frozen_redis_costs_its_time_out_once(frozen: RedisOrMemory) -> None:
    """Without retries, and without waiting longer before each. A busy machine adds to it."""
    began = time.monotonic()
    frozen.set("attempts", [1], 60)
    assert frozen.get("attempts") == [1]
    assert TIMEOUT_SECONDS <= time.monotonic() - began < 20 * TIMEOUT_SECONDS


def test_an_answer_that_is_not_redis_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    def answer(listener: socket.socket) -> None:
        with listener.accept()[0] as sock:
            sock.recv(4096)
            sock.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        wrong = cache_at(f"redis://127.0.0.1:{listener.getsockname()[1]}/0", "wrong")
        assert wrong.get("attempts", []) == []
        thread.join()
    assert [record.message for record in caplog.records] == ["cache.redis.lost"]


def test_redis_is_used_where_it_answers(settings: Any) -> None:
    if not settings.REDIS_URL:
        pytest.skip("no REDIS_URL")
    prefix = f"test-{uuid.uuid4().hex}"
    one, other = (cache_at(settings.REDIS_URL, prefix) for _ in range(2))
    assert one.add("lock", 1, 60)
    assert not other.add("lock", 1, 60)
    assert one._memory.get("lock") is None
    assert other.delete("lock")
    other.set("attempts", [1], 60)
    assert one.get("attempts") == [1]


def test_what_lies_in_redis_is_json_and_runs_no_code(settings: Any) -> None:
    if not settings.REDIS_URL:
        pytest.skip("no REDIS_URL")
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
    assert settings.CACHES["shared"]["OPTIONS"] == configured["OPTIONS"]


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


def test_other_threads_see_the_same_memory(lost: RedisOrMemory) -> None:
    lost.set("attempts", 3, 60)
    assert cache_at("redis://127.0.0.1:1/0", "lost").get("attempts") == 3


def test_without_redis_its_client_is_not_loaded() -> None:
    """It takes a tenth of the time that a command needs to start."""
    look = "import sys, common.cache, common.floods; sys.exit('redis' in sys.modules)"
    subprocess.run([sys.executable, "-c", look], check=True)
