"""Whether the mails that nobody waits for, as those of low balances, go out."""

from __future__ import annotations

from django.utils import timezone

from gateway import heartbeat
from gateway.accounts.context import has_mail_server

NO_SERVER, NO_WORKER = "no_server", "no_worker"


def find_obstacle() -> str:
    """Return what keeps the worker's mails from being sent: there is no server, or no worker."""
    if not has_mail_server():
        return NO_SERVER
    is_alive = heartbeat.is_worker_alive(heartbeat.worker_seen_at(), now=timezone.now())
    return "" if is_alive else NO_WORKER
