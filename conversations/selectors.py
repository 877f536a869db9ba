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
SELECT content FROM conversations_message
 WHERE session_id = %s AND position < %s ORDER BY position DESC LIMIT %s
"""


def latest_turns(*, session_pk: int, message_count: int) -> Iterator[PastTurn]:
    """Yield a session's turns, newest first, reading more only as they are asked for.

    Messages are stored in pairs, so positions are even for users and odd for the assistant.
    """
    below = message_count
    while below > 0:
        rows = db.fetch_rows(_LATEST_MESSAGES, [session_pk, below, 2 * _TURNS_READ_AT_ONCE])
        for (assistant,), (user,) in zip(rows[::2], rows[1::2], strict=True):
            yield PastTurn(user, assistant)
        below -= len(rows) or below
