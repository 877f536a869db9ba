"""Whether e-mails that nobody waits for, such as low-balance warnings, can be sent."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.utils import timezone

from common import heartbeat

NO_SERVER, NO_WORKER = "no_server", "no_worker"
_CONSOLE = "django.core.mail.backends.console.EmailBackend"


def has_mail_server() -> bool:
    """Return whether e-mails are really sent. If not, they are written to the server's log."""
    return bool(settings.EMAIL_BACKEND != _CONSOLE)


def find_obstacle() -> str:
    """Return what keeps the worker's e-mails from being sent: no mail server, or no worker."""
    return obstacle_of(heartbeat.worker_seen_at()) if has_mail_server() else NO_SERVER


def obstacle_of(worker_seen_at: datetime | None) -> str:
    """Return the same, from when the worker was last seen."""
    if not has_mail_server():
        return NO_SERVER
    is_alive = heartbeat.is_worker_alive(worker_seen_at, now=timezone.now())
    return "" if is_alive else NO_WORKER
