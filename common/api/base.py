"""What surrounds every API request: the WSGI handler, two middlewares, and the base of its view.

The API needs no sessions, messages, or CSRF protection, because its callers hold a key and no
cookie. So its requests skip what Django does for pages, whose middlewares come after these two.
Its views take JSON, return JSON, and check in the documented order.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

import orjson
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.db import DEFAULT_DB_ALIAS, connections
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch, resolve
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from common.errors import (
    InvalidRequest,
    LengthRequired,
    MethodNotAllowed,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from common.logs import path_for_log, request_id_var
from server.slots import API_PREFIXES, PROBE_PATHS, Slots, slot_given_back

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

access_log = logging.getLogger("gateway.access")

GetResponse = Callable[[HttpRequest], HttpResponseBase]

# What a caller may send as X-Request-Id. Anything else is replaced, line breaks and terminal
# escapes included, so that nobody can forge log lines.
REQUEST_ID_PATTERN = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
# For answers that are not pages.
API_CONTENT_SECURITY_POLICY = "default-src 'none'; frame-ancestors 'none'"
# For pages: only our own files, no inline script or style, no eval.
PAGE_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


class Handler(WSGIHandler):
    """Serves pages as Django does, and the API without the parts that only pages need.

    The API path sends no request_started and request_finished signals. With them Django cleans up
    caches, the script prefix, and the URL map, none of which the API uses, and inspects the
    connection each time. The API path also skips cookies, because no API answer sets one.
    """

    def __call__(  # type: ignore[override]  # the stubs know of Django's own responses only
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        if not environ["PATH_INFO"].startswith(API_PREFIXES):
            return super().__call__(environ, start_response)
        request = self.request_class(environ)
        response = self._middleware_chain(request)  # type: ignore[attr-defined]  # not in the stubs
        # In place of request_finished: return the connection to the pool; on SQLite, close a broken
        # one.
        connections[DEFAULT_DB_ALIAS].close_if_unusable_or_obsolete()
        start_response(f"{response.status_code} {response.reason_phrase}", [*response.items()])
        # A complete answer has nothing left to close.
        return response if response.streaming else [response.content]


def is_api_request(request: HttpRequest) -> bool:
    """Return whether the path belongs to the API, which answers in JSON and ignores cookies."""
    return request.path.startswith(API_PREFIXES) or request.path in PROBE_PATHS


# --- Middlewares ----------------------------------------------------------------------------------


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


def hsts_header() -> str:
    """Return the HSTS header that Django's middleware sets on pages, if it sets one."""
    subdomains = "; includeSubDomains" if settings.SECURE_HSTS_INCLUDE_SUBDOMAINS else ""
    preload = "; preload" if settings.SECURE_HSTS_PRELOAD else ""
    return f"max-age={settings.SECURE_HSTS_SECONDS}{subdomains}{preload}"


def keep_trusted_scheme(meta: dict[str, Any]) -> None:
    """Keep only the outermost trusted proxy's entry in X-Forwarded-Proto; Django reads the first.

    Most proxies replace the header, but some append to what the caller sent.
    """
    entries = meta.get("HTTP_X_FORWARDED_PROTO", "").split(",")
    if len(entries) > 1:
        trusted = min(settings.TRUSTED_PROXY_COUNT, len(entries))
        meta["HTTP_X_FORWARDED_PROTO"] = entries[-trusted].strip()


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


# --- Views ----------------------------------------------------------------------------------------

METHODS_WITH_BODY = ("POST", "PUT", "PATCH")
CLOSE = {"Connection": "close"}
BAD_FRAMING = (
    "Send the body either with Content-Length, or with 'Transfer-Encoding: chunked' alone."
)
NO_JSON_OBJECT = "The body must be a JSON object in UTF-8."


