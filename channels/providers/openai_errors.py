"""What a provider's error answer means for the route: try again, leave it out, or not its fault."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from channels.errors import ProviderError

# Another try will meet these again: wrong key, no access, no such model.
PERMANENT_STATUSES = frozenset({401, 403, 404})
RETIRED_MODEL_CODES = frozenset({"model_decommissioned", "model_not_found", "model_not_active"})
# The message itself was refused; another route may take it, and this one is well.
REQUEST_STATUSES = frozenset({400, 413, 422})
CONTENT_FILTER_CODES = frozenset({"content_filter", "content_policy_violation"})
CONTEXT_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
# Where there is no code: vLLM, Ollama, Groq and OpenRouter say it in words of this kind.
CONTEXT_WORDS = re.compile(
    r"context (length|size|window)|maximum context|too many tokens", re.IGNORECASE
)

CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
    """Return the error of an answer that is not 200. Header names are lower case."""
    code, text = _read(body)
    if status in REQUEST_STATUSES:
        if code in RETIRED_MODEL_CODES:
            return ProviderError("model_retired", permanent=True)
        return ProviderError(_request_reason(status, code, text), is_request=True)
    return ProviderError(
        f"status_{status}",
        permanent=status in PERMANENT_STATUSES,
        retry_after_seconds=_retry_after(headers) if status in (429, 503) else 0,
    )


def _request_reason(status: int, code: str, text: str) -> str:
    if code in CONTEXT_CODES or CONTEXT_WORDS.search(text):
        return CONTEXT_LENGTH_EXCEEDED
    return "content_filter" if code in CONTENT_FILTER_CODES else f"status_{status}"


def _read(body: bytes) -> tuple[str, str]:
    """Return code (or type) and message of an error body; empty where it is no such thing."""
    try:
        answer: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "", ""
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, str):
        return "", error
    if not isinstance(error, dict):
        return "", ""
    words = [error.get(name) for name in ("code", "type", "message")]
    code, kind, message = (word if isinstance(word, str) else "" for word in words)
    return code or kind, message


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds of Retry-After; 0 where there are none (dates are not honoured)."""
    try:
        return max(0.0, min(float(headers.get("retry-after", "0")), 3600.0))
    except ValueError:
        return 0.0
