"""The worker's heartbeat: one row, written every minute by a scheduled task.

A fresh row proves the whole chain: the schedule runs, the broker delivers, and a worker works.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.apps import apps
from django.db.models import QuerySet
from django.utils import timezone

from common.clock import HONEST_SKEW

WORKER = "worker"
BEAT_SECONDS = 60.0
# Two beats may be late, because a queue can be briefly busy.
AWAY_AFTER = timedelta(seconds=3 * BEAT_SECONDS)


def beat() -> None:
    """Record that the worker is alive now."""
    _rows().update_or_create(name=WORKER, defaults={"beaten_at": timezone.now()})


def worker_seen_at() -> datetime | None:
    """Return the worker's last heartbeat, or None if there never was one."""
    beats: QuerySet[Any, datetime] = _rows().filter(name=WORKER).values_list("beaten_at", flat=True)
    return beats.first()


def is_worker_alive(seen_at: datetime | None, *, now: datetime) -> bool:
    """Return whether a beat is recent. One in the future proves nothing: a clock was wrong."""
    return seen_at is not None and now - AWAY_AFTER <= seen_at <= now + HONEST_SKEW


def _rows() -> Any:
    # By name, because the table belongs to the project, which imports this package.
    return apps.get_model("gateway", "Heartbeat")._default_manager
