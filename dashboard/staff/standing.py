"""What every page of the staff admin shows: the palette, and what the installation lacks."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils import timezone

from channels.routes import is_demo
from common import heartbeat
from dashboard.staff.pages import staff_url


def describe(request: HttpRequest) -> dict[str, Any]:
    """Return it in the format of unfold's GLOBAL_CALLBACK. Nothing for whoever is no staff."""
    if not request.user.is_staff:
        return {}
    context = {"search_url": staff_url("search"), "is_demo": is_demo()}
    if request.user.has_perm("billing.view_verificationrun"):
        seen_at = heartbeat.worker_seen_at()
        context["worker_seen_at"] = seen_at
        context["is_worker_away"] = not heartbeat.is_worker_alive(seen_at, now=timezone.now())
    return context
