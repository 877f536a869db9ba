"""Facts about the public API for the pages that explain it: the Connect tab and /docs/.

Codes, statuses, and numbers come from the code that enforces them. Only the words are here, and
dashboard/tests/test_docs_page.py compares them with the code.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from billing.errors import CreditsExhausted, DailyQuotaReached, SpendCapReached
from billing.throttling import MANAGE_REQUESTS_PER_MINUTE, READ_FACTOR
from channels.providers.simulated import PIECES_BEFORE_BREAK, SLOW_SECONDS
from common import errors as common
from common.api.openai_shape import openai_status_of
from common.errors import ApiError
from conversations import errors as conversations
from conversations.api import serializers
from conversations.api.manage.urls import ROUTES
from conversations.api.openai import CompletionsView
from conversations.chat import streaming
from conversations.chat.simulation import SIMULATED_RETRY_AFTER_SECONDS


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """An error code: when it occurs and what a caller should do."""

    error: type[ApiError]
    meaning: str
    action: str
    # True if only /v1 has it, not /api/chat and the other endpoints.
    is_v1_only: bool = False

    @property
    def code(self) -> str:
        return self.error.code

    @property
    def status(self) -> int:
        return self.error.status

    @property
    def v1_status(self) -> int:
        """The status of the same code under /v1."""
        return openai_status_of(self.code, self.status)


ERRORS = (
    ErrorRow(
        common.InvalidRequest,
        "The body is not a JSON object, or a field is missing, too long or of the wrong type.",
        "Fix the request: fields says what is wrong. The same request fails again.",
    ),
    ErrorRow(
        conversations.ContextLengthExceeded,
        "The messages cannot fit the model's context window.",
        "Send fewer or shorter messages.",
        is_v1_only=True,
    ),
    ErrorRow(common.MissingApiKey, "No key was sent.", "Send X-API-Key."),
    ErrorRow(
        common.InvalidApiKey,
        "The key is wrong, malformed, expired or revoked.",
        "Check that you copied all of it, or create a new one in the dashboard.",
    ),
    ErrorRow(
        common.SiteDisabled,
        "The channel or its account is switched off.",
        "Ask the channel's owner. Show the visitor your own text until then.",
    ),
    ErrorRow(
        common.NotAllowed,
        "The key may not be used from this address, or not for this model.",
        "Ask the channel's owner, who restricted the key. A retry gets the same answer.",
    ),
    ErrorRow(
        SpendCapReached,
        "The channel's or the key's spend cap leaves too little for the message.",
        "Wait until resets_at, or ask the owner to raise the cap.",
    ),
    ErrorRow(
        CreditsExhausted,
        "The account's credits cannot pay for the message.",
        "Ask the owner for credits. History and test keys still work.",
    ),
    ErrorRow(common.NotFound, "There is nothing at this address.", "Check the path."),
    ErrorRow(
        conversations.ModelNotFound,
        "The channel may not use this model.",
        "Choose a model that GET /v1/models lists.",
        is_v1_only=True,
    ),
    ErrorRow(
        common.MethodNotAllowed,
        "The address does not accept this method.",
        "Use a method that the Allow header lists.",
    ),
    ErrorRow(
        conversations.SessionBusy,
        "Earlier messages of this session are still being answered.",
        "Wait for Retry-After, then try again.",
    ),
    ErrorRow(
        conversations.RequestInProgress,
        "The first request with this Idempotency-Key is still running.",
        "Wait for Retry-After, then send the same request again to get its answer.",
    ),
    ErrorRow(
        conversations.ChangeInProgress,
        "An earlier change of the account's time zone is just taking effect (management API).",
        "Wait for Retry-After, then try again.",
    ),
    ErrorRow(
        common.LengthRequired,
        "The request does not declare the length of its body.",
        "Send Content-Length, or the body in chunks.",
    ),
    ErrorRow(common.PayloadTooLarge, "The body is too large.", "Send a smaller body."),
    ErrorRow(
        common.UnsupportedMediaType,
        "The body is not declared as JSON.",
        "Send Content-Type: application/json.",
    ),
    ErrorRow(
        conversations.IdempotencyKeyReused,
        "The Idempotency-Key was already used with another body.",
        "Use a new key for a new message.",
    ),
    ErrorRow(
        conversations.ContentFiltered,
        "The AI provider declined to answer this message. Nothing was charged.",
        "Tell the visitor. The same message will be declined again.",
    ),
    ErrorRow(
        common.RateLimited,
        "The channel sent more requests than it may in a minute.",
        "Wait for Retry-After, then try again.",
    ),
    ErrorRow(
        DailyQuotaReached,
        "The channel's messages for this day are used up.",
        "Wait for Retry-After (until 00:00 UTC, or 00:00 in the account's time zone), or ask the "
        "owner for more.",
    ),
    ErrorRow(
        ApiError,
        "The gateway itself failed.",
        "Report the request id. Retrying with an Idempotency-Key is safe.",
    ),
    ErrorRow(
        conversations.ProviderFailed,
        "The AI provider failed on every route. Nothing was charged.",
        "Try again, unless X-Should-Retry: false says that the request itself was refused.",
    ),
    ErrorRow(
        common.Overloaded,
        "The gateway is overloaded, or it cannot reach its database.",
        "Wait for Retry-After, then try again.",
    ),
)


def all_codes() -> set[tuple[str, int]]:
    """Return the code and status of every error class."""

    def walk(error: type[ApiError]) -> set[tuple[str, int]]:
        return {(error.code, error.status)}.union(*map(walk, error.__subclasses__()))

    return walk(ApiError)


# The values of X-Simulate that a test key may send, and the result of each.
SIMULATIONS = {
    "rate_limited": f"429, with Retry-After {SIMULATED_RETRY_AFTER_SECONDS}.",
    "daily_quota_reached": "429, with Retry-After up to the end of the quota's day.",
    "spend_cap_reached": "403, with resets_at at the end of the account's day.",
    "credits_exhausted": "403 (402 under /v1).",
    "site_disabled": "403.",
    "provider_error": "500 (502 under /v1): every route failed.",
    "slow": f"The normal answer, after {SLOW_SECONDS:g} seconds.",
    "midstream_error": (
        f"A stream breaks off after {PIECES_BEFORE_BREAK} pieces; without stream, provider_error."
    ),
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation of the API."""

    method: str
    path: str
    does: str
    # The part of the page that explains it.
    anchor: str


