"""Turns exceptions into responses, in DRF's handler and in Django's for errors outside views."""

from __future__ import annotations

import logging
import sys
from typing import Any

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from rest_framework.request import Request
from rest_framework.response import Response

from common import errors
from common.api import refusals
from common.api.base import is_api_request
from common.api.rendering import answer_error, to_api_error
from common.errors import ApiError
from common.logs import path_for_log

logger = logging.getLogger("gateway.api")


def render_exception(exception: Exception, context: dict[str, Any]) -> Response:
    """Return the documented error response for any exception. DRF's exception handler."""
    request: Request = context["request"]
    error = to_logged_error(exception)
    replies = getattr(getattr(request, "_auth", None), "fallback_replies", {})
    answer = answer_error(error, path=request.path, fallback_replies=replies)
    return Response(answer.body, status=answer.status, headers=answer.headers)


def to_logged_error(exception: Exception) -> ApiError:
    """Return the documented error, and log it if it is not the caller's fault."""
    error = to_api_error(exception)
    if error.status >= 500:
        fields = {"code": error.code} | _reason_of(exception)
        logger.error("api.request.failed", extra=fields, exc_info=_traceback_of(exception))
    return error


def _traceback_of(exception: BaseException | None) -> BaseException | None:
    """Return the exception if its traceback should be logged. Only unexpected ones need it.

    A provider's failure is logged by its route, and an unreachable database fails every request.
    """
    is_expected = isinstance(to_api_error(exception), errors.Overloaded)
    return None if is_expected or isinstance(exception, ApiError) else exception


def _reason_of(exception: BaseException | None) -> dict[str, str]:
    """Return the database's own message in one short line, if the database is at fault."""
    if isinstance(exception, ApiError) or not isinstance(
        to_api_error(exception), errors.Overloaded
    ):
        return {}
    return {"reason": f"{type(exception).__name__}: {' '.join(str(exception).split())}"[:300]}


def api_not_found(request: HttpRequest) -> HttpResponse:
    """Answer 404 to unknown paths of the API."""
    return _plain_error(request, errors.NotFound())


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 404: JSON under the API, a page elsewhere."""
    if is_api_request(request):
        return api_not_found(request)
    return defaults.page_not_found(request, exception)


def handler400(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 400 when Django refuses a request, mostly for an unknown Host header."""
    if is_api_request(request):
        message = "The request was refused. Check the Host header against ALLOWED_HOSTS."
        return _plain_error(request, errors.InvalidRequest(message))
    if isinstance(exception, DisallowedHost):
        return refusals.unknown_host(request)
    return defaults.bad_request(request, exception)


def handler500(request: HttpRequest) -> HttpResponse:
    """Answer 500, or 503 without a database, to errors outside API views."""
    exception = sys.exc_info()[1]
    error = to_api_error(exception)
    fields = {"path": path_for_log(request)} | _reason_of(exception)
    logger.error("page.request.failed", extra=fields, exc_info=_traceback_of(exception))
    if is_api_request(request):
        return _plain_error(request, error)
    if isinstance(error, errors.Overloaded):
        is_busy = isinstance(exception, errors.Overloaded)
        return refusals.unavailable(request, error.retry_after or 2, is_busy=is_busy)
    return defaults.server_error(request)


def error_response(
    request: HttpRequest,
    exception: Exception,
    *,
    fallback_replies: dict[str, str],
    extra: dict[str, str],
) -> HttpResponse:
    """Return the API's error response with extra members, for a script on one of our pages."""
    error = to_logged_error(exception)
    answer = answer_error(error, path=request.path, fallback_replies=fallback_replies)
    return JsonResponse(answer.body | extra, status=answer.status, headers=answer.headers)


def _plain_error(request: HttpRequest, error: ApiError) -> HttpResponse:
    answer = answer_error(error, path=request.path)
    return JsonResponse(answer.body, status=answer.status, headers=answer.headers)
