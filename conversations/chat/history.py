"""Reads the messages of a session, as its caller sees them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import F

from channels.callers import Caller
from common import db
from common.errors import InvalidRequest
from conversations.models import Message

# How many messages of a long history are in memory at once. Half of them are replies, of up to a
# few hundred kilobytes each.
MESSAGES_A_READ = 50
BEFORE_RULE = "Must be the id of a message of this session, as the history shows it."
_HISTORY_COLUMNS = (
    "id", "role", "content", "created_at", "position", "session_id", "session__message_count",
)  # fmt: skip


class HistoryRow(NamedTuple):
    """A message as the history shows it, and its position."""

    id: uuid.UUID
    role: str
    content: str
    created_at: datetime
    position: int
    session_pk: int
    message_count: int


def read_history(
    *,
    caller: Caller,
    session_id: str,
    now: datetime,
    limit: int | None = None,
    before: uuid.UUID | None = None,
) -> Iterator[Sequence[HistoryRow]]:
    """Yield the live session's messages in pieces, oldest first, or nothing if it has ended.

    `limit` keeps only the latest messages, `before` only those before a message. The history ends
    with the message that was last at the first read. Raises InvalidRequest if `before` is not a
    message of the session.
    """
    chosen = Message.objects.filter(
        session__channel_id=caller.channel_id,
        session__is_test=caller.is_test,
        session__session_id=session_id,
        session__closed_at=None,
        session__last_message_at__gt=now - timedelta(seconds=settings.SESSION_TTL),
    ).order_by("position")
    end: Any = F("session__message_count")
    if before is not None:
        end = chosen.filter(id=before).values_list("position", flat=True).first()
        if end is None:
            raise InvalidRequest(fields={"before": BEFORE_RULE})
        chosen = chosen.filter(position__lt=end)
    if limit is not None:
        chosen = chosen.filter(position__gte=end - limit)

    def read(last: HistoryRow | None) -> list[HistoryRow]:
        rows = chosen
        if last is not None:  # stay in this session, even if another has begun since
            rows = rows.filter(session_id=last.session_pk, position__gt=last.position)
        return [HistoryRow(*row) for row in rows.values_list(*_HISTORY_COLUMNS)[:MESSAGES_A_READ]]

    return _until_the_first_end(db.read_in_pieces(read, size=MESSAGES_A_READ))


def _until_the_first_end(
    pieces: Iterator[Sequence[HistoryRow]],
) -> Iterator[Sequence[HistoryRow]]:
    """Yield pieces up to the end that the session had when the first piece was read."""
    end = None
    for piece in pieces:
        end = piece[0].message_count if end is None else end
        yield [row for row in piece if row.position < end]
        if piece[-1].position >= end - 1:
            return
