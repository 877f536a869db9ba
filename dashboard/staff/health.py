"""System health: what runs, whether the books agree, which routes answer, what is stuck."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any

import django
from django.conf import settings
from django.contrib import messages
from django.core.cache import cache
from django.db import connection
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _

from billing import totals
from billing.models import VerificationRun
from channels import breaker, route_tests
from channels.admin.catalogue import words_of_breaker
from channels.models import RouteHealth
from common.pages.numbers import local_number
from common.pages.requests import post_only
from conversations.usage import pulse
from dashboard.staff.pages import render_staff_page, staff_page, staff_url

VERIFY_BY_HAND = ".venv/bin/python manage.py verifyledger"
RUNS_SHOWN = 7
DIFFERENCES_SHOWN = 20
ROUTES_SHOWN = 50
# The most entries and messages that are verified within the request, in about a second.
PROVEN_AT_ONCE = 50_000


@staff_page("billing.view_verificationrun")
def health(request: HttpRequest) -> HttpResponseBase:
    """Show what the database and this process know. Workers are only asked on demand."""
    # Loading Celery would slow down the start of every command that loads the URLs.
    from dashboard.staff import worker

    now = timezone.now()
    runs = list(VerificationRun.objects.order_by("-started_at")[:RUNS_SHOWN])
    open_holds, overdue_holds = totals.count_open_holds(now=now)
    return render_staff_page(
        request,
        "health.html",
        title=_("System health"),
        probes=[
            _probe(_("Database"), connection.vendor, _ask_database),
            _probe(_("Cache"), "Redis" if settings.REDIS_URL else _("this process"), _ask_cache),
        ],
        runs=runs,
        differences=runs[0].details[:DIFFERENCES_SHOWN] if runs else [],
        routes=[
            _describe_route(row, now)
            for row in RouteHealth.objects.order_by("-failed_at")[:ROUTES_SHOWN]
        ],
        open_holds=open_holds,
        overdue_holds=overdue_holds,
        hour=pulse.read_pulse(since=now - timedelta(hours=1)),
        versions=_versions(),
        now=now,
        **worker.describe(now),
    )


def _probe(name: str, kind: str, ask: Callable[[], object]) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        ask()
    except Exception as error:  # noqa: BLE001  # of whichever kind: it is what the page is for
        return {"name": name, "kind": kind, "error": type(error).__name__}
    return {
        "name": name,
        "kind": kind,
        "ms": local_number((time.perf_counter() - started) * 1000, 2),
    }


def _ask_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _ask_cache() -> None:
    cache.get("health")


def _describe_route(row: RouteHealth, now: datetime) -> dict[str, Any]:
    return {
        "row": row,
        "state": (state := breaker.state_of(row, now=now)),
        "state_words": words_of_breaker(state),
        "words": route_tests.explain(row.reason),
        "failures": row.failure_count + row.stream_failure_count,
    }


def _versions() -> list[tuple[str, str]]:
    return [
        (_("AI gateway"), settings.VERSION),
        ("Python", platform.python_version()),
        ("Django", django.get_version()),
        ("Unfold", version("django-unfold")),
        (connection.display_name, _database_version()),
    ]


def _database_version() -> str:
    return ".".join(map(str, connection.get_database_version()))


@staff_page("billing.add_verificationrun")
@post_only
def verify(request: HttpRequest) -> HttpResponseBase:
    """Have a worker verify the ledger. If none answers, verify a small one here, or say how to."""
    # Loading Celery would slow down the start of every command that loads the URLs.
    from dashboard.staff import worker

    if worker.find_workers():
        worker.queue_verification()
        messages.success(
            request, _("A worker is verifying the ledger. Reload this page in a moment.")
        )
    elif totals.count_what_is_proven() > PROVEN_AT_ONCE:
        said = _(
            "No worker answers, and the ledger is too large. Run `%(command)s` on the server "
            "instead."
        )
        messages.error(request, said % {"command": VERIFY_BY_HAND})
    elif difference_count := worker.verify_here():
        said = _("The ledger has %(count)s differences.")
        messages.error(request, said % {"count": local_number(difference_count)})
    else:
        messages.success(request, _("The ledger has no differences."))
    return redirect(staff_url("health"))


@staff_page("billing.view_verificationrun")
@post_only
def workers(request: HttpRequest) -> HttpResponseBase:
    """Ask the workers whether they are running. Takes a second."""
    # Loading Celery would slow down the start of every command that loads the URLs.
    from dashboard.staff import worker

    names = worker.find_workers()
    if names:
        messages.success(request, _("Answering: %(names)s.") % {"names": ", ".join(names)})
    else:
        messages.error(request, _("No worker answers. Start one with `make worker`."))
    return redirect(staff_url("health"))
