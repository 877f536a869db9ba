"""Pages for requests that Django refuses or cannot answer. The log gets the reason.

A wrong origin or host is nearly always a wrong setting, so the page and the log name it.
"""

from __future__ import annotations

import logging
import time

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import REASON_BAD_ORIGIN
from django.template.loader import render_to_string

from common.logs import path_for_log

logger = logging.getLogger("gateway.pages")

# Anybody can request any host, so the log gets one line for each such period.
HOST_LINE_EVERY_SECONDS = 10.0
LONGEST_HOST_SHOWN = 100
# The end of Django's reason when Origin or Referer is present but differs from the host.
_OF_ANOTHER_ORIGIN = REASON_BAD_ORIGIN.partition("%s")[2]
_next_host_line_at = 0.0


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer 403 to a form that may come from another site."""
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
    """Return the scheme, host, and port of a URL."""
    return "/".join(address.split("/")[:3])[:LONGEST_HOST_SHOWN]


def unknown_host(request: HttpRequest) -> HttpResponse:
    """Answer 400 to a Host that is not in ALLOWED_HOSTS."""
    global _next_host_line_at
    host = str(request.META.get("HTTP_HOST", ""))[:LONGEST_HOST_SHOWN]
    if (now := time.monotonic()) >= _next_host_line_at:
        _next_host_line_at = now + HOST_LINE_EVERY_SECONDS
        logger.warning("page.host.refused", extra={"host": host, "setting": "ALLOWED_HOSTS"})
    # Rendered without the request, because its get_host() would raise again.
    return HttpResponse(render_to_string("400.html", {"host": host}), status=400)


def unavailable(request: HttpRequest, retry_after: int, *, is_busy: bool) -> HttpResponse:
    """Answer 503 while the gateway sheds load (`is_busy`), or while its database is unreachable."""
    page = render_to_string("503.html", {"is_busy": is_busy})
    return HttpResponse(page, status=503, headers={"Retry-After": str(retry_after)})
