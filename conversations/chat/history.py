"""Reads of sessions."""

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
from conversations.chat.prompt import PastTurn
from conversations.models import Message

# How many messages of a long history are in memory at once. Half of them are replies, of up to a
# few hundred kilobytes each.
MESSAGES_A_READ = 50
BEFORE_RULE = "Must be the id of a message of this session, as the history shows it."
_HISTORY_COLUMNS = (
    "id", "role", "content", "created_at", "position", "session_id", "session__message_count",
)  # fmt: skip
# How many turns are read with the lease. Enough for most sessions. More turns are read only while
# they still fit.
_TURNS_READ_AT_ONCE = 20


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


class MessageRow(NamedTuple):
    """The part of a message that the next prompt needs. All None if the session has no messages."""

    position: int | None
    content: str
    input_tokens: int
    output_tokens: int
    # Whether the provider counted the tokens, and for the model that is asked now. If not, they say
    # nothing about the turn's size.
    is_counted: int


def latest_messages(*, session: str, below: str) -> str:
    """Return the SELECT of a session's newest messages below a position, both SQL expressions.

    Its parameter `model` is the id of the model that will be asked. Positions have no gaps. The
    lower bound keeps every query plan from reading more of a long session than needed.
    """
    return f"""
SELECT position, content, input_tokens, output_tokens,
       CASE WHEN is_estimated OR request_model <> %(model)s THEN 0 ELSE 1 END AS is_counted
  FROM conversations_message
 WHERE session_id = {session}
   AND position < {below} AND position >= {below} - {2 * _TURNS_READ_AT_ONCE}
 ORDER BY position DESC
"""  # noqa: S608  # built from constants only


_LATEST_MESSAGES = latest_messages(session="%(session)s", below="%(below)s")

_FIND_OPEN_SESSION = """
SELECT id, message_count FROM conversations_chatsession
 WHERE channel_id = %(channel)s AND is_test = %(is_test)s AND session_id = %(session_id)s
   AND closed_at IS NULL AND last_message_at > %(dead_since)s
"""


def find_open_session(*, caller: Caller, session_id: str, now: datetime) -> tuple[int, int] | None:
    """Return the primary key and message count of the live session, or None if there is none."""
    params = {
        "channel": caller.channel_id.hex,
        "is_test": caller.is_test,
        "session_id": session_id,
        "dead_since": db.time_param(now - timedelta(seconds=settings.SESSION_TTL)),
    }
    row = db.fetch_row(_FIND_OPEN_SESSION, params)
    return (row[0], row[1]) if row else None


def latest_turns(
    newest: Sequence[MessageRow], *, session_pk: int, message_count: int, model_id: str
) -> Iterator[PastTurn]:
    """Yield a session's turns, newest first, reading more only as they are asked for.

    `newest` are the messages that were read with the lease. They are read again if they are older
    than the lease, which happens if it waited for another turn to end. Messages are stored in
    pairs, so positions are even for users and odd for the assistant.
    """
    below = message_count
    rows = newest if newest and newest[0].position == message_count - 1 else ()
    while below > 0:
        if not rows:
            params = {"model": model_id, "session": session_pk, "below": below}
            rows = [MessageRow(*row) for row in db.fetch_rows(_LATEST_MESSAGES, params)]
        for index in range(0, len(rows) - 1, 2):
            assistant, user, earlier = rows[index], rows[index + 1], rows[index + 2 : index + 3]
            yield PastTurn(user.content, assistant.content, _size_of_turn(assistant, earlier))
        below -= len(rows) or below
        rows = ()


def _size_of_turn(reply: MessageRow, earlier: Sequence[MessageRow]) -> int | None:
    """Return the tokens that a turn adds to the window, or None if the provider did not count them.

    They are the prompt and reply of this turn, minus those of the turn before. This is exact as
    long as every turn was still sent, the model is the same, and the provider counted both.
    """
    if not earlier:
        return None
    before = earlier[0]
    size = reply.input_tokens + reply.output_tokens - before.input_tokens - before.output_tokens
    is_known = reply.is_counted and before.is_counted and size > reply.output_tokens
    return size if is_known else None
