"""One turn at a time in each session: its lease, its queue of at most eight, and what it reads.

The lease is a number and an expiry on the session's row. One guarded statement takes it. During the
provider call, the lease keeps no lock, transaction, or connection open, and the lease of a process
that dies expires by itself. The number is a fencing token: a turn that lost its lease in the
meantime can no longer store its text.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from billing import admission
from billing.admission import Opening
from billing.contract import LOOKED
from channels.callers import Caller
from channels.providers.tokens import fitting_tokens
from common import db
from common.clock import HONEST_SKEW
from common.db import Row, Step
from conversations.errors import SessionBusy
from conversations.models import ChatSession, WaitingTurn
from server import slots

# A waiting request tries again after this long, with back-off up to the longer pause.
FIRST_POLL_SECONDS = 0.03
LONGEST_POLL_SECONDS = 0.25
# How many turns are read with the lease. Enough for most sessions. More turns are read only while
# they still fit.
_TURNS_READ_AT_ONCE = 20


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


@dataclass(frozen=True, slots=True)
class Turn:
    """The right to run the next turn of a session, until its lease ends."""

    session_pk: int
    lease_number: int
    message_count: int


# Whether a conversation has expired, even if the clean-up task has not closed it yet.
_IS_DEAD = "(s.message_count > 0 AND s.last_message_at <= %(dead_since)s)"
# A lease that ends later than any taken now comes from a wrong clock, and counts as free. (If the
# stream deadline was just lowered, a running turn may lose its lease. Its caller gets the reply and
# pays for it, but the session does not keep it.)
_IS_FREE = """(s.lease_expires_at IS NULL OR s.lease_expires_at <= %(now)s
   OR s.lease_expires_at > %(last_lease)s)"""

_LEASE = Step(
    "lease",
    ("id", "lease_number", "message_count"),
    f"""
INSERT INTO conversations_chatsession AS s (channel_id, is_test, session_id, created_at,
       last_message_at, message_count, lease_number, lease_expires_at)
SELECT %(channel)s, %(is_test)s, %(session_id)s, %(now)s, %(now)s, 0, 1, %(expires_at)s
  FROM {LOOKED}
 WHERE {LOOKED["has_quota"]} AND {LOOKED["has_cap_room"]} AND {LOOKED["has_credits"]}
ON CONFLICT (channel_id, is_test, session_id) WHERE closed_at IS NULL DO UPDATE
   SET lease_number = s.lease_number + 1, lease_expires_at = excluded.lease_expires_at
 WHERE {_IS_FREE} AND NOT {_IS_DEAD}
   AND 0 = (SELECT COUNT(*) FROM conversations_waitingturn w
             WHERE w.session_id = s.id AND w.id < %(ticket)s
               AND w.expires_at > %(now)s AND w.expires_at <= %(last_ticket)s)
RETURNING id, lease_number, message_count
""",  # noqa: S608  # built from constants only
)

# The newest messages. Every turn reads them first.
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

# Above every ticket: a request that has not queued yet comes after all that wait.
_NO_TICKET = 2**62


def _latest_ends(now: datetime) -> tuple[datetime, datetime]:
    """Return the latest ends of a lease and a ticket that a correct clock can have set by now."""
    latest = now + HONEST_SKEW
    longest = max(settings.PROVIDER_DEADLINE, settings.PROVIDER_STREAM_DEADLINE)
    return (
        latest + timedelta(seconds=longest + settings.HOLD_GRACE_SECONDS),
        latest + timedelta(seconds=settings.SESSION_WAIT_SECONDS + 1),
    )


def is_leased(now: datetime) -> Q:
    """Return the filter for sessions with a running turn."""
    return Q(lease_expires_at__gt=now, lease_expires_at__lte=_latest_ends(now)[0])


def has_gone(now: datetime) -> Q:
    """Return the filter for tickets whose request no longer waits."""
    return Q(expires_at__lte=now) | Q(expires_at__gt=_latest_ends(now)[1])


def opening(*, caller: Caller, session_id: str, now: datetime, ticket: int | None) -> Opening:
    """Return the session's lease, for a hold to open. Starts a conversation if there is none."""
    last_lease, last_ticket = _latest_ends(now)
    return Opening(
        _TAKING,
        {
            "session_id": session_id,
            "ticket": ticket or _NO_TICKET,
            "dead_since": db.param(now - timedelta(seconds=settings.SESSION_TTL)),
            "last_lease": db.param(last_lease),
            "last_ticket": db.param(last_ticket),
            "model": caller.model.model_id,
        },
    )


