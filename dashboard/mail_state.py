"""Whether e-mails that nobody waits for, such as low-balance warnings, can be sent."""

from __future__ import annotations

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
    if not has_mail_server():
        return NO_SERVER
    seen_at = heartbeat.worker_seen_at()
    return "" if heartbeat.is_worker_alive(seen_at, now=timezone.now()) else NO_WORKER
