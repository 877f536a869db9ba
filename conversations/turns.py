"""One turn at a time in each session: a lease on its row, and a queue of at most eight.

The lease is a number and an expiry on the session's row, taken by one guarded statement. It is
held across the provider call by arithmetic alone: no lock, transaction or connection stays
open, and a process that dies leaves a lease that ends by itself. Its number fences: whoever
lost the lease meanwhile can no longer store a turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from channels.callers import Caller
from common import db, slots
from common.steps import Step, Steps
from conversations.errors import SessionBusy
from conversations.models import ChatSession, WaitingTurn
from conversations.selectors import MessageRow, latest_messages

T = TypeVar("T")

# A waiting request asks again after this long: soon at first, then more calmly.
FIRST_POLL_SECONDS = 0.03
LONGEST_POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Turn:
    """The right to run the next turn of a session, until its lease ends."""

    session_pk: int
    lease_number: int
    message_count: int


class TurnTaken(Exception):
    """Another turn of this session is running, or waits in front."""


_LEASE = Step(
    "lease",
    ("id", "lease_number", "message_count", "last_message_at"),
    """
INSERT INTO conversations_chatsession AS s (channel_id, is_test, session_id, created_at,
       last_message_at, message_count, lease_number, lease_expires_at)
VALUES (%(channel)s, %(is_test)s, %(session_id)s, %(now)s, %(now)s, 0, 1, %(expires_at)s)
ON CONFLICT (channel_id, is_test, session_id) WHERE closed_at IS NULL DO UPDATE
   SET lease_number = s.lease_number + 1, lease_expires_at = excluded.lease_expires_at
 WHERE (s.lease_expires_at IS NULL OR s.lease_expires_at <= %(now)s)
   AND 0 = (SELECT COUNT(*) FROM conversations_waitingturn w
             WHERE w.session_id = s.id AND w.expires_at > %(now)s AND w.id < %(ticket)s)
RETURNING id, lease_number, message_count, last_message_at
""",
)

# With the newest messages, which every turn begins by reading.
_TAKE_LEASE = Steps(
    _LEASE,
    result=f"""
SELECT lease.id, lease.lease_number, lease.message_count,
       lease.message_count > 0 AND lease.last_message_at <= %(dead_since)s, newest.*
  FROM lease LEFT JOIN ({
        latest_messages(session="(SELECT id FROM lease)", below="(SELECT message_count FROM lease)")
    }) newest ON TRUE
 ORDER BY newest.position DESC
""",  # noqa: S608  # built from constants only
)

# Above every ticket: a request that has not queued yet goes behind all that wait.
_NO_TICKET = 2**62


def take_turn(
    *, caller: Caller, session_id: str, now: datetime, expires_at: datetime, ticket: int | None
) -> tuple[Turn, list[MessageRow]]:
    """Take the session's lease, opening a new conversation where there is none alive.

    Part of the caller's transaction, which also gives up the ticket in the queue. With the turn
    come the newest messages, newest first, for selectors.latest_turns. Raises TurnTaken where
    another turn runs or waits in front.
    """
    rows = _TAKE_LEASE.run(
        {
            "channel": caller.channel_id.hex,
            "is_test": caller.is_test,
            "session_id": session_id,
            "now": db.time_param(now),
            "expires_at": db.time_param(expires_at),
            "ticket": ticket or _NO_TICKET,
            "dead_since": db.time_param(now - timedelta(seconds=settings.SESSION_TTL)),
            "model": caller.model.model_id,
        }
    )
    if not rows:
        raise TurnTaken
    session_pk, lease_number, message_count, is_dead = rows[0][:4]
    if is_dead:
        _close_expired(session_pk)
        return take_turn(
            caller=caller, session_id=session_id, now=now, expires_at=expires_at, ticket=ticket
        )
    if ticket is not None:
        WaitingTurn.objects.filter(id=ticket).delete()
    newest = [MessageRow(*row[4:]) for row in rows]
    return Turn(session_pk, lease_number, message_count), newest


def _close_expired(session_pk: int) -> None:
    """Close a conversation at the moment its time was up; its lease is held, and ends with it."""
    expired_at = F("last_message_at") + timedelta(seconds=settings.SESSION_TTL)
    ChatSession.objects.filter(id=session_pk).update(closed_at=expired_at, lease_expires_at=None)


def in_turn(*, caller: Caller, session_id: str, start: Callable[[int | None], T]) -> T:
    """Run `start` (one short transaction that takes the turn) as soon as it is our turn.

    `start` is given our ticket in the queue, None at first. Between attempts no connection is
    held. Raises SessionBusy when eight wait already or 30 s have passed.
    """
    with suppress(TurnTaken):
        return start(None)
    ticket = _queue(caller=caller, session_id=session_id)
    give_up_at = time.monotonic() + settings.SESSION_WAIT_SECONDS
    pause = FIRST_POLL_SECONDS
    try:
        while time.monotonic() < give_up_at:
            db.release_connection()
            with slots.slot_given_back():
                time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_POLL_SECONDS)
            with suppress(TurnTaken):
                return start(ticket)
        raise SessionBusy
    except BaseException:
        # Leave the queue; a ticket that cannot be given back now expires by itself.
        with suppress(AnyDatabaseError):
            WaitingTurn.objects.filter(id=ticket).delete()
        raise


@transaction.atomic
def _queue(*, caller: Caller, session_id: str) -> int:
    """Take a place in the queue; the session's row lock makes counting and adding one step."""
    now = timezone.now()
    session = (
        ChatSession.objects.select_for_update()
        .filter(
            channel_id=caller.channel_id,
            is_test=caller.is_test,
            session_id=session_id,
            closed_at=None,
        )
        .first()
    )
    if session is None:
        raise SessionBusy  # erased in this very moment
    WaitingTurn.objects.filter(session=session, expires_at__lte=now).delete()
    if WaitingTurn.objects.filter(session=session).count() >= settings.SESSION_MAX_WAITING:
        raise SessionBusy
    expires_at = now + timedelta(seconds=settings.SESSION_WAIT_SECONDS + 1)
    return WaitingTurn.objects.create(session=session, expires_at=expires_at).pk


_GIVE_UP_TURN = """
UPDATE conversations_chatsession SET lease_expires_at = NULL
 WHERE id = %(id)s AND CASE WHEN closed_at IS NULL THEN lease_number = %(lease_number)s END
"""


def give_up_turn(turn: Turn) -> None:
    """Give the lease back, and leave the session as it was; nothing where the lease was lost.

    A turn that is stored ends with what it stores (conversations/messages.py).
    """
    db.execute(_GIVE_UP_TURN, {"id": turn.session_pk, "lease_number": turn.lease_number})


def is_kept(turn: Turn) -> bool:
    """Tell, in the transaction that has just stored a turn, whether its session keeps text.

    False where it was erased while the provider talked.
    """
    return ChatSession.objects.filter(
        id=turn.session_pk, lease_number=turn.lease_number, closed_at=None
    ).exists()
