"""Errors in the shape OpenAI's SDKs expect, for everything under /v1/.

The SDKs choose their exception by the status. They retry 408, 409, 429, and 5xx unless a header
says otherwise: https://github.com/openai/openai-python/blob/main/src/openai/_base_client.py
"""

from __future__ import annotations

from typing import Any

from common.errors import ApiError, InvalidRequest

OPENAI_PREFIX = "/v1/"

# OpenAI's statuses for what the rest of the API answers with 403 and 500.
_STATUSES = {"credits_exhausted": 402, "provider_error": 502}
_TYPES = {402: "insufficient_quota", 403: "permission_error", 429: "rate_limit_error"}
# Trying again would get the same answer.
_FINAL_STATUSES = frozenset({400, 401, 402, 403, 404, 405, 411, 413, 415, 422})
_FINAL_CODES = frozenset({"daily_quota_reached"})


def openai_status(error: ApiError) -> int:
    """Return the status of an error under /v1/."""
    return openai_status_of(error.code, error.status)


def openai_status_of(code: str, status: int) -> int:
    """Return the status of a code under /v1/. `status` is the one it has elsewhere."""
    return _STATUSES.get(code, status)


def openai_error(error: ApiError) -> dict[str, Any]:
    """Return the JSON object of an error under /v1/."""
    status = openai_status(error)
    param = next(iter(error.fields or {}), None)
    message = error.message
    if param and error.message == InvalidRequest.default_message:
        message = f"'{param}': {(error.fields or {})[param]}"
    kind = "server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error")
    body = {"message": message, "type": kind, "code": error.code, "param": param}
    # Beside it: OpenAI's error has these four members.
    return {"error": body} | ({"resets_at": error.resets_at} if error.resets_at else {})


def openai_headers(error: ApiError) -> dict[str, str]:
    """Return the headers that tell the SDKs whether to retry."""
    if openai_status(error) in _FINAL_STATUSES or error.code in _FINAL_CODES:
        return {"X-Should-Retry": "false"}
    return {}
