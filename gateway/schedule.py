"""The worker's schedule, which survives a clock that ran ahead."""

from __future__ import annotations

from typing import Any

from celery.beat import PersistentScheduler

from common.clock import HONEST_SKEW


class Schedule(PersistentScheduler):  # type: ignore[misc]  # the library has no types
    """Celery's scheduler, but it ignores runs recorded in the future.

    Celery's own would start nothing until the clock reaches that time again, even after a restart.
    """

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Start one task that is due. Returns how long to sleep."""
        now = self.app.now()
        for entry in self.schedule.values():
            if entry.last_run_at > now + HONEST_SKEW:
                entry.last_run_at = now
                self._heap = None  # rebuilt from the entries
        return float(super().tick(*args, **kwargs))
