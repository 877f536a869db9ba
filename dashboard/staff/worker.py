"""The worker's state for the health page.

A module of its own, which the page imports when it is opened: loading Celery would take a tenth of
the start-up time of every command with checks.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from celery import Celery
from celery.exceptions import CeleryError
from django.conf import settings
from django.utils.module_loading import import_string
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _
from kombu.exceptions import KombuError, OperationalError

from common import heartbeat

TIMEOUT_SECONDS = 1.0
VERIFY_LEDGER = "gateway.tasks.verify_ledger"
# The names in the schedule (gateway/celery.py), for translators.
NAMES = (
    _("report that the worker is alive"),
    _("expire holds"),
    _("warn about low balances"),
    _("alert of spend caps"),
    _("mail about credit requests"),
    _("send the e-mails that people chose"),
    _("tell of outages"),
    _("write daily digests"),
    _("report broken routes"),
    _("retire models"),
    _("grant monthly credits"),
    _("verify the ledger"),
    _("delete expired logins"),
    _("fetch model lists"),
    _("roll up usage"),
    _("correct rollups"),
    _("expire sessions"),
)

# By its setting, because the project imports this package.
app: Celery = import_string(settings.CELERY_APPLICATION)
# Only a worker loads them by itself.
app.loader.import_default_modules()


def describe(now: datetime) -> dict[str, Any]:
    """Return the settings and the worker's last heartbeat. Asks no worker."""
    seen_at = heartbeat.worker_seen_at()
    return {
        "broker": app.conf.broker_url.split("://")[0],
        "worker_seen_at": seen_at,
        "is_worker_alive": heartbeat.is_worker_alive(seen_at, now=now),
        "schedule": [
            {"name": gettext(name), "every": _every(entry["schedule"])}
            for name, entry in app.conf.beat_schedule.items()
        ],
    }


def find_workers() -> list[str]:
    """Return the names of the workers that answer within a second."""
    try:
        with app.connection_for_write(connect_timeout=TIMEOUT_SECONDS) as broker:
            broker.ensure_connection(max_retries=1, timeout=TIMEOUT_SECONDS)
            inspect = app.control.inspect(timeout=TIMEOUT_SECONDS, connection=broker)
            return sorted(inspect.ping() or {})
    except (CeleryError, KombuError, OperationalError, OSError):
        return []


def queue_verification() -> None:
    """Have a worker verify the ledger."""
    app.tasks[VERIFY_LEDGER].delay()


def verify_here() -> int:
    """Verify the ledger in this process. Returns the number of differences."""
    difference_count: int = app.tasks[VERIFY_LEDGER]()
    return difference_count


def _every(schedule: Any) -> str:
    if not isinstance(schedule, int | float):
        (hour,), (minute,) = schedule.hour, schedule.minute
        return gettext("daily at %(time)s UTC") % {"time": f"{hour:02}:{minute:02}"}
    if schedule < 120:
        return gettext("every %(count)s s") % {"count": int(schedule)}
    return gettext("every %(count)s min") % {"count": int(schedule // 60)}
