"""Asking a channel in the dashboard: same path as POST /api/chat, but with a log-in, not a key.

The same checks in the same order, and the same limits, holds, and charges
(conversations/api/views.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest

from billing.throttling import ChatThrottle
from channels.callers import Caller
from channels.permissions import check_enabled, check_model
from common.errors import ApiError
from common.logs import request_id_var
from conversations.api import serializers
from conversations.chat import answer
from conversations.chat.answer import Incoming
from conversations.chat.calls import Outcome, Tell
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
) -> Incoming:
    """Admit a message as the API does. Raises SiteDisabled, NotAllowed, RateLimited,
    InvalidRequest.
    """
    request.log_fields = {  # type: ignore[attr-defined]  # read by the access log
        "channel_id": str(caller.channel_id),
        "mode": "test" if caller.is_test else "live",
    }
    check_enabled(caller)
    check_model(caller, caller.model.model_id)
    ChatThrottle().admit(caller)
    behaviour = read_simulation(caller, simulate)
    body = {"message": message, "session_id": session_id, "stream": is_stream}
    return serializers.parse_chat_request(body, simulate=behaviour)


def answering(caller: Caller, incoming: Incoming) -> Callable[[Tell | None], Outcome]:
    """Return a function that answers an admitted message and passes each piece to `tell`."""
    answer_message = partial(
        answer.answer_message,
        caller=caller,
        incoming=incoming,
        request_id=request_id_var.get(),
        render=partial(serializers.render_answer, session_id=incoming.session_id),
    )
    return lambda tell: answer_message(tell=tell)
