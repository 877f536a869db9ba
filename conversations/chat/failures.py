"""Records failures and replays for the channel's owner, because the ledger does not show them.

Says when and why, but stores no text. A row is written in its own statement, and never on the path
of a request that a provider answers: for a failure after everything was given back.
"""

from __future__ import annotations

import logging
import uuid

import orjson
from django.db import Error as AnyDatabaseError
from django.utils import timezone

from channels.callers import Caller
from common.errors import (
    ApiError,
    InvalidRequest,
    Overloaded,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from conversations.errors import ProviderFailed
from conversations.models import DraftReply, FailedRequest, ReplayedRequest
from conversations.usage.references import read_reply_id

logger = logging.getLogger("gateway.conversations")


# Wrong bodies. They are counted in the caller's minute like every other request. The views record
# them, because they notice most of them.
MALFORMED = (InvalidRequest, PayloadTooLarge, UnsupportedMediaType)
# Nor does it record requests shed under load, because a record would cost what shedding saves, or a
# lost database, because the caller would wait a second time.
NOT_RECORDED = (*MALFORMED, Overloaded, AnyDatabaseError)


def record_failure(
    error: Exception,
    *,
    caller: Caller,
    request_id: str,
    model_id: str,
    session_id: str = "",
    page_url: str = "",
    duration_seconds: float = 0,
    is_draft: bool = False,
) -> None:
    """Record that a request got this error instead of an answer."""
    # The class's code, because reports group by it. The instance's may be a provider's.
    error_code = type(error).code if isinstance(error, ApiError) else ApiError.code
    reason = error.reason[:100] if isinstance(error, ProviderFailed) else ""
    if is_draft:
        _save(
            DraftReply(
                channel_id=caller.channel_id,
                is_test=caller.is_test,
                created_at=timezone.now(),
                request_id=request_id,
                request_model=model_id[:100],
                input_tokens=0,
                output_tokens=0,
                charged_microcredits=0,
                error_code=error_code,
                reason=reason,
            )
        )
        return
    _save(
        FailedRequest(
            channel_id=caller.channel_id,
            is_test=caller.is_test,
            session_id=session_id,
            request_id=request_id,
            error_code=error_code,
            reason=reason,
            request_model=model_id[:100],
            page_url=page_url,
            duration_ms=int(duration_seconds * 1000),
            created_at=timezone.now(),
            api_key_id=caller.key_id,
        )
    )


def record_replay(
    body: str, *, caller: Caller, request_id: str, model_id: str, session_id: str
) -> None:
    """Record that a retry receives the stored answer `body` again."""
    _save(
        ReplayedRequest(
            channel_id=caller.channel_id,
            is_test=caller.is_test,
            session_id=session_id,
            request_id=request_id,
            message_id=_reply_in(body),
            request_model=model_id[:100],
            created_at=timezone.now(),
            api_key_id=caller.key_id,
        )
    )


def _reply_in(body: str) -> uuid.UUID | None:
    """Return the id of the reply in a stored answer."""
    try:
        stored = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    # A chat names it as the message, a completion or response as its own id.
    return read_reply_id(str(stored.get("message_id") or stored.get("id")))


def _save(record: FailedRequest | DraftReply | ReplayedRequest) -> None:
    try:
        record.save(force_insert=True)
    except Exception as error:  # noqa: BLE001  # a missing record must never become a failure
        # Without the error's text, which may quote the row.
        fields = {"error_type": type(error).__name__}
        if isinstance(record, ReplayedRequest):
            logger.warning("conversations.replay.not_recorded", extra=fields)
        else:
            fields["code"] = record.error_code
            logger.warning("conversations.failure.not_recorded", extra=fields)
