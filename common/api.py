"""The slim shell around every API view: JSON in, JSON out, and the documented order of checks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NoReturn

import orjson
from django.conf import settings
from django.http import HttpRequest, UnreadablePostError
from django.http.response import HttpResponseBase
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from common.errors import (
    InvalidRequest,
    LengthRequired,
    MethodNotAllowed,
    Overloaded,
    PayloadTooLarge,
    UnsupportedMediaType,
)

NO_JSON_OBJECT = "The body must be a JSON object, in UTF-8."


def read_body(request: Request) -> bytes:
    """Return the bytes of a JSON body. Raises UnsupportedMediaType or InvalidRequest."""
    content_type = (request.content_type or "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise UnsupportedMediaType
    try:
        return request._request.read()
    except UnreadablePostError:
        raise InvalidRequest("The body ended before its declared length.") from None


def parse_json_object(body: bytes) -> dict[str, Any]:
    """Return a body as a mapping. Raises InvalidRequest.

    Parsed with orjson; what it refuses is looked at again, to tell the caller more.
    """
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = _parse_with_surrogates(body)
    if not isinstance(parsed, dict):
        raise InvalidRequest(NO_JSON_OBJECT)
    return parsed


def _parse_with_surrogates(body: bytes) -> Any:
    """Parse what orjson refuses only for lone surrogates, so that the field can be named."""
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


class JsonNegotiation(DefaultContentNegotiation):
    """Answers are JSON whatever `Accept` says: a caller is never refused for a header."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type or ""


class HeaderThrottle(BaseThrottle):
    """A throttle that can also tell its headers without counting anything."""

    def headers(self, caller: Any) -> dict[str, str]:
        raise NotImplementedError


class ApiView(APIView):
    """Checks in the contract's order: 405, 411, 413, then DRF's 401, 403, 429; the body after."""

    renderer_classes = (JsonRenderer,)
    content_negotiation_class = JsonNegotiation
    max_body_bytes = settings.MAX_BODY_BYTES

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer, then untie the rings that DRF makes of view, request and response.

        They are then freed at once. Left to the collector, past answers and all that was read for
        them would stay in memory beside the calls that wait for a provider.
        """
        response = super().dispatch(request, *args, **kwargs)
        if isinstance(response, Response):
            response.render()
            vars(response).pop("renderer_context")
        self.request.parser_context.clear()
        vars(self).clear()
        return response

    @property
    def default_response_headers(self) -> dict[str, str]:
        """None: DRF would add `Allow` to every answer, and `Vary` for a choice we do not offer."""
        return {}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if request.META.get("gateway.overloaded"):  # it waited too long for a free thread
            raise Overloaded
        self._check_method(request)
        self._check_length(request)
        super().initial(request, *args, **kwargs)

    def _check_method(self, request: Request) -> None:
        allowed = [name.upper() for name in self.http_method_names if hasattr(self, name)]
        allowed = [name for name in allowed if name != "OPTIONS"]
        if request.method not in allowed:
            raise MethodNotAllowed(str(request.method), allowed)

    def _check_length(self, request: Request) -> None:
        """Refuse by the declared size, before a byte of the body is read."""
        if request.method != "POST":
            return
        declared = request.META.get("CONTENT_LENGTH") or ""
        if not declared.isdigit() or "HTTP_TRANSFER_ENCODING" in request.META:
            raise LengthRequired
        if int(declared) > self.max_body_bytes:
            raise PayloadTooLarge(self.max_body_bytes)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Add the rate headers, also to refusals that came after the key was found valid."""
        response = super().finalize_response(request, response, *args, **kwargs)
        caller = getattr(request, "_auth", None)
        headers = getattr(request._request, "rate_headers", None)
        if caller is not None and headers is None and "X-RateLimit-Limit" not in response:
            throttles = [t for t in self.get_throttles() if isinstance(t, HeaderThrottle)]
            headers = throttles[0].headers(caller) if throttles else None
        for name, value in (headers or {}).items():
            response[name] = value
        return response
