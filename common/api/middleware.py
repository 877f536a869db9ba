"""Request ids, the access log, security headers, and the API's short path.

The API needs no sessions, messages, or CSRF protection, because its callers hold a key and no
cookie. So its requests skip Django's middlewares, which come after these two.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch, resolve

from common.logs import request_id_var
from server.slots import PROBE_PATHS

access_log = logging.getLogger("gateway.access")

GetResponse = Callable[[HttpRequest], HttpResponseBase]

# What a caller may send as X-Request-Id. Anything else is replaced, line breaks and terminal
# escapes included, so that nobody can forge log lines.
REQUEST_ID_PATTERN = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
API_PREFIXES = ("/api/", "/v1/")
# For answers that are not pages.
API_CONTENT_SECURITY_POLICY = "default-src 'none'; frame-ancestors 'none'"
# For pages: only our own files, no inline script or style, no eval.
PAGE_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


def is_api_request(request: HttpRequest) -> bool:
    """Return whether the path belongs to the API, which answers in JSON and ignores cookies."""
    return request.path.startswith(API_PREFIXES) or request.path in PROBE_PATHS


def hsts_header() -> str:
    """Return the HSTS header that Django's middleware sets on pages, if it sets one."""
    subdomains = "; includeSubDomains" if settings.SECURE_HSTS_INCLUDE_SUBDOMAINS else ""
    preload = "; preload" if settings.SECURE_HSTS_PRELOAD else ""
    return f"max-age={settings.SECURE_HSTS_SECONDS}{subdomains}{preload}"


# In a mailed link, the part after these prefixes is a secret, except on our own pages below.
_SECRET_IN_PATH = re.compile(
    r"^(/+join/|/+accounts/confirm-email/|/+accounts/password/reset/key/)"
    r"(?!(?:accept|decline|log-out|done)/?$)[^/]+(/?)"
)


def path_for_log(request: HttpRequest) -> str:
    """Return the path without the secret of a mailed link."""
    # Applies to unresolved paths too: without its trailing slash, a link only redirects.
    path = request.path
    if found := _SECRET_IN_PATH.match(path):
        path = f"{found[1]}…{found[2]}{path[found.end() :]}"
    captured = request.resolver_match.kwargs if request.resolver_match else {}
    for name in ("key", "secret"):
        if value := captured.get(name):
            path = path.replace(str(value), "…")
    return path


def keep_trusted_scheme(meta: dict[str, Any]) -> None:
    """Keep only the outermost trusted proxy's entry in X-Forwarded-Proto; Django reads the first.

    Most proxies replace the header, but some append to what the caller sent.
    """
    entries = meta.get("HTTP_X_FORWARDED_PROTO", "").split(",")
    if len(entries) > 1:
        trusted = min(settings.TRUSTED_PROXY_COUNT, len(entries))
        meta["HTTP_X_FORWARDED_PROTO"] = entries[-trusted].strip()


class RequestMiddleware:
    """Gives every request an id, every answer its headers, and the access log one line."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.perf_counter()
        request_id = request.META.get("HTTP_X_REQUEST_ID", "")
        if not REQUEST_ID_PATTERN.fullmatch(request_id):
            request_id = "req_" + os.urandom(12).hex()
        if settings.TRUSTED_PROXY_COUNT:
            keep_trusted_scheme(request.META)
        token = request_id_var.set(request_id)
        try:
            response = self.get_response(request)
            headers = response.headers
            headers["X-Request-Id"] = request_id
            is_api = is_api_request(request)
            if is_api:
                headers["Content-Security-Policy"] = API_CONTENT_SECURITY_POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                if settings.SECURE_HSTS_SECONDS and request.is_secure():
                    headers["Strict-Transport-Security"] = hsts_header()
                headers.setdefault("Cache-Control", "no-store")
                if isinstance(response, HttpResponse) and response.status_code != 204:
                    headers.setdefault("Content-Length", str(len(response.content)))
            else:
                headers["Content-Security-Policy"] = PAGE_CONTENT_SECURITY_POLICY
                # For one person, and invalid after logout. Pages that may be cached set their own
                # header.
                headers.setdefault("Cache-Control", "private, no-store")
            self._log(request, response, started=started, is_api=is_api)
            return response
        finally:
            request_id_var.reset(token)

    @staticmethod
    def _log(
        request: HttpRequest, response: HttpResponseBase, *, started: float, is_api: bool
    ) -> None:
        if request.path in PROBE_PATHS or not access_log.isEnabledFor(logging.INFO):
            return
        if "gateway.answered" in request.META:  # another thread answered and logged it
            return
        # Part of a flood, which has its own log line once a minute (floods.py).
        if getattr(request, "is_flood", False):
            return
        fields: dict[str, Any] = {
            "method": request.method,
            # No path of the API holds a secret.
            "path": request.path if is_api else path_for_log(request),
            "status": response.status_code,
            "duration_ms": round((time.perf_counter() - started) * 1000, 2),
        }
        fields |= getattr(request, "log_fields", {})
        # What `info` does, without its search of the stack for the calling line, always this one.
        access_log.handle(
            access_log.makeRecord(
                access_log.name, logging.INFO, __file__, 0, "http.request.finished", (), None,
                extra=fields,
            )
        )  # fmt: skip


class ApiMiddleware:
    """Answers the API and the probes itself. The middlewares after this one are for pages."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not is_api_request(request):
            return self.get_response(request)
        match = request.resolver_match = match_of(request.path_info)
        response: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
        return response


@lru_cache(maxsize=32)  # small: a path may be 64 KB long, and unknown paths are cached too
def match_of(path: str) -> ResolverMatch:
    """Return the view of an API path. Raises Resolver404."""
    return resolve(path, settings.ROOT_URLCONF)
