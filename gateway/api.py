"""Where exceptions become answers: DRF's handler, and Django's for what fails outside a view."""

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
from common.errors import ApiError
from common.middleware import is_api_request, path_for_log
from common.rendering import answer_error, to_api_error
from gateway import refusals

logger = logging.getLogger("gateway.api")


def render_exception(exception: Exception, context: dict[str, Any]) -> Response:
    """DRF's exception handler: the documented error, whatever was raised."""
    request: Request = context["request"]
    error = to_logged_error(exception)
    replies = getattr(getattr(request, "_auth", None), "fallback_replies", {})
    answer = answer_error(error, path=request.path, fallback_replies=replies)
    return Response(answer.body, status=answer.status, headers=answer.headers)


def to_logged_error(exception: Exception) -> ApiError:
    """Return the documented error; faults, which are not the caller's, are logged."""
    error = to_api_error(exception)
    if error.status >= 500:
        fields = {"code": error.code} | _reason_of(exception)
        logger.error("api.request.failed", extra=fields, exc_info=_traceback_of(exception))
    return error


def _traceback_of(exception: BaseException | None) -> BaseException | None:
    """Only what is unexpected needs a traceback.

    A provider's failure was logged by its route, and a database that is away fails every request.
    """
    is_expected = isinstance(to_api_error(exception), errors.Overloaded)
    return None if is_expected or isinstance(exception, ApiError) else exception


def _reason_of(exception: BaseException | None) -> dict[str, str]:
    """Return the database's own words in one short line, where it is at fault."""
    if isinstance(exception, ApiError) or not isinstance(
        to_api_error(exception), errors.Overloaded
    ):
        return {}
    return {"reason": f"{type(exception).__name__}: {' '.join(str(exception).split())}"[:300]}


def api_not_found(request: HttpRequest) -> HttpResponse:
    """404 for unknown paths of the API."""
    return _plain_error(request, errors.NotFound())


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404: JSON under the API, a page for people elsewhere."""
    if is_api_request(request):
        return api_not_found(request)
    return defaults.page_not_found(request, exception)


def handler400(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400 raised by Django itself, for an unknown Host header above all."""
    if is_api_request(request):
        message = "The request was refused. Check the Host header against ALLOWED_HOSTS."
        return _plain_error(request, errors.InvalidRequest(message))
    if isinstance(exception, DisallowedHost):
        return refusals.unknown_host(request)
    return defaults.bad_request(request, exception)


def handler500(request: HttpRequest) -> HttpResponse:
    """500, or 503 without a database, for what failed outside an API view."""
    exception = sys.exc_info()[1]
    error = to_api_error(exception)
    fields = {"path": path_for_log(request)} | _reason_of(exception)
    logger.error("page.request.failed", extra=fields, exc_info=_traceback_of(exception))
    if is_api_request(request):
        return _plain_error(request, error)
    if isinstance(error, errors.Overloaded):
        return refusals.unavailable(request, error.retry_after or 2)
    return defaults.server_error(request)


def error_response(
    request: HttpRequest,
    exception: Exception,
    *,
    fallback_replies: dict[str, str],
    extra: dict[str, str],
) -> HttpResponse:
    """Return the API's answer to an exception that a page's own script reads, with more members."""
    error = to_logged_error(exception)
    answer = answer_error(error, path=request.path, fallback_replies=fallback_replies)
    return JsonResponse(answer.body | extra, status=answer.status, headers=answer.headers)


def _plain_error(request: HttpRequest, error: ApiError) -> HttpResponse:
    answer = answer_error(error, path=request.path)
    return JsonResponse(answer.body, status=answer.status, headers=answer.headers)
