"""Pages that Django refuses or cannot answer: what went wrong, for people, and why, for the log.

A wrong origin or host is a setting nearly always, so page and log name it.
"""

from __future__ import annotations

import logging
import time

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import REASON_BAD_ORIGIN
from django.template.loader import render_to_string

from common.middleware import path_for_log

logger = logging.getLogger("gateway.pages")

# Anybody can ask for any host, so the log has one line of it in this time.
HOST_LINE_EVERY_SECONDS = 10.0
LONGEST_HOST_SHOWN = 100
# How Django's reasons end where Origin or Referer is there, and another.
_OF_ANOTHER_ORIGIN = REASON_BAD_ORIGIN.partition("%s")[2]
_next_host_line_at = 0.0


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer 403 to a form that may come from elsewhere."""
    seen = f"{request.scheme}://{request.META.get('HTTP_HOST', '')}"[:LONGEST_HOST_SHOWN]
    origin = request.META.get("HTTP_ORIGIN") or request.META.get("HTTP_REFERER", "")
    is_origin = reason.endswith(_OF_ANOTHER_ORIGIN)
    fields = {"path": path_for_log(request), "reason": reason, "seen": seen}
    if is_origin:
        fields["origin"] = origin[:LONGEST_HOST_SHOWN]
        fields["settings"] = "TRUSTED_PROXY_COUNT, CSRF_TRUSTED_ORIGINS"
    logger.warning("page.form.refused", extra=fields)
    told = {"seen": seen, "origin": _origin_of(origin), "is_origin": is_origin}
    page = render_to_string("403_csrf.html", {**told, "site_name": settings.SITE_NAME})
    return HttpResponse(page, status=403)


def _origin_of(address: str) -> str:
    """Return scheme, host and port of an address."""
    return "/".join(address.split("/")[:3])[:LONGEST_HOST_SHOWN]


def unknown_host(request: HttpRequest) -> HttpResponse:
    """Answer 400 to a name that is not in ALLOWED_HOSTS."""
    global _next_host_line_at
    host = str(request.META.get("HTTP_HOST", ""))[:LONGEST_HOST_SHOWN]
    if (now := time.monotonic()) >= _next_host_line_at:
        _next_host_line_at = now + HOST_LINE_EVERY_SECONDS
        logger.warning("page.host.refused", extra={"host": host, "setting": "ALLOWED_HOSTS"})
    # Without the request: whoever asks it for its host is refused again.
    return HttpResponse(render_to_string("400.html", {"host": host}), status=400)


def unavailable(request: HttpRequest, retry_after: int) -> HttpResponse:
    """Answer 503 while there is no database."""
    page = render_to_string("503.html", {"retry_after": retry_after})
    return HttpResponse(page, status=503, headers={"Retry-After": str(retry_after)})
