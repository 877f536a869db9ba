"""Facts about the public API for the pages that explain it: the Connect tab and /docs/.

Codes, statuses, and numbers come from the code that enforces them. Only the words are here, and
dashboard/tests/test_docs_page.py compares them with the code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy

from billing.errors import CreditsExhausted, DailyQuotaReached, SpendCapReached
from billing.throttling import MANAGE_REQUESTS_PER_MINUTE, READ_FACTOR
from channels.providers.simulated import PIECES_BEFORE_BREAK, SLOW_SECONDS
from common import errors as common
from common.api.openai_shape import openai_status_of
from common.errors import ApiError
from conversations import errors as conversations
from conversations.api import chat, schemas
from conversations.api.manage.urls import ROUTES
from conversations.api.openai import CompletionsView
from conversations.chat import streaming
from conversations.chat.simulation import SIMULATED_RETRY_AFTER_SECONDS

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """An error code: when it occurs and what a caller should do."""

    error: type[ApiError]
    meaning: StrOrPromise
    action: StrOrPromise
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
        gettext_lazy(
            "The body is not a JSON object, or a field is missing, too long or of the wrong type."
        ),
        gettext_lazy("Fix the request: fields says what is wrong. The same request fails again."),
    ),
    ErrorRow(
        conversations.ContextLengthExceeded,
        gettext_lazy("The messages cannot fit the model's context window."),
        gettext_lazy("Send fewer or shorter messages."),
        is_v1_only=True,
    ),
    ErrorRow(
        common.MissingApiKey, gettext_lazy("No key was sent."), gettext_lazy("Send X-API-Key.")
    ),
    ErrorRow(
        common.InvalidApiKey,
        gettext_lazy("The key is wrong, malformed, expired or revoked."),
        gettext_lazy("Check that you copied all of it, or create a new one in the dashboard."),
    ),
    ErrorRow(
        common.SiteDisabled,
        gettext_lazy("The channel or its account is switched off."),
        gettext_lazy("Ask the channel's owner. Show the visitor your own text until then."),
    ),
    ErrorRow(
        common.NotAllowed,
        gettext_lazy("The key may not be used from this address, or not for this model."),
        gettext_lazy(
            "Ask the channel's owner, who restricted the key. A retry gets the same answer."
        ),
    ),
    ErrorRow(
        SpendCapReached,
        gettext_lazy("The channel's or the key's spend cap leaves too little for the message."),
        gettext_lazy("Wait until resets_at, or ask the owner to raise the cap."),
    ),
    ErrorRow(
        CreditsExhausted,
        gettext_lazy("The account's credits cannot pay for the message."),
        gettext_lazy("Ask the owner for credits. History and test keys still work."),
    ),
    ErrorRow(
        common.NotFound,
        gettext_lazy("There is nothing at this address."),
        gettext_lazy("Check the path."),
    ),
    ErrorRow(
        conversations.ModelNotFound,
        gettext_lazy("The channel may not use this model."),
        gettext_lazy("Choose a model that GET /v1/models lists."),
        is_v1_only=True,
    ),
    ErrorRow(
        common.MethodNotAllowed,
        gettext_lazy("The address does not accept this method."),
        gettext_lazy("Use a method that the Allow header lists."),
    ),
    ErrorRow(
        conversations.SessionBusy,
        gettext_lazy("Earlier messages of this session are still being answered."),
        gettext_lazy("Wait for Retry-After, then try again."),
    ),
    ErrorRow(
        conversations.RequestInProgress,
        gettext_lazy("The first request with this Idempotency-Key is still running."),
        gettext_lazy("Wait for Retry-After, then send the same request again to get its answer."),
    ),
    ErrorRow(
        conversations.ChangeInProgress,
        gettext_lazy(
            "An earlier change of the account's time zone is just taking effect (management API)."
        ),
        gettext_lazy("Wait for Retry-After, then try again."),
    ),
    ErrorRow(
        common.LengthRequired,
        gettext_lazy("The request does not declare the length of its body."),
        gettext_lazy("Send Content-Length, or the body in chunks."),
    ),
    ErrorRow(
        common.PayloadTooLarge,
        gettext_lazy("The body is too large."),
        gettext_lazy("Send a smaller body."),
    ),
    ErrorRow(
        common.UnsupportedMediaType,
        gettext_lazy("The body is not declared as JSON."),
        gettext_lazy("Send Content-Type: application/json."),
    ),
    ErrorRow(
        conversations.IdempotencyKeyReused,
        gettext_lazy("The Idempotency-Key was already used with another body."),
        gettext_lazy("Use a new key for a new message."),
    ),
    ErrorRow(
        conversations.ContentFiltered,
        gettext_lazy("The AI provider declined to answer this message. Nothing was charged."),
        gettext_lazy("Tell the visitor. The same message will be declined again."),
    ),
    ErrorRow(
        common.RateLimited,
        gettext_lazy("The channel sent more requests than it may in a minute."),
        gettext_lazy("Wait for Retry-After, then try again."),
    ),
    ErrorRow(
        DailyQuotaReached,
        gettext_lazy("The channel's messages for this day are used up."),
        gettext_lazy(
            "Wait for Retry-After (until 00:00 UTC, or 00:00 in the account's time zone), or ask "
            "the owner for more."
        ),
    ),
    ErrorRow(
        ApiError,
        gettext_lazy("The gateway itself failed."),
        gettext_lazy("Report the request id. Retrying with an Idempotency-Key is safe."),
    ),
    ErrorRow(
        conversations.ProviderFailed,
        gettext_lazy("The AI provider failed on every route. Nothing was charged."),
        gettext_lazy(
            "Try again, unless X-Should-Retry: false says that the request itself was refused."
        ),
    ),
    ErrorRow(
        common.Overloaded,
        gettext_lazy("The gateway is overloaded, or it cannot reach its database."),
        gettext_lazy("Wait for Retry-After, then try again."),
    ),
)


def all_codes() -> set[tuple[str, int]]:
    """Return the code and status of every error class."""

    def walk(error: type[ApiError]) -> set[tuple[str, int]]:
        return {(error.code, error.status)}.union(*map(walk, error.__subclasses__()))

    return walk(ApiError)


# The values of X-Simulate that a test key may send, and the result of each.
SIMULATIONS: dict[str, StrOrPromise] = {
    "rate_limited": format_lazy(
        gettext_lazy("429, with Retry-After {seconds}."), seconds=SIMULATED_RETRY_AFTER_SECONDS
    ),
    "daily_quota_reached": gettext_lazy("429, with Retry-After up to the end of the quota's day."),
    "spend_cap_reached": gettext_lazy("403, with resets_at at the end of the account's day."),
    "credits_exhausted": gettext_lazy("403 (402 under /v1)."),
    "site_disabled": "403.",
    "provider_error": gettext_lazy("500 (502 under /v1): every route failed."),
    "slow": format_lazy(
        gettext_lazy("The normal answer, after {seconds} seconds."), seconds=f"{SLOW_SECONDS:g}"
    ),
    "midstream_error": format_lazy(
        gettext_lazy("A stream breaks off after {count} pieces; without stream, provider_error."),
        count=PIECES_BEFORE_BREAK,
    ),
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation of the API."""

    method: str
    path: str
    does: StrOrPromise
    # The part of the page that explains it.
    anchor: str


