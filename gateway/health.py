"""Is the process alive, and are the database and the cache reachable?"""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.core.cache import caches
from django.db import connection
from django.http import HttpRequest, JsonResponse

logger = logging.getLogger("gateway.health")


def healthz(request: HttpRequest) -> JsonResponse:
    """200 while the process answers; touches nothing else."""
    return JsonResponse({"status": "ok"})


def readyz(request: HttpRequest) -> JsonResponse:
    """200 when database and cache answer, 503 naming the one that does not."""
    results = {"database": _probe(_ask_database), "cache": _probe(_ask_cache)}
    is_ready = set(results.values()) == {"ok"}
    body = {"status": "ok" if is_ready else "unavailable", **results}
    headers = {} if is_ready else {"Retry-After": "2"}
    return JsonResponse(body, status=200 if is_ready else 503, headers=headers)


def _probe(ask: Callable[[], object]) -> str:
    try:
        ask()
    except Exception as error:  # noqa: BLE001  # any failure means "not reachable"
        logger.warning("health.probe.failed", extra={"probe": ask.__name__, "reason": repr(error)})
        return "unreachable"
    return "ok"


def _ask_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _ask_cache() -> None:
    caches["shared"].get("readyz")
