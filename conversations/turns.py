"""One turn at a time in each session: a lease on its row, and a queue of at most eight.

The lease is a number and an expiry on the session's row, taken by one guarded statement. It is
held across the provider call by arithmetic alone: no lock, transaction or connection stays
open, and a process that dies leaves a lease that ends by itself. Its number fences: whoever
lost the lease meanwhile can no longer store a turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from billing import admission
from billing.admission import Opening
from billing.contract import LOOKED
from channels.callers import Caller
from common import db, slots
from common.clock import latest_believed
from common.steps import Row, Step
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


# Whether a conversation has ended by its age, whatever the clean-up task has got to.
_IS_DEAD = "(s.message_count > 0 AND s.last_message_at <= %(dead_since)s)"
# Free as well: what ends later than any lease that is taken now, by a clock that was wrong. (Where
# the deadline of streams was just lowered, a turn under way may lose its lease; it costs nothing.)
_IS_FREE = """(s.lease_expires_at IS NULL OR s.lease_expires_at <= %(now)s
   OR s.lease_expires_at > %(last_lease)s)"""

_LEASE = Step(
    "lease",
    ("id", "lease_number", "message_count"),
    f"""
INSERT INTO conversations_chatsession AS s (channel_id, is_test, session_id, created_at,
       last_message_at, message_count, lease_number, lease_expires_at)
SELECT %(channel)s, %(is_test)s, %(session_id)s, %(now)s, %(now)s, 0, 1, %(expires_at)s
  FROM {LOOKED} WHERE {LOOKED["has_quota"]} AND {LOOKED["has_credits"]}
ON CONFLICT (channel_id, is_test, session_id) WHERE closed_at IS NULL DO UPDATE
   SET lease_number = s.lease_number + 1, lease_expires_at = excluded.lease_expires_at
 WHERE {_IS_FREE} AND NOT {_IS_DEAD}
   AND 0 = (SELECT COUNT(*) FROM conversations_waitingturn w
             WHERE w.session_id = s.id AND w.id < %(ticket)s
               AND w.expires_at > %(now)s AND w.expires_at <= %(last_ticket)s)
RETURNING id, lease_number, message_count
""",  # noqa: S608  # built from constants only
)

# The newest messages, which every turn begins by reading.
_NEWEST = f"""
  LEFT JOIN lease ON TRUE
  LEFT JOIN ({
    latest_messages(session="(SELECT id FROM lease)", below="(SELECT message_count FROM lease)")
}) newest ON TRUE
"""  # noqa: S608  # built from constants only

_TAKING = admission.placing(
    _LEASE,
    columns="lease.id, lease.lease_number, lease.message_count, newest.*",
    source=_NEWEST,
)

# Above every ticket: a request that has not queued yet goes behind all that wait.
_NO_TICKET = 2**62


def _last_lease(now: datetime) -> datetime:
    """Return when the longest lease ends that an honest clock can have given by now."""
    longest = max(settings.PROVIDER_DEADLINE, settings.PROVIDER_STREAM_DEADLINE)
    return latest_believed(now) + timedelta(seconds=longest + settings.HOLD_GRACE_SECONDS)


def _last_ticket(now: datetime) -> datetime:
    return latest_believed(now) + _ticket_lifetime()


def _ticket_lifetime() -> timedelta:
    return timedelta(seconds=settings.SESSION_WAIT_SECONDS + 1)


def is_leased(now: datetime) -> Q:
    """Return the filter of sessions in which a turn is running."""
    return Q(lease_expires_at__gt=now, lease_expires_at__lte=_last_lease(now))


def has_gone(now: datetime) -> Q:
    """Return the filter of tickets that nobody waits with any more."""
    return Q(expires_at__lte=now) | Q(expires_at__gt=_last_ticket(now))


def opening(*, caller: Caller, session_id: str, now: datetime, ticket: int | None) -> Opening:
    """Return the session's lease as what a hold opens: a new conversation where there is none."""
    return Opening(
        _TAKING,
        {
            "session_id": session_id,
            "ticket": ticket or _NO_TICKET,
            "dead_since": db.time_param(now - timedelta(seconds=settings.SESSION_TTL)),
            "last_lease": db.time_param(_last_lease(now)),
            "last_ticket": db.time_param(_last_ticket(now)),
            "model": caller.model.model_id,
        },
    )


def read_turn(rows: Sequence[Row]) -> tuple[Turn, list[MessageRow]] | None:
    """Return the turn that was opened, and the newest messages for selectors.latest_turns.

    None where another turn runs, waits in front, or the conversation has ended by its age.
    """
    if not rows:
        return None
    newest = [MessageRow(*row[3:]) for row in rows]
    newest.sort(key=lambda message: message.position or 0, reverse=True)
    return Turn(*rows[0][:3]), newest


def close_expired(*, caller: Caller, session_id: str, now: datetime) -> bool:
    """Close the conversation at the moment its time was up; False where it is not, or is in use."""
    lifetime = timedelta(seconds=settings.SESSION_TTL)
    dead = ChatSession.objects.filter(
        ~is_leased(now) | Q(lease_expires_at=None),
        channel_id=caller.channel_id,
        is_test=caller.is_test,
        session_id=session_id,
        closed_at=None,
        message_count__gt=0,
        last_message_at__lte=now - lifetime,
    )
    return bool(dead.update(closed_at=F("last_message_at") + lifetime, lease_expires_at=None))


def in_turn(*, caller: Caller, session_id: str, start: Callable[[int | None], T]) -> T:
    """Run `start` (one statement that takes the turn, or raises TurnTaken) as soon as it is ours.

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
    finally:
        # Leave the queue; a ticket that cannot be given back now expires by itself.
        with suppress(AnyDatabaseError):
            WaitingTurn.objects.filter(id=ticket).delete()


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
    WaitingTurn.objects.filter(has_gone(now), session=session).delete()
    if WaitingTurn.objects.filter(session=session).count() >= settings.SESSION_MAX_WAITING:
        raise SessionBusy
    return WaitingTurn.objects.create(session=session, expires_at=now + _ticket_lifetime()).pk


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