ENDPOINTS = (
    Endpoint("POST", "/api/chat", "Send a visitor's message, get an AI reply", "chat"),
    Endpoint("GET", "/api/history", "Read a session, oldest message first", "history"),
    Endpoint("DELETE", "/api/history", "Erase a session's text for good", "history"),
    Endpoint("GET", "/api/usage", "Get usage and charges for a period", "usage"),
    Endpoint("GET", "/api/usage/{reference}", "Get what one request cost, and why", "usage"),
    Endpoint("GET", "/api/models", "List the models to choose from, with prices", "models"),
    Endpoint("GET", "/api/key", "Describe this key and what is left of its limits", "key"),
    Endpoint("POST", "/v1/chat/completions", "Complete a chat, as OpenAI does", "openai"),
    Endpoint("POST", "/v1/responses", "Create a response, as OpenAI does", "openai"),
    Endpoint("GET", "/v1/models", "List the models, as OpenAI does", "openai"),
    Endpoint("GET", "/v1/models/{model_id}", "Get one of these models", "openai"),
)
# The summaries are those of the OpenAPI document.
MANAGE_ENDPOINTS = tuple(
    Endpoint(
        method.upper(),
        f"/api/manage/{route}",
        getattr(view, method).described["summary"],
        "manage",
    )
    for route, view in ROUTES.items()
    for method in ("get", "post", "put", "patch", "delete")
    if hasattr(view, method)
)


def limits() -> dict[str, object]:
    """Return the limits of the API that this installation enforces."""
    return {
        "message": serializers.MAX_MESSAGE,
        "session_id": serializers.MAX_SESSION_ID,
        "url": serializers.MAX_URL,
        "title": serializers.MAX_TITLE,
        "idempotency_key": serializers.MAX_IDEMPOTENCY_KEY,
        "body_kib": settings.MAX_BODY_BYTES // 1024,
        "v1_body_mib": CompletionsView.max_body_bytes // 1024 // 1024,
        "session_hours": f"{settings.SESSION_TTL / 3600:g}",
        "waiting": settings.SESSION_MAX_WAITING,
        "wait_seconds": settings.SESSION_WAIT_SECONDS,
        "deadline_seconds": settings.PROVIDER_DEADLINE,
        "stream_seconds": settings.PROVIDER_STREAM_DEADLINE,
        "keep_alive_seconds": f"{streaming.KEEP_ALIVE_SECONDS:g}",
        "read_factor": READ_FACTOR,
        "manage_requests": MANAGE_REQUESTS_PER_MINUTE,
        "key_prefix": settings.API_KEY_PREFIX,
    }
