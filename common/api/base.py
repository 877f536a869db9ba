"""The base class of every API view: JSON in, JSON out, and the documented order of checks."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import orjson
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
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
from server.slots import Slots, slot_given_back

METHODS_WITH_BODY = ("POST", "PUT", "PATCH")
CLOSE = {"Connection": "close"}
BAD_FRAMING = (
    "Send the body either with Content-Length, or with 'Transfer-Encoding: chunked' alone."
)
NO_JSON_OBJECT = "The body must be a JSON object in UTF-8."


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


class HeaderThrottle(BaseThrottle):
    """A throttle that can also return its headers without counting a request."""

    def headers(self, caller: Any) -> dict[str, str]:
        raise NotImplementedError


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


def render(response: Response) -> None:
    """Write a response as JSON."""
    response.accepted_renderer = _RENDERER
    response.accepted_media_type = _RENDERER.media_type
    response.renderer_context = {}  # type: ignore[attr-defined]  # not in the stubs
    response.render()
    vars(response).pop("renderer_context")  # breaks a cycle: it refers to the response
