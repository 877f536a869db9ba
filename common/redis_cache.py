"""The Redis cache (django-redis), which falls back to this process's memory while Redis is down.

Login limits are kept in it. django-redis either lets Redis's errors through, so that nobody could
log in while an optional service is down, or ignores them, so that nothing would be counted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django_redis.cache import RedisCache
from redis.exceptions import RedisError

from common.cache import Memory, redis_outage


class RedisOrMemory(RedisCache):
    """The Redis cache; for 5 s after a failure, memory instead.

    Covers the methods that limits need. The other methods raise as usual.
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
    return redis_outage.ask(
        partial(in_redis, *args, **kwargs), partial(in_memory, *args, **kwargs), lost=RedisError
    )