class JsonRenderer(BaseRenderer):
    """Renders with orjson."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None
    ) -> bytes:
        return b"" if data is None else orjson.dumps(data)


_RENDERER = JsonRenderer()


class ApiView(APIView):
    """Checks in the contract's order: 405, 411, 413, then DRF's 401, 403, and 429, then the body.

    DRF decides who may call, how often, and how errors look, through class attributes. What callers
    cannot choose here is left out: parser, renderer, and version.
    """

    renderer_classes = (JsonRenderer,)
    http_method_names = [name for name in APIView.http_method_names if name != "options"]
    max_body_bytes = settings.MAX_BODY_BYTES

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Check the request, call the method, and turn any exception into a response.

        Then break the reference cycles that Django and DRF create between view, request, and
        response, so that Python frees them at once. If they waited for the garbage collector,
        finished responses and the data read for them would stay in memory while other calls wait
        for a provider.
        """
        self.request = wrapped = Request(
            request,
            authenticators=self.get_authenticators(),
            parser_context={"view": self},  # where DRF's authenticators look for it
        )
        try:
            self.initial(wrapped)
            method = getattr(self, str(request.method).lower())
            response = method(wrapped, *args, **kwargs)
        except Exception as error:  # noqa: BLE001  # as DRF does
            response = self.handle_exception(error)
        answer: HttpResponseBase = self.finalize_response(wrapped, response)
        wrapped.parser_context.clear()
        vars(self).clear()
        return answer

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        meta = request._request.META  # DRF's request would search four places for it
        if refusal := meta.get("gateway.refusal"):  # it waited too long for a slot or for its body
            raise refusal
        method = str(request._request.method)
        if method.lower() not in self.http_method_names or not hasattr(self, method.lower()):
            allowed = [name.upper() for name in self.http_method_names if hasattr(self, name)]
            raise MethodNotAllowed(method, allowed)
        if method in METHODS_WITH_BODY:  # refuse it by its headers, before reading any of the body
            declared = meta.get("CONTENT_LENGTH") or ""
            if "HTTP_TRANSFER_ENCODING" in meta:
                # Two lengths, or a coding that a proxy may read differently from us.
                if declared or meta["HTTP_TRANSFER_ENCODING"].strip().lower() != "chunked":
                    raise InvalidRequest(BAD_FRAMING, headers=CLOSE)
            elif not (declared.isascii() and declared.isdigit()):
                raise LengthRequired
            elif int(declared) > self.max_body_bytes:
                raise PayloadTooLarge(self.max_body_bytes)
        # Now. DRF does so when `user` is first read, behind a guarded property.
        request._authenticate()  # type: ignore[attr-defined]  # not in the stubs
        self.check_permissions(request)
        self.check_throttles(request)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Add the rate-limit headers, also to refusals after the key was found valid."""
        caller = getattr(request, "_auth", None)
        headers = getattr(request._request, "rate_headers", None)
        if caller is not None and headers is None and "X-RateLimit-Limit" not in response:
            throttles = [t for t in self.get_throttles() if isinstance(t, HeaderThrottle)]
            headers = throttles[0].headers(caller) if throttles else None
        for name, value in (headers or {}).items():
            response.headers[name] = value
        if isinstance(response, Response):
            render(response)
        return response


def read_object(request: Request) -> tuple[bytes, dict[str, Any]]:
    """Return the bytes of a JSON body, and the object in it.

    Raises UnsupportedMediaType, PayloadTooLarge (for a chunked body), InvalidRequest (the body
    ended early, took too long, or is not a JSON object), or Overloaded (too many bodies are being
    read). Parses with orjson. Parses again what orjson refuses, to give the caller a better error.
    """
    meta = request._request.META
    content_type = meta.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise UnsupportedMediaType
    limit: int = request.parser_context["view"].max_body_bytes
    declared = None if "HTTP_TRANSFER_ENCODING" in meta else int(meta["CONTENT_LENGTH"])
    size = limit + 1 if declared is None else declared
    slots: Slots | None = meta.get("gateway.slots")
    try:
        if slots is None or not size:  # another server, or a test
            body = bytes(meta["wsgi.input"].read(size))
        else:
            headers = getattr(request._request, "rate_headers", None) or {}
            owner = getattr(request.auth, "account_id", None)
            with slot_given_back():  # because the caller may send slowly
                body = slots.bodies.read(meta, size, owner=owner, late_headers=headers)
    except OSError:
        body = b""
    if declared is None and len(body) > limit:
        raise PayloadTooLarge(limit)
    if len(body) < (declared or 0):
        raise InvalidRequest("The body ended before its declared length.")
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = _parse_with_surrogates(body)
    if not isinstance(parsed, dict):
        raise InvalidRequest(NO_JSON_OBJECT)
    return body, parsed


def _parse_with_surrogates(body: bytes) -> Any:
    """Parse what orjson refuses only for lone surrogates, so that the error names the field."""
    try:
        return json.loads(body.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise InvalidRequest(NO_JSON_OBJECT) from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class HeaderThrottle(BaseThrottle):
    """A throttle that can also return its headers without counting a request."""

    def headers(self, caller: Any) -> dict[str, str]:
        raise NotImplementedError


def render(response: Response) -> None:
    """Write a response as JSON."""
    response.accepted_renderer = _RENDERER
    response.accepted_media_type = _RENDERER.media_type
    response.renderer_context = {}  # type: ignore[attr-defined]  # not in the stubs
    response.render()
    vars(response).pop("renderer_context")  # breaks a cycle: it refers to the response
