"""What can go wrong with a turn, as callers see it."""

from __future__ import annotations

from common.errors import ApiError


class SessionBusy(ApiError):
    status = 409
    code = "session_busy"
    default_message = (
        "Earlier messages of this session are still being answered. Try again in a moment."
    )

    def __init__(self) -> None:
        super().__init__(retry_after=2)


class RequestInProgress(ApiError):
    status = 409
    code = "request_in_progress"
    default_message = (
        "The first request with this Idempotency-Key is still being answered. Try again shortly."
    )

    def __init__(self) -> None:
        super().__init__(retry_after=2)


class IdempotencyKeyReused(ApiError):
    status = 422
    code = "idempotency_key_reused"
    default_message = (
        "This Idempotency-Key was used with another body. Send a new key with a new message."
    )


class ProviderFailed(ApiError):
    """Every route failed; nothing was charged and nothing stored."""

    status = 500
    code = "provider_error"
    default_message = (
        "The AI provider did not answer. Nothing was charged; please try again in a moment."
    )


class AnsweredTooLate(ProviderFailed):
    default_message = "The AI provider answered too late. Nothing was charged."
