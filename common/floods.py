"""The coarse outside: an address that keeps sending unknown keys is told to wait.

Counted by the `limits` library, in Redis where there is one, in this process otherwise. It
guards the database against guessing; nothing that must be exact depends on it. The limits that
must be exact live in the database (billing/throttling.py).
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from functools import lru_cache

from django.conf import settings
from django.http import HttpRequest
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis.exceptions import RedisError

from common import crypto
from common.errors import RateLimited

logger = logging.getLogger("gateway.floods")

RETRY_REDIS_AFTER_SECONDS = 5.0
_BLOCK_SECONDS = 10.0
_GOOD_KEYS_REMEMBERED = 10_000

# Digests of keys that were valid a moment ago: their holders are let through to the look-up
# although a neighbour behind the same address is guessing. No admission is decided here.
_good_keys: OrderedDict[str, None] = OrderedDict()
_blocked_until: dict[str, float] = {}
_redis_retry_at = 0.0


def check_failed_keys(request: HttpRequest, key: str) -> None:
    """Raise RateLimited for an unknown key from an address over its limit, before any query."""
    if not _blocked_until:
        return
    wait = _blocked_until.get(client_address(request), 0.0) - time.monotonic()
    if wait > 0 and crypto.digest(key) not in _good_keys:
        raise _refusal(wait)


def count_failed_key(request: HttpRequest) -> None:
    """Count one unknown key; raise RateLimited when the address has sent too many."""
    address = client_address(request)
    if _hit(address):
        return
    now = time.monotonic()
    for known in [known for known, until in _blocked_until.items() if until <= now]:
        _blocked_until.pop(known, None)
    _blocked_until[address] = now + _BLOCK_SECONDS
    logger.warning("api.keys.flooded", extra={"address": address})
    raise _refusal(_BLOCK_SECONDS)


def remember_good_key(key: str) -> None:
    """Note a valid key; only kept while some address is blocked, so that it costs nothing else."""
    if not _blocked_until:
        return
    _good_keys[crypto.digest(key)] = None
    while len(_good_keys) > _GOOD_KEYS_REMEMBERED:
        _good_keys.popitem(last=False)


def client_address(request: HttpRequest) -> str:
    """Return the caller's address, past as many proxies as the operator trusts."""
    proxies: int = settings.TRUSTED_PROXY_COUNT
    forwarded = [part.strip() for part in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    if proxies and len(forwarded) >= proxies and forwarded[-proxies]:
        return str(forwarded[-proxies])
    return str(request.META.get("REMOTE_ADDR", ""))


def _refusal(wait_seconds: float) -> RateLimited:
    return RateLimited(
        "Too many requests with unknown keys come from your address. Wait a moment, then check "
        "the key in the dashboard.",
        retry_after=max(1, round(wait_seconds)),
    )


def _hit(address: str) -> bool:
    global _redis_retry_at
    item = RateLimitItemPerMinute(settings.FAILED_KEYS_PER_MINUTE)
    if settings.REDIS_URL and time.monotonic() >= _redis_retry_at:
        try:
            return _limiter(settings.REDIS_URL).hit(item, "failed-keys", address)
        except RedisError:
            _redis_retry_at = time.monotonic() + RETRY_REDIS_AFTER_SECONDS
            logger.warning("cache.redis.lost")
    return _limiter("").hit(item, "failed-keys", address)


@lru_cache(maxsize=4)
def _limiter(redis_url: str) -> SlidingWindowCounterRateLimiter:
    storage: Storage = MemoryStorage()
    if redis_url:
        timeout = settings.REDIS_TIMEOUT_SECONDS
        storage = RedisStorage(redis_url, socket_timeout=timeout, socket_connect_timeout=timeout)
    return SlidingWindowCounterRateLimiter(storage)
