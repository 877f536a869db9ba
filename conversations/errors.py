"""The errors of a turn or a completion, as callers see them."""

from __future__ import annotations

from collections.abc import Sequence

from channels.errors import Said
from common.errors import ApiError, InvalidRequest


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


class ChangeInProgress(ApiError):
    status = 409
    code = "change_in_progress"
    default_message = "An earlier change is just taking effect. Try again in ten seconds."


class IdempotencyKeyReused(ApiError):
    status = 422
    code = "idempotency_key_reused"
    default_message = (
        "This Idempotency-Key was used with another body. Send a new key with each new message."
    )


class ProviderFailed(ApiError):
    """Every route failed. Nothing was charged, and no message was stored.

    `reason` is one word from ProviderError for the channel's owner. Callers do not see it.
    `lost_microcredits` is the price of what the provider used anyway, which is the operator's loss.
    """

    status = 500
    code = "provider_error"
    default_message = (
        "The AI provider did not answer. Nothing was charged; please try again in a moment."
    )

    def __init__(
        self,
        message: str | None = None,
        *,
        reason: str = "",
        lost_microcredits: int | None = None,
        may_retry: bool = True,
    ) -> None:
        self.reason = reason
        self.lost_microcredits = lost_microcredits
        super().__init__(message, headers=None if may_retry else {"X-Should-Retry": "false"})


class ContentFiltered(ProviderFailed):
    """The provider declined to answer this message. This is final: no other provider is asked."""

    status = 422
    code = "content_filtered"
    default_message = (
        "The AI provider declined to answer this message. Nothing was charged. Please rephrase it."
    )

    def __init__(self, *, reason: str, lost_microcredits: int | None = None) -> None:
        super().__init__(reason=reason, lost_microcredits=lost_microcredits, may_retry=False)


class AnsweredTooLate(ProviderFailed):
    default_message = "The AI provider answered too late. Nothing was charged; please try again."

    def __init__(self) -> None:
        super().__init__(reason="too_late")


class RequestRefused(ProviderFailed):
    """Every route refused the request itself. `said` is the last route's explanation.

    `places` are those of its ProviderError.
    """

    default_message = "The AI provider refused this request. Nothing was charged."

    def __init__(
        self,
        reason: str,
        *,
        said: Said | None = None,
        places: Sequence[int | None] = (),
        message: str | None = None,
    ) -> None:
        self.said = said
        self.places = places
        super().__init__(message, reason=reason, may_retry=False)


class RefusedAsSaid(RequestRefused):
    """The same refusal under /v1, in the provider's words as far as the caller may read them."""

    status = 400
    code = InvalidRequest.code

    def __init__(self, reason: str, said: Said) -> None:
        super().__init__(reason, message=said.message)
        self.code = said.code or self.code
        self.fields = {said.param: said.message} if said.param else {}


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"

    def __init__(self, window_tokens: int, *, messages_field: str) -> None:
        message = f"The messages do not fit the model's context window of {window_tokens:,} tokens."
        super().__init__(message, fields={messages_field: message})


class ModelNotFound(ApiError):
    status = 404
    code = "model_not_found"

    def __init__(self, model_id: str) -> None:
        message = f"This channel has no model '{model_id[:100]}'. GET /v1/models lists its models."
        super().__init__(message, fields={"model": message})
