"""Describes endpoints and the error shape for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers

Method = TypeVar("Method", bound=Callable[..., Any])


def describe(**words: Any) -> Callable[[Method], Method]:
    """Describe a view's method, with the keywords of drf-spectacular's `extend_schema`.

    The method only keeps them until the document is generated (gateway/schema/generator.py):
    importing `extend_schema` loads Django's test client, which adds 70 ms to every command and
    server start.
    """

    def note(method: Method) -> Method:
        method.described = words  # type: ignore[attr-defined]
        return method

    return note


class ErrorSchema(serializers.Serializer[Any]):
    """Every error: a sentence for people, a stable code, and the request id."""

    error = serializers.CharField()
    code = serializers.CharField()
    request_id = serializers.CharField()
    fields = serializers.DictField(  # type: ignore[assignment]  # DRF has a member of that name
        child=serializers.CharField(), required=False, help_text="With 400: wrong field -> reason."
    )
    retry_after = serializers.IntegerField(required=False, help_text="Seconds, like Retry-After.")
    resets_at = serializers.DateTimeField(
        required=False, help_text="With spend_cap_reached: when the cap's day or month ends, UTC."
    )
    fallback_reply = serializers.CharField(
        required=False, help_text="The text that the channel's owner wants the visitor to see."
    )


class OpenAiErrorDetailSchema(serializers.Serializer[Any]):
    message = serializers.CharField()
    type = serializers.CharField()
    code = serializers.CharField()
    param = serializers.CharField(allow_null=True, help_text="The field that is wrong, if any.")


class OpenAiErrorSchema(serializers.Serializer[Any]):
    """Every error under /v1, in OpenAI's shape."""

    error = OpenAiErrorDetailSchema()
    resets_at = serializers.DateTimeField(
        required=False, help_text="With spend_cap_reached: when the cap's day or month ends, UTC."
    )


_MEANINGS = {
    400: "invalid_request",
    401: "missing_api_key, invalid_api_key",
    403: "site_disabled, not_allowed, spend_cap_reached, credits_exhausted",
    405: "method_not_allowed",
    404: "not_found",
    409: "session_busy, request_in_progress, change_in_progress",
    411: "length_required: neither Content-Length nor Transfer-Encoding: chunked",
    413: "payload_too_large: a chunked body once the key is known",
    415: "unsupported_media_type",
    422: "idempotency_key_reused, content_filtered",
    429: "rate_limited, daily_quota_reached",
    500: "provider_error, internal_error",
    503: "overloaded",
}


def errors(*statuses: int) -> dict[int, OpenApiResponse]:
    """Return the documented error responses for these statuses."""
    return {status: OpenApiResponse(ErrorSchema, _MEANINGS[status]) for status in statuses}


_OPENAI_MEANINGS = _MEANINGS | {
    400: "invalid_request, context_length_exceeded, or a provider's own code",
    402: "credits_exhausted",
    403: "site_disabled, not_allowed, spend_cap_reached",
    404: "model_not_found",
    409: "request_in_progress",
    500: "internal_error",
    502: "provider_error",
}


def openai_errors(*statuses: int) -> dict[int, OpenApiResponse]:
    """Return the documented error responses of an endpoint under /v1."""
    meanings = _OPENAI_MEANINGS
    return {status: OpenApiResponse(OpenAiErrorSchema, meanings[status]) for status in statuses}
