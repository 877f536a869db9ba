"""A Redis cache that falls back to this process's memory while Redis is down.

Login limits are kept in it. Django's own backend lets Redis's errors through, so nobody could log
in while an optional service is down.
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
# One for the process, like the memory: Django creates a cache object for each thread.
_retry_at = 0.0


class Memory(LocMemCache):
    """This process's memory, with expiry by the monotonic clock, which nobody can set.

    With the wall clock, login limits counted while it ran ahead would last for as long as it had
    been wrong.
    """

    def get_backend_timeout(self, timeout: float | None = DEFAULT_TIMEOUT) -> float | None:
        if timeout == DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        return None if timeout is None else time.monotonic() + timeout

    def _has_expired(self, key: str) -> bool:
        end = self._expire_info.get(key, -1)  # type: ignore[attr-defined]  # not in the stubs
        return end is not None and end <= time.monotonic()


class JsonSerializer:
    """Stores values in Redis as JSON, so that write access to Redis cannot run code here.

    Django's own serializer pickles everything that is not an integer.
    """

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data)


class RedisOrMemory(RedisCache):
    """The Redis cache; for 5 s after a failure, memory instead.

    Covers the methods that limits need. Django's other methods raise as usual.
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
            return default  # we did not write this value: treat it as missing

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
