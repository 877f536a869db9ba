"""The base of every view of /api/manage/: who may call, what a service's refusal becomes, look-ups.

The views call the services that the dashboard calls, with the account key as the actor.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from billing.throttling import ManageThrottle
from channels.account_callers import (
    AccountCaller,
    AccountIsEnabled,
    AccountKeyAuthentication,
    account_caller_of,
)
from channels.calendars import ChangeIsNear
from channels.errors import (
    ChannelChanged,
    ChannelInUse,
    ExcludesLatestCaller,
    KeyNotActive,
    UnknownChannel,
    UnknownModel,
)
from channels.models import ApiKey, Channel
from common.api.base import ApiView
from common.clock import rfc3339
from common.days import seconds_until
from common.errors import ApiError, InvalidRequest, NotFound
from conversations.errors import ChangeInProgress

# A system prompt's 16,000 characters may take 12 bytes each, as escaped surrogate pairs.
MAX_BODY_BYTES = 256 * 1024

NO_CHANNEL = "This account has no channel with that id."
NO_KEY = "This channel has no key with that id."


class ManageView(ApiView):
    """A view for account keys. Whatever belongs to another account is unknown here."""

    authentication_classes = (AccountKeyAuthentication,)
    permission_classes = (AccountIsEnabled,)
    throttle_classes = (ManageThrottle,)
    max_body_bytes = MAX_BODY_BYTES

    def handle_exception(self, exc: Exception) -> Response:
        return super().handle_exception(to_refusal(exc))


def to_refusal(error: Exception) -> Exception:
    """Return the API's error for what a service refuses, and every other error as it is."""
    if isinstance(error, ValidationError):
        return _to_invalid_request(error)
    if isinstance(error, UnknownModel):
        return InvalidRequest(fields={"model": str(error)})
    if isinstance(error, ExcludesLatestCaller):
        return InvalidRequest(fields={"exclude_latest_caller": _words_of_exclusion(error)})
    if isinstance(error, ChangeIsNear):
        return ChangeInProgress(str(error), retry_after=seconds_until(error.at, timezone.now()))
    if isinstance(error, UnknownChannel):  # moved away a moment ago
        return NotFound(NO_CHANNEL)
    sentence = {
        KeyNotActive: "This key was rotated or revoked, or it has expired. Create a new one.",
        ChannelInUse: "This channel has received messages, so it cannot be deleted. Retire it.",
        ChannelChanged: "It was changed or deleted at the same time. Read it again.",
    }.get(type(error))
    return InvalidRequest(sentence) if sentence else error


def _words_of_exclusion(error: ExcludesLatestCaller) -> str:
    return (
        f"The latest request with this key came from {error.address} at {rfc3339(error.used_at)}, "
        "which these ranges exclude. Add a range for it, or send true to exclude it."
    )


# The names of the API where those of the forms differ.
_NAMES = {
    "is_enabled": "enabled",
    "spend_cap_day": "day",
    "spend_cap_month": "month",
}


def _to_invalid_request(error: ValidationError) -> ApiError:
    if not hasattr(error, "error_dict"):
        return InvalidRequest(" ".join(error.messages))
    fields = {name: " ".join(words) for name, words in error.message_dict.items()}
    sentence = fields.pop(NON_FIELD_ERRORS, None)
    return InvalidRequest(
        sentence, fields={_NAMES.get(name, name): words for name, words in fields.items()}
    )


def find_channel(request: Request, channel_id: str) -> tuple[AccountCaller, Channel]:
    """Return the caller and their account's channel. Raises NotFound."""
    caller = account_caller_of(request)
    own = Channel.objects.filter(account_id=caller.account_id)
    channel = (
        own.select_related("model", "fallback_model")
        .filter(id=read_id(channel_id, NO_CHANNEL))
        .first()
    )
    if channel is None:
        raise NotFound(NO_CHANNEL)
    # With the plan, as it was read with the key.
    channel.account = caller.account
    return caller, channel


def find_key(channel: Channel, key_id: str) -> ApiKey:
    """Return a key of the channel. Raises NotFound."""
    keys = ApiKey.objects.filter(channel=channel).defer("key_ciphertext", "key_digest")
    key = keys.filter(id=read_id(key_id, NO_KEY)).first()
    if key is None:
        raise NotFound(NO_KEY)
    key.channel = channel
    return key


def read_id(text: str, otherwise: str) -> uuid.UUID:
    """Return the id in a path. Raises NotFound, like for an unknown one."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise NotFound(otherwise) from None


def read_query(request: Request) -> dict[str, Any]:
    """Return the query string; of a name that comes twice, the last value counts."""
    return dict(request._request.GET.items())
