"""How a request can end, in one word."""

from __future__ import annotations

from channels.providers.fixed import FixedAnswerProvider
from common.errors import ApiError
from conversations.errors import ContentFiltered, ProviderFailed

ANSWERED = "answered"
SAVED_REPLY = "saved_reply"
FAILED = "failed"
REFUSED = "refused"
REPLAYED = "replayed"
OUTCOMES = (ANSWERED, SAVED_REPLY, FAILED, REFUSED, REPLAYED)

# The request began, but got no answer. With every other code the gateway refused it.
FAILURE_CODES = (ProviderFailed.code, ContentFiltered.code, ApiError.code)


def of_reply(provider_name: str) -> str:
    """Return the outcome of a request with a reply."""
    return SAVED_REPLY if provider_name == FixedAnswerProvider.provider_name else ANSWERED


def of_failure(error_code: str) -> str:
    """Return the outcome of a request without a reply, whose caller saw this code."""
    return FAILED if error_code in FAILURE_CODES else REFUSED