ENDPOINTS = (
    Endpoint(
        "POST", "/api/chat", gettext_lazy("Send a visitor's message, get an AI reply"), "chat"
    ),
    Endpoint(
        "GET", "/api/history", gettext_lazy("Read a session, oldest message first"), "history"
    ),
    Endpoint("DELETE", "/api/history", gettext_lazy("Erase a session's text for good"), "history"),
    Endpoint("GET", "/api/usage", gettext_lazy("Get usage and charges for a period"), "usage"),
    Endpoint(
        "GET", "/api/usage/{reference}", gettext_lazy("Get what one request cost, and why"), "usage"
    ),
    Endpoint(
        "GET", "/api/models", gettext_lazy("List the models to choose from, with prices"), "models"
    ),
    Endpoint(
        "GET", "/api/key", gettext_lazy("Describe this key and what is left of its limits"), "key"
    ),
    Endpoint(
        "POST", "/v1/chat/completions", gettext_lazy("Complete a chat, as OpenAI does"), "openai"
    ),
    Endpoint("POST", "/v1/responses", gettext_lazy("Create a response, as OpenAI does"), "openai"),
    Endpoint("GET", "/v1/models", gettext_lazy("List the models, as OpenAI does"), "openai"),
    Endpoint("GET", "/v1/models/{model_id}", gettext_lazy("Get one of these models"), "openai"),
)
# The summaries are those of the OpenAPI document.
MANAGE_ENDPOINTS = tuple(
    Endpoint(
        method.upper(),
        f"/api/manage/{route}",
        gettext_lazy(getattr(view, method).described["summary"]),
        "manage",
    )
    for route, view in ROUTES.items()
    for method in ("get", "post", "put", "patch", "delete")
    if hasattr(view, method)
)


def limits() -> dict[str, object]:
    """Return the limits of the API that this installation enforces."""
    return {
        "message": schemas.MAX_MESSAGE,
        "session_id": schemas.MAX_SESSION_ID,
        "url": schemas.MAX_URL,
        "title": schemas.MAX_TITLE,
        "idempotency_key": chat.MAX_IDEMPOTENCY_KEY,
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
