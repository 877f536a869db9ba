"""A cache in Redis that falls back on this process's memory while Redis is away.

Log-in limits live in it. Django's own backend raises what Redis raises, and nobody could log in
while an optional service is down.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache
from redis.exceptions import RedisError

logger = logging.getLogger("gateway.cache")

RETRY_AFTER_SECONDS = 5.0
# Of the process, as the memory is: Django makes a cache object for each thread.
_retry_at = 0.0


class Memory(LocMemCache):
    """This process's memory, where what is kept ends by a clock that nobody sets.

    By the one on the wall, log-in limits that were counted while it ran ahead would last for as
    long as it had been wrong.
    """

    def get_backend_timeout(self, timeout: float | None = DEFAULT_TIMEOUT) -> float | None:
        if timeout == DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        return None if timeout is None else time.monotonic() + timeout

    def _has_expired(self, key: str) -> bool:
        end = self._expire_info.get(key, -1)  # type: ignore[attr-defined]  # not in the stubs
        return end is not None and end <= time.monotonic()


class JsonSerializer:
    """Values in Redis as JSON: who can write there must not be able to run code here.

    Django's own serializer pickles whatever is no integer.
    """

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data)


class RedisOrMemory(RedisCache):
    """Redis's cache; for 5 s after a failure, memory instead.

    Of Django's methods those that limits need; the others raise as ever.
    """

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._memory = Memory(
            "redis-is-away", {name: value for name, value in params.items() if name != "OPTIONS"}
        )

    def add(self, *args: Any, **kwargs: Any) -> bool:
        return bool(_first_of(super().add, self._memory.add, *args, **kwargs))

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        try:
            return _first_of(super().get, self._memory.get, key, default, version=version)
        except ValueError:
            return default  # not written by us: as good as nothing

    def set(self, *args: Any, **kwargs: Any) -> None:
        _first_of(super().set, self._memory.set, *args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> bool:
        return bool(_first_of(super().delete, self._memory.delete, *args, **kwargs))


def _first_of(
    in_redis: Callable[..., Any], in_memory: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    global _retry_at
    if time.monotonic() >= _retry_at:
        try:
            return in_redis(*args, **kwargs)
        except RedisError:
            _retry_at = time.monotonic() + RETRY_AFTER_SECONDS
            logger.warning("cache.redis.lost")
    return in_memory(*args, **kwargs)