def read_turn(rows: Sequence[Row]) -> tuple[Turn, list[MessageRow]] | None:
    """Return the opened turn, and the newest messages for latest_turns.

    Returns None if another turn runs or is ahead in the queue, or if the conversation has expired.
    """
    if not rows:
        return None
    newest = [MessageRow(*row[3:]) for row in rows]
    newest.sort(reverse=True)  # by position
    return Turn(*rows[0][:3]), newest


def close_expired(*, caller: Caller, session_id: str, now: datetime) -> bool:
    """Close an expired conversation as of its expiry. Returns False if it is live or in use."""
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


def tries(*, caller: Caller, session_id: str) -> Generator[int, None, None]:
    """Queue for the turn. Yield this request's ticket each time it may try to take the turn.

    Waits before each try, and holds neither a connection nor a slot meanwhile. Closing it leaves
    the queue. Raises SessionBusy if eight requests wait already, or after 30 seconds.
    """
    ticket = _queue(caller=caller, session_id=session_id)
    give_up_at = time.monotonic() + settings.SESSION_WAIT_SECONDS
    pause = FIRST_POLL_SECONDS
    try:
        while time.monotonic() < give_up_at:
            db.release_connection()
            with slots.slot_given_back():
                time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_POLL_SECONDS)
            yield ticket
        raise SessionBusy
    finally:
        # A ticket that cannot be deleted now expires by itself.
        with suppress(AnyDatabaseError):
            WaitingTurn.objects.filter(id=ticket).delete()


@transaction.atomic
def _queue(*, caller: Caller, session_id: str) -> int:
    """Take a place in the queue. The session's row lock makes counting and adding atomic."""
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
        raise SessionBusy  # erased at this very moment
    WaitingTurn.objects.filter(has_gone(now), session=session).delete()
    if WaitingTurn.objects.filter(session=session).count() >= settings.SESSION_MAX_WAITING:
        raise SessionBusy
    expires_at = _latest_ends(now)[1] - HONEST_SKEW
    return WaitingTurn.objects.create(session=session, expires_at=expires_at).pk


_GIVE_UP_TURN = """
UPDATE conversations_chatsession SET lease_expires_at = NULL
 WHERE id = %(id)s AND CASE WHEN closed_at IS NULL THEN lease_number = %(lease_number)s END
"""


def give_up_turn(turn: Turn) -> None:
    """Give the lease back and leave the session as it was. Does nothing if the lease was lost.

    A stored turn gives its lease back in the statement that stores it (storing.py).
    """
    db.execute(_GIVE_UP_TURN, {"id": turn.session_pk, "lease_number": turn.lease_number})


def is_kept(turn: Turn) -> bool:
    """Return whether the session of a turn that was just stored keeps its text.

    Runs in the same transaction. Returns False if the session was erased while the provider
    answered.
    """
    return ChatSession.objects.filter(
        id=turn.session_pk, lease_number=turn.lease_number, closed_at=None
    ).exists()


# --- What was said before -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PastTurn:
    """One earlier exchange. `tokens` is its size in the window, if the provider counted it."""

    user: str
    assistant: str
    tokens: int | None = None

    def size(self) -> int:
        """Return the tokens that the turn takes: counted if known, otherwise estimated."""
        if self.tokens is not None:
            return self.tokens
        return fitting_tokens(self.user) + fitting_tokens(self.assistant)


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
        "dead_since": db.param(now - timedelta(seconds=settings.SESSION_TTL)),
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
