"""Reads of sessions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from channels.callers import Caller
from common import db
from conversations.models import Message
from conversations.prompts import PastTurn

# Enough for most sessions in one query; long ones are read on only while turns still fit.
_TURNS_READ_AT_ONCE = 40


def list_history(*, caller: Caller, session_id: str, now: datetime) -> list[dict[str, Any]]:
    """Return the live session's messages, oldest first; none where it is unknown or expired."""
    messages = Message.objects.filter(
        session__channel_id=caller.channel_id,
        session__is_test=caller.is_test,
        session__session_id=session_id,
        session__closed_at=None,
        session__last_message_at__gt=now - timedelta(seconds=settings.SESSION_TTL),
    )
    return [
        {
            "role": role,
            "content": content,
            "created_at": created_at.isoformat().replace("+00:00", "Z"),
        }
        for role, content, created_at in messages.order_by("position").values_list(
            "role", "content", "created_at"
        )
    ]


_LATEST_MESSAGES = """
SELECT content, input_tokens, output_tokens,
       CASE WHEN is_estimated OR request_model <> %s THEN 0 ELSE 1 END
  FROM conversations_message
 WHERE session_id = %s AND position < %s ORDER BY position DESC LIMIT %s
"""


def latest_turns(*, session_pk: int, message_count: int, model_id: str) -> Iterator[PastTurn]:
    """Yield a session's turns, newest first, reading more only as they are asked for.

    Messages are stored in pairs, so positions are even for users and odd for the assistant.
    """
    below = message_count
    while below > 0:
        params = [model_id, session_pk, below, 2 * _TURNS_READ_AT_ONCE]
        rows = db.fetch_rows(_LATEST_MESSAGES, params)
        for index in range(0, len(rows) - 1, 2):
            assistant, *counted = rows[index]
            (user, *_), earlier = rows[index + 1], rows[index + 2 : index + 3]
            yield PastTurn(user, assistant, _size_of_turn(counted, earlier))
        below -= len(rows) or below


def _size_of_turn(counted: list[int], earlier: list[tuple[Any, ...]]) -> int | None:
    """Return what a turn takes of the window by the provider's own counts, None if they are silent.

    Prompt and reply of one turn, less those of the turn before it: exact as long as every turn
    was still sent, with the same model, and both were counted by the provider.
    """
    if not earlier:
        return None
    input_tokens, output_tokens, is_counted = counted
    _, earlier_input, earlier_output, is_earlier_counted = earlier[0]
    size = input_tokens + output_tokens - earlier_input - earlier_output
    is_known = is_counted and is_earlier_counted and size > output_tokens
    return size if is_known else None
