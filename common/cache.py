"""This process's memory, which replaces Redis while it is down or not configured.

Nothing here loads Redis's client, which only an installation with REDIS_URL needs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.cache.backends.locmem import LocMemCache

T = TypeVar("T")

logger = logging.getLogger("gateway.cache")

RETRY_AFTER_SECONDS = 5.0


class Memory(LocMemCache):
    """This process's memory, with expiry by the monotonic clock, which nobody can set.

    With the wall clock, login limits that were counted while it ran ahead would last for as long as
    it had been wrong.
    """

    def get_backend_timeout(self, timeout: float | None = DEFAULT_TIMEOUT) -> float | None:
        if timeout == DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        return None if timeout is None else time.monotonic() + timeout

    def _has_expired(self, key: str) -> bool:
        end = self._expire_info.get(key, -1)  # type: ignore[attr-defined]  # not in the stubs
        return end is not None and end <= time.monotonic()


class Outage:
    """Whether Redis answers. After a failure nobody asks it for 5 s; then one caller tries again.

    The log has one line when Redis is lost and one when it is back.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._failures = 0
        self._retry_at = 0.0

    def ask(
        self, in_redis: Callable[[], T], in_memory: Callable[[], T], lost: type[Exception]
    ) -> T:
        """Return what Redis says, or this process's memory while Redis is down.

        `in_redis` raises `lost` if Redis failed.
        """
        if self._may_ask():
            try:
                found = in_redis()
            except lost:
                self._note_failure()
            else:
                self._note_success()
                return found
        return in_memory()

    def _may_ask(self) -> bool:
        if not self._failures:
            return True
        with self._lock:
            now = time.monotonic()
            if now < self._retry_at:
                return False
            self._retry_at = now + RETRY_AFTER_SECONDS
            return True

    def _note_failure(self) -> None:
        with self._lock:
            self._failures += 1
            self._retry_at = time.monotonic() + RETRY_AFTER_SECONDS
            is_first = self._failures == 1
        if is_first:
            logger.warning("cache.redis.lost")

    def _note_success(self) -> None:
        if not self._failures:
            return
        with self._lock:
            failures, self._failures = self._failures, 0
        if failures:
            logger.warning("cache.redis.recovered", extra={"failures": failures})


# One for the process: the first caller that finds Redis down spares the others the wait.
redis_outage = Outage()
