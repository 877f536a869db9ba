"""A coarse limit for addresses that keep sending unknown keys.

The `limits` library counts them in Redis if there is one, otherwise in this process. Only unknown
keys are counted and refused, because one guesser behind a shared proxy must not lock out its
neighbours. allauth counts login attempts (ACCOUNT_RATE_LIMITS). Limits that must be exact do not
use this; they are in the database (billing/throttling.py).
"""

from __future__ import annotations

import logging
from functools import lru_cache, partial

from django.conf import settings
from django.http import HttpRequest
from limits import RateLimitItemPerMinute
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import SlidingWindowCounterRateLimiter

from common.addresses import counted_as, parse_address
from common.cache import redis_outage
from common.errors import RateLimited

logger = logging.getLogger("gateway.floods")

RETRY_AFTER_SECONDS = 10


def count_failed_key(request: HttpRequest) -> None:
    """Count one unknown key. Raises RateLimited if its address has sent too many.

    The log is bounded as well: one line a minute for each address.
    """
    address = client_address(request)
    if is_within("failed-keys", counted_as(address), per_minute=settings.FAILED_KEYS_PER_MINUTE):
        return
    if is_first_this_minute("api.keys.flooded", counted_as(address)):
        logger.warning("api.keys.flooded", extra={"address": address})
    request.is_flood = True  # type: ignore[attr-defined]  # no access line (api/base.py)
    raise RateLimited(
        "Your address sent too many requests with unknown keys. Wait a moment, then check "
        "the key in the dashboard.",
        retry_after=RETRY_AFTER_SECONDS,
    )


def client_address(request: HttpRequest) -> str:
    """Return the caller's IP address as seen by the outermost trusted proxy; '' if unknown."""
    forwarded = request.META.get(settings.TRUSTED_PROXY_META, "")
    return address_in(request.META.get("REMOTE_ADDR", ""), forwarded)


def address_in(peer: str, forwarded: str) -> str:
    """Return the caller's address from the socket's and from the trusted proxies' header.

    Each proxy adds one entry to the header. With fewer entries than proxies, or without an address
    at the outermost one's place, the setting does not match the proxies, and this returns the
    socket's address.
    """
    peer = parse_address(peer)
    proxies: int = settings.TRUSTED_PROXY_COUNT
    if not proxies:
        return peer
    entries = forwarded.split(",")
    address = parse_address(entries[-proxies]) if len(entries) >= proxies else ""
    if not address and is_first_this_minute("proxies.address.missing", peer):
        logger.warning("proxies.address.missing", extra={"peer": peer, "entries": len(entries)})
    return address or peer


def is_within(what: str, who: str, *, per_minute: int) -> bool:
    """Count one `what` by `who`. Returns False if that exceeds `per_minute`.

    Counts in Redis. While Redis is down, counts in this process and tries Redis again after 5 s.
    """
    item = RateLimitItemPerMinute(per_minute)

    def count(redis_url: str) -> bool:
        return _limiter(redis_url).hit(item, what, who)

    if not settings.REDIS_URL:
        return count("")
    return redis_outage.ask(
        partial(count, settings.REDIS_URL), partial(count, ""), lost=StorageError
    )


def is_first_this_minute(event: str, who: str) -> bool:
    """Return whether to log this event: only the first one by `who` within a minute is logged."""
    return is_within(f"lines:{event}", who, per_minute=1)


@lru_cache(maxsize=4)
def _limiter(redis_url: str) -> SlidingWindowCounterRateLimiter:
    storage: Storage = MemoryStorage()
    if redis_url:
        timeout = settings.REDIS_TIMEOUT_SECONDS
        storage = RedisStorage(
            redis_url,
            wrap_exceptions=True,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
        )
    return SlidingWindowCounterRateLimiter(storage)
