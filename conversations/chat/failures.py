"""Records requests that the books do not show, for the channel's owner: failures and replays.

Says when and why, but stores no text. A row is written in its own statement, and never on the path
of a request that a provider answers: for a failure after everything was given back.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

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
from conversations.models import FailedRequest, ReplayedRequest
from conversations.usage.references import read_reply_id

logger = logging.getLogger("gateway.conversations")


# Wrong bodies. They are counted in the caller's minute like every other request.
MALFORMED = (InvalidRequest, PayloadTooLarge, UnsupportedMediaType)


@contextmanager
def recorded(
    caller: Caller, *, request_id: str, model_id: str, session_id: str = "", page_url: str = ""
) -> Iterator[None]:
    """Record what the block raises as a FailedRequest, and raise it unchanged.

    Does not record one that was shed under load, because writing it would cost what shedding saves.
    Does not record a lost database, because the caller would wait a second time. Costs nothing if
    the block does not raise.
    """
    started = time.monotonic()
    try:
        yield
    except (Overloaded, AnyDatabaseError):
        raise
    except Exception as error:
        record_failure(
            caller,
            error,
            request_id=request_id,
            model_id=model_id,
            session_id=session_id,
            page_url=page_url,
            duration_seconds=time.monotonic() - started,
        )
        raise


def record_failure(
    caller: Caller,
    error: Exception,
    *,
    request_id: str,
    model_id: str,
    session_id: str = "",
    page_url: str = "",
    duration_seconds: float = 0,
) -> None:
    """Record that a request got this error instead of an answer."""
    _save(
        FailedRequest(
            channel_id=caller.channel_id,
            is_test=caller.is_test,
            session_id=session_id,
            request_id=request_id,
            # The class's code, because reports group by it. The instance's may be a provider's.
            error_code=type(error).code if isinstance(error, ApiError) else ApiError.code,
            reason=error.reason[:100] if isinstance(error, ProviderFailed) else "",
            request_model=model_id[:100],
            page_url=page_url,
            duration_ms=int(duration_seconds * 1000),
            created_at=timezone.now(),
            api_key_id=caller.key_id,
        )
    )


def record_replay(
    caller: Caller, *, request_id: str, model_id: str, body: str, session_id: str = ""
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


def _save(record: FailedRequest | ReplayedRequest) -> None:
    try:
        record.save(force_insert=True)
    except Exception as error:  # noqa: BLE001  # a missing record must never become a failure
        # Without the error's text, which may quote the row.
        fields = {"error_type": type(error).__name__}
        if isinstance(record, FailedRequest):
            fields["code"] = record.error_code
            logger.warning("conversations.failure.not_recorded", extra=fields)
        else:
            logger.warning("conversations.replay.not_recorded", extra=fields)
