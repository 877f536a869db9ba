"""The worker's schedule, which a clock that ran ahead does not stop."""

from __future__ import annotations

from typing import Any

from celery.beat import PersistentScheduler

from common.clock import latest_believed


class Schedule(PersistentScheduler):  # type: ignore[misc]  # the library has no types
    """Celery's own; but what it did in the future it is to do again.

    By Celery's, nothing would be due before the clock is where it had been, restarts or not.
    """

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Start one task that is due; return how long to sleep."""
        now = self.app.now()
        for entry in self.schedule.values():
            if entry.last_run_at > latest_believed(now):
                entry.last_run_at = now
                self._heap = None  # made again from the entries
        return float(super().tick(*args, **kwargs))
