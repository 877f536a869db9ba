"""Error answers of real providers, told apart."""

from __future__ import annotations

import pytest

from channels.providers.openai_errors import error_of

CASES = [
    (401, {}, b'{"error": {"message": "bad key"}}', ("status_401", True, False, 0.0)),
    (403, {}, b"", ("status_403", True, False, 0.0)),
    (404, {}, b'{"error": {"code": "model_not_found"}}', ("status_404", True, False, 0.0)),
    (400, {}, b'{"error": {"code": "model_decommissioned"}}', ("model_retired", True, False, 0.0)),
    (
        400,
        {},
        b'{"error": {"code": "context_length_exceeded", "message": "..."}}',
        ("context_length_exceeded", False, True, 0.0),
    ),
    (
        400,
        {},
        b'{"error": {"code": 400, "type": "exceed_context_size_error", "message": "x"}}',
        ("context_length_exceeded", False, True, 0.0),
    ),
    (
        400,
        {},
        b'{"error": {"message": "This model\'s maximum context length is 8192 tokens."}}',
        ("context_length_exceeded", False, True, 0.0),
    ),
    (400, {}, b'{"error": {"code": "content_filter"}}', ("content_filter", False, True, 0.0)),
    (422, {}, b"<html>", ("status_422", False, True, 0.0)),
    (400, {}, b'{"error": "something"}', ("status_400", False, True, 0.0)),
    (429, {"retry-after": "7"}, b"{}", ("status_429", False, False, 7.0)),
    (429, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"", ("status_429", False, False, 0.0)),
    (429, {"retry-after": "1e99"}, b"", ("status_429", False, False, 3600.0)),
    (503, {"retry-after": "2.5"}, b"[]", ("status_503", False, False, 2.5)),
    (500, {"retry-after": "9"}, b'{"error": []}', ("status_500", False, False, 0.0)),
]


@pytest.mark.parametrize(("status", "headers", "body", "expected"), CASES)
def test_is_told_apart(
    status: int,
    headers: dict[str, str],
    body: bytes,
    expected: tuple[str, bool, bool, float],
) -> None:
    error = error_of(status, headers, body)
    seen = error.reason, error.permanent, error.is_request, error.retry_after_seconds
    assert seen == expected
