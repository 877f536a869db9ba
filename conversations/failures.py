"""A message that got no answer leaves a row for the channel's owner: why, when, and no text.

Written on the failure path alone, after everything was given back, in a statement of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import Error as AnyDatabaseError
from django.utils import timezone

from channels.callers import Caller
from common.errors import ApiError, InvalidRequest, Overloaded
from conversations.errors import ProviderFailed
from conversations.models import FailedRequest

logger = logging.getLogger("gateway.conversations")


@contextmanager
def recorded(
    caller: Caller, *, request_id: str, model_id: str, session_id: str = "", page_url: str = ""
) -> Iterator[None]:
    """Keep what the block raises as a FailedRequest, and raise it unchanged.

    Not kept: a request that the gateway itself refused (400); one that was shed under load, as
    writing it down would cost what shedding saves; and a lost database, which would make its caller
    wait a second time. Costs nothing where nothing is raised.
    """
    started = time.monotonic()
    try:
        yield
    except (InvalidRequest, Overloaded, AnyDatabaseError):
        raise
    except Exception as error:
        failure = FailedRequest(
            channel_id=caller.channel_id,
            is_test=caller.is_test,
            session_id=session_id,
            request_id=request_id,
            # Of its class: one error's own code may be a provider's, and reports group by it.
            error_code=type(error).code if isinstance(error, ApiError) else ApiError.code,
            reason=error.reason[:100] if isinstance(error, ProviderFailed) else "",
            request_model=model_id[:100],
            page_url=page_url,
            duration_ms=int((time.monotonic() - started) * 1000),
            created_at=timezone.now(),
        )
        _save(failure)
        raise


def _save(failure: FailedRequest) -> None:
    try:
        failure.save(force_insert=True)
    except Exception as error:  # noqa: BLE001  # a failure must never become another one
        # Without its text, which may quote the row.
        fields = {"error_type": type(error).__name__, "code": failure.error_code}
        logger.warning("conversations.failure.not_recorded", extra=fields)
