"""Conversations for the team: read one as a chat, and export (sessions.py lists and searches).

Every query goes through the account's channels.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.db.models.functions import Substr

from channels.models import Channel
from common import db
from conversations.archive.sessions import FIRST_LINE_CHARACTERS, Place, Search, list_sessions
from conversations.models import ChatSession, FailedRequest, Message

MESSAGES_ON_A_PAGE = 200
MESSAGES_A_READ = 200  # in an export
FAILURES_ON_A_PAGE = 100


# --- One session --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Transcript:
    """A session's latest messages and the failures among them, oldest first."""

    session: ChatSession
    items: list[Message | FailedRequest]
    # The beginning of the visitor's first message. Empty before any answer, and once erased.
    title: str
    # The position of the first message shown, if there are earlier ones.
    earlier_than: int | None


def find_session(*, account_id: int, session_pk: int) -> ChatSession | None:
    """Return a session if it belongs to one of the account's channels, otherwise None."""
    sessions = ChatSession.objects.select_related("channel")
    return sessions.filter(id=session_pk, channel__account_id=account_id).first()


def find_open_session(
    *, channel: Channel, is_test: bool, session_id: str, now: datetime
) -> ChatSession | None:
    """Return a channel's session with this id if a message can still go on in it."""
    return ChatSession.objects.filter(
        channel=channel,
        is_test=is_test,
        session_id=session_id,
        closed_at=None,
        last_message_at__gt=now - timedelta(seconds=settings.SESSION_TTL),
    ).first()


def find_reply(*, account_id: int, message_id: uuid.UUID) -> Message | None:
    """Return a reply if the account's team can read it, otherwise None."""
    return Message.objects.filter(
        id=message_id,
        channel__account_id=account_id,
        role=Message.Role.ASSISTANT,
        session__isnull=False,
        erased_at=None,
    ).first()


def get_transcript(session: ChatSession, *, before: int | None = None) -> Transcript:
    """Return the last messages of a session, or those before a position."""
    messages = Message.objects.filter(session=session).select_related("feedback__author")
    failures = _failures_of(session)
    if before is not None:
        messages = messages.filter(position__lt=before)
    latest = list(messages.order_by("-position")[:MESSAGES_ON_A_PAGE])[::-1]
    has_earlier = bool(latest) and latest[0].position > 0
    if has_earlier:
        failures = failures.filter(created_at__gte=latest[0].created_at)
    if before is not None and latest:
        failures = failures.filter(created_at__lt=latest[-1].created_at)
    items: list[Message | FailedRequest] = [*latest, *failures[:FAILURES_ON_A_PAGE]]
    items.sort(key=lambda item: item.created_at)
    # Only the first page has the first message.
    title = _title_of(session) if has_earlier or not latest else latest[0].content
    shown = title[:FIRST_LINE_CHARACTERS]
    return Transcript(session, items, shown, latest[0].position if has_earlier else None)


def _title_of(session: ChatSession) -> str:
    first = Message.objects.filter(session=session, position=0)
    return first.values_list(Substr("content", 1, FIRST_LINE_CHARACTERS), flat=True).first() or ""


def _failures_of(session: ChatSession) -> QuerySet[FailedRequest]:
    """Return this conversation's failures, not those of an earlier one with the same id."""
    failures = FailedRequest.objects.filter(
        channel_id=session.channel_id, is_test=session.is_test, session_id=session.session_id
    )
    if session.closed_at:
        failures = failures.filter(created_at__lte=session.closed_at)
    earlier = ChatSession.objects.filter(
        channel_id=session.channel_id,
        is_test=session.is_test,
        session_id=session.session_id,
        id__lt=session.pk,
    ).order_by("-id")
    closed_at = earlier.values_list("closed_at", flat=True).first()
    if closed_at:
        failures = failures.filter(created_at__gt=closed_at)
    return failures.order_by("-created_at")


# --- Export -------------------------------------------------------------------------------------

_MESSAGE_FIELDS = (
    "id", "role", "content", "created_at", "page_url", "page_title", "request_id",
    "request_model", "provider_name", "finish_reason", "input_tokens", "output_tokens",
    "charged_microcredits", "duration_ms", "prompt_version",
)  # fmt: skip


# The messages of an exported session, oldest first, with the team's feedback.
Messages = Iterable[dict[str, Any]]


def iterate_transcripts(search: Search) -> Iterator[tuple[ChatSession, Messages]]:
    """Yield every session that matches, with its messages. Reads a few sessions at a time.

    Holds no connection between two reads, even if the consumer is slow.
    """
    after: Place | None = None
    while True:
        page = list_sessions(search, after=after)
        db.release_connection()
        yield from with_messages([row.session for row in page.rows])
        after = page.following
        if after is None:
            return


def with_messages(sessions: Sequence[ChatSession]) -> Iterator[tuple[ChatSession, Messages]]:
    """Yield each session with its messages, to be consumed before the next session.

    Reads several short sessions at once, and a long session piece by piece.
    """
    together: list[ChatSession] = []
    for session in sessions:
        if sum(one.message_count for one in [*together, session]) > MESSAGES_A_READ:
            yield from _read_together(together)
            together = []
        if session.message_count > MESSAGES_A_READ:
            yield session, _read_in_pieces(session)
        else:
            together.append(session)
    yield from _read_together(together)


def _read_together(sessions: Sequence[ChatSession]) -> Iterator[tuple[ChatSession, Messages]]:
    by_session: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in _read_messages(session_id__in=[session.pk for session in sessions]):
        by_session[row["session_id"]].append(row)
    db.release_connection()
    for session in sessions:
        yield session, by_session[session.pk]


def _read_in_pieces(session: ChatSession) -> Iterator[dict[str, Any]]:
    def read(last: dict[str, Any] | None) -> list[dict[str, Any]]:
        after = -1 if last is None else last["position"]
        return list(_read_messages(session_id=session.pk, position__gt=after)[:MESSAGES_A_READ])

    for piece in db.read_in_pieces(read, size=MESSAGES_A_READ):
        yield from piece


def _read_messages(**chosen: Any) -> QuerySet[Message, dict[str, Any]]:
    fields = ("session_id", "position", *_MESSAGE_FIELDS, "feedback__rating", "feedback__note")
    messages = Message.objects.filter(**chosen).order_by("session_id", "position")
    rows: QuerySet[Message, dict[str, Any]] = messages.values(*fields)
    return rows
