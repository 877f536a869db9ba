"""Records each message that got no answer, for the channel's owner: why and when, but no text.

The row is written only on the failure path, after everything was given back, in its own statement.
"""

from __future__ import annotations

import logging
import time

from django.db import Error as AnyDatabaseError
from django.utils import timezone

from channels.callers import Caller
from common.errors import ApiError, InvalidRequest, Overloaded
from conversations.errors import ProviderFailed
from conversations.models import FailedRequest

logger = logging.getLogger("gateway.conversations")


def record(
    error: BaseException,
    *,
    caller: Caller,
    request_id: str,
    model_id: str,
    session_id: str,
    page_url: str,
    started: float,
) -> None:
    """Record a request's error as a FailedRequest. `started` is a time.monotonic() value.

    Does not record a request that the gateway itself refused (400). Does not record one that was
    shed under load, because writing it would cost what shedding saves. Does not record a lost
    database, because the caller would wait a second time.
    """
    is_kept = isinstance(error, Exception)
    if not is_kept or isinstance(error, InvalidRequest | Overloaded | AnyDatabaseError):
        return
    failure = FailedRequest(
        channel_id=caller.channel_id,
        is_test=caller.is_test,
        session_id=session_id,
        request_id=request_id,
        # The class's code, because reports group by it. The instance's may be a provider's.
        error_code=type(error).code if isinstance(error, ApiError) else ApiError.code,
        reason=error.reason[:100] if isinstance(error, ProviderFailed) else "",
        request_model=model_id[:100],
        page_url=page_url,
        duration_ms=int((time.monotonic() - started) * 1000),
        created_at=timezone.now(),
    )
    try:
        failure.save(force_insert=True)
    except Exception as fault:  # noqa: BLE001  # a failure must never become another one
        # Without the error's text, which may quote the row.
        fields = {"error_type": type(fault).__name__, "code": failure.error_code}
        logger.warning("conversations.failure.not_recorded", extra=fields)
