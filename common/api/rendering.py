"""Errors as callers receive them: one JSON shape per API, as an answer or as a stream's end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import InterfaceError, OperationalError

from common.api.openai_shape import OPENAI_PREFIX, openai_error, openai_headers, openai_status
from common.errors import ApiError, Overloaded
from common.logs import request_id_var


def to_api_error(exception: BaseException | None) -> ApiError:
    """Return the documented error for any exception. A fault never blames keys or money."""
    if isinstance(exception, ApiError):
        return exception
    if isinstance(exception, OperationalError | InterfaceError):
        return Overloaded()
    return ApiError()


def error_body(
    error: ApiError,
    *,
    fallback_replies: dict[str, str] | None = None,
    request_id: str | None = None,
) -> dict[str, Any]:
    """Return the JSON object of an error, with the channel owner's fallback reply if there is one.

    `request_id` is only needed after the request has ended, as in a stream.
    """
    body: dict[str, Any] = {
        "error": error.message,
        "code": error.code,
        "request_id": request_id or request_id_var.get(),
    }
    if error.fields is not None:
        body["fields"] = error.fields
    if error.retry_after is not None:
        body["retry_after"] = error.retry_after
    if error.resets_at is not None:
        body["resets_at"] = error.resets_at
    if fallback_reply := (fallback_replies or {}).get(error.code):
        body["fallback_reply"] = fallback_reply
    return body


def error_headers(error: ApiError) -> dict[str, str]:
    """Return the headers of an error, with Retry-After if it has one."""
    if error.retry_after is None:
        return error.headers
    return error.headers | {"Retry-After": str(error.retry_after)}


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """The parts of an error's response."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]


def answer_error(
    error: ApiError, *, path: str, fallback_replies: dict[str, str] | None = None
) -> ErrorAnswer:
    """Return an error in the shape of the API that the path belongs to."""
    headers = error_headers(error)
    if path.startswith(OPENAI_PREFIX):
        headers = headers | openai_headers(error)
        return ErrorAnswer(openai_status(error), openai_error(error), headers)
    body = error_body(error, fallback_replies=fallback_replies)
    return ErrorAnswer(error.status, body, headers)
