"""Asks a channel from the dashboard: as POST /api/chat does, but with a log-in, not a key.

The same checks in the same order, and the same limits, holds, and charges
(conversations/api/chat.py).
"""

from __future__ import annotations

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest

from billing.throttling import ChatThrottle
from channels.authentication import check_enabled, check_model
from channels.callers import Caller
from common.errors import ApiError
from conversations.api.chat import AskedChat, parse_chat_request
from conversations.chat.simulation import read_simulation

# Refusals and known faults. Everything else is a crash and is logged as one.
EXPECTED_ERRORS = (ApiError, OperationalError, InterfaceError)


def admit(
    request: HttpRequest,
    caller: Caller,
    *,
    message: str,
    session_id: str,
    is_stream: bool,
    simulate: str = "",
) -> AskedChat:
    """Admit a message as the API does.

    Raises SiteDisabled, NotAllowed, RateLimited, or InvalidRequest.
    """
    request.log_fields = {  # type: ignore[attr-defined]  # read by the access log
        "channel_id": str(caller.channel_id),
        "mode": "test" if caller.is_test else "live",
    }
    check_enabled(caller)
    check_model(caller, caller.model.model_id)
    ChatThrottle().admit(caller)
    behaviour = read_simulation(caller, simulate) if simulate else ""
    body = {"message": message, "session_id": session_id, "stream": is_stream}
    return parse_chat_request(body, simulate=behaviour)
