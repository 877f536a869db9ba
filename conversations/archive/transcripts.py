"""Conversations for the team: search, list (newest first), read, and export.

Every query goes through the account's channels. A list continues from the last session shown
(keyset pagination) and never counts all sessions. A search reads at most `SCANNED_AT_ONCE` sessions
at a time, and returns the place to continue from.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Coalesce, Substr

from channels.models import Channel
from common import db
from common.db.plans import planned_for_values
from conversations.models import ChatSession, FailedRequest, Feedback, Message
from conversations.usage.references import IN_SESSION

SESSIONS_ON_A_PAGE = 25
# How many sessions a search examines first: few if it reads texts, more if it reads only errors
# and ratings.
FIRST_READ, FIRST_LOOKED_INTO = 50, 500
SCANNED_AT_ONCE = 2_000
MESSAGES_ON_A_PAGE = 200
MESSAGES_A_READ = 200  # in an export
FAILURES_ON_A_PAGE = 100
FIRST_LINE_CHARACTERS = 160


@dataclass(frozen=True, slots=True)
class Search:
    """The filter for an account's sessions: by channel, by last activity, by what is in them."""

    account_id: int
    is_test: bool = False
    channel_id: uuid.UUID | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    text: str = ""
    has_errors: bool = False
    has_thumb_down: bool = False

    @property
    def looks_inside(self) -> bool:
        """Return whether the search must look into sessions to know whether they match."""
        return bool(self.text or self.has_errors or self.has_thumb_down)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the list, before the next session."""

    last_message_at: datetime
    session_pk: int

    def __str__(self) -> str:
        return f"{self.last_message_at.isoformat()}~{self.session_pk}"

    @classmethod
    def parse(cls, text: str) -> Place | None:
        """Return the place that `str` wrote, or None for anything else."""
        moment, _, pk = text.partition("~")
        try:
            place = cls(datetime.fromisoformat(moment), int(pk))
        except ValueError:
            return None
        return place if place.last_message_at.tzinfo and 0 <= place.session_pk < 2**63 else None


@dataclass(slots=True)
class Row:
    """One session in the list."""

    session: ChatSession
    first_line: str = ""
    page_url: str = ""
    is_erased: bool = False
    error_count: int = 0
    ratings: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Some sessions, the place to continue from, and whether the search stopped early."""

    rows: list[Row]
    following: Place | None
    is_cut: bool = False


def list_sessions(search: Search, *, after: Place | None = None) -> SessionPage:
    """Return a page of sessions, latest activity first."""
    if search.looks_inside:
        with planned_for_values():
            return _search(search, after)
    latest = _latest(search, after, SESSIONS_ON_A_PAGE + 1)
    sessions = list(_sessions([place.session_pk for place, _ in latest]))
    return _whole_page(sessions) or SessionPage(_rows(sessions), None)


def count_sessions(search: Search, *, most: int) -> int:
    """Count sessions, up to `most`. Does not look into them."""
    return len(_latest(search, None, most))


def _whole_page(sessions: list[ChatSession]) -> SessionPage | None:
    """Return a full page if more sessions follow it, otherwise None."""
    shown = sessions[:SESSIONS_ON_A_PAGE]
    if len(sessions) == len(shown):
        return None
    return SessionPage(_rows(shown), _place_of(shown[-1]))


def _search(search: Search, after: Place | None) -> SessionPage:
    """Look into sessions until a page is full, at first into few, then into more at a time.

    If many sessions match, the first few are enough, however many sessions there are.
    """
    found: list[ChatSession] = []
    scanned, count = 0, FIRST_READ if search.text else FIRST_LOOKED_INTO
    while scanned < SCANNED_AT_ONCE:
        count = min(count, SCANNED_AT_ONCE - scanned)
        latest = _latest(search, after, count)
        if latest:
            found += _looked_into(search, latest)[: SESSIONS_ON_A_PAGE + 1 - len(found)]
        if page := _whole_page(found):
            return page
        if len(latest) < count:
            return SessionPage(_rows(found), None)
        after, _ = latest[-1]
        scanned, count = scanned + count, count * 2
    return SessionPage(_rows(found), after, is_cut=True)


# --- The latest sessions ------------------------------------------------------------------------

_LATEST = "SELECT s.last_message_at, s.id, s.created_at FROM conversations_chatsession s WHERE "
_NEWEST_FIRST = " ORDER BY last_message_at DESC, id DESC LIMIT %(count)s"
# Reads the latest sessions of each channel, then the latest of these. The index has them in this
# order, however many there are. For all channels at once, PostgreSQL would sort all sessions of the
# account, or scan those of all accounts until it finds enough. SQLite has no other way.
_LATEST_OF_ACCOUNT = {
    "postgresql": """
        SELECT latest.* FROM channels_channel c
         CROSS JOIN LATERAL ({latest} s.channel_id = c.id AND {conditions} {newest_first}) AS latest
         WHERE {channels} {newest_first}""",
    "sqlite": """
        {latest} s.channel_id IN (SELECT c.id FROM channels_channel c WHERE {channels})
           AND {conditions} {newest_first}""",
}


def _latest(search: Search, after: Place | None, count: int) -> list[tuple[Place, datetime]]:
    """Return the places of the latest sessions, latest first, and when each session began.

    Ignores filters that need to look into sessions.
    """
    channels = "c.account_id = %(account)s"
    conditions = "s.is_test = %(is_test)s"
    params: dict[str, Any] = {
        "account": search.account_id, "is_test": search.is_test, "count": count
    }  # fmt: skip
    if search.channel_id:
        channels += " AND c.id = %(channel)s"
        params["channel"] = db.param(search.channel_id)
    if search.starts_at:
        conditions += " AND s.last_message_at >= %(starts_at)s"
        params["starts_at"] = db.param(search.starts_at)
    if search.ends_at:
        conditions += " AND s.last_message_at < %(ends_at)s"
        params["ends_at"] = db.param(search.ends_at)
    if after:
        conditions += " AND (s.last_message_at, s.id) < (%(after)s, %(after_pk)s)"
        params |= {"after": db.param(after.last_message_at), "after_pk": after.session_pk}
    statement = _LATEST_OF_ACCOUNT[connection.vendor].format(
        latest=_LATEST, newest_first=_NEWEST_FIRST, channels=channels, conditions=conditions
    )
    return [
        (Place(db.time_value(last), pk), db.time_value(first))
        for last, pk, first in db.fetch_rows(statement, params)
    ]


def _sessions(session_pks: list[int]) -> QuerySet[ChatSession]:
    """Return these sessions, latest activity first."""
    sessions = ChatSession.objects.filter(id__in=session_pks).select_related("channel")
    return sessions.order_by("-last_message_at", "-id")


def _looked_into(search: Search, latest: Sequence[tuple[Place, datetime]]) -> QuerySet[ChatSession]:
    """Return the sessions that match."""
    session_pks = [place.session_pk for place, _ in latest]
    sessions = _sessions(session_pks)
    if search.text:
        # A separate statement. In one statement with the sessions, PostgreSQL would read all
        # messages instead of looking into a few sessions, because it underestimates text search.
        saying = Message.objects.filter(session_id__in=session_pks).filter(
            Q(content__icontains=search.text) | Q(page_url__icontains=search.text)
        )
        of_messages = set(saying.values_list("session_id", flat=True))
        sessions = sessions.filter(Q(session_id__icontains=search.text) | Q(id__in=of_messages))
    if search.has_errors:
        # Account and time are repeated, so that no plan reads old failures or those of others.
        since = min(began_at for _, began_at in latest)
        failures = FailedRequest.objects.filter(
            channel__account_id=search.account_id, created_at__gte=since
        ).filter(
            channel_id=OuterRef("channel_id"),
            is_test=OuterRef("is_test"),
            session_id=OuterRef("session_id"),
            created_at__gte=OuterRef("created_at"),
            created_at__lte=Coalesce(OuterRef("closed_at"), F("created_at")),
        )
        sessions = sessions.filter(Exists(failures))
    if search.has_thumb_down:
        down = Feedback.objects.filter(
            message__session_id=OuterRef("pk"), rating=Feedback.Rating.DOWN
        )
        sessions = sessions.filter(Exists(down))
    return sessions


def _place_of(session: ChatSession) -> Place:
    return Place(session.last_message_at, session.pk)


def _rows(sessions: Sequence[ChatSession]) -> list[Row]:
    """Add to each session its first line, its failures, and the team's ratings."""
    rows = {session.pk: Row(session) for session in sessions}
    first = Message.objects.filter(session_id__in=rows, position=0).annotate(
        beginning=Substr("content", 1, FIRST_LINE_CHARACTERS)
    )
    columns = ("session_id", "beginning", "page_url", "erased_at")
    for pk, text, page_url, erased_at in first.values_list(*columns):
        rows[pk].first_line, rows[pk].page_url = text, page_url
        rows[pk].is_erased = erased_at is not None
    rated = Feedback.objects.filter(message__session_id__in=list(rows))
    for rating, of_session in rated.values_list("rating", "message__session__id"):
        rows[of_session].ratings.add(rating)
    _count_errors(list(rows.values()))
    return list(rows.values())


# Channels and time are repeated, so that no plan reads old failures or those of others.
_ERRORS = f"""
SELECT s.id, COUNT(*) FROM conversations_chatsession s
  JOIN conversations_failedrequest m ON {IN_SESSION}
 WHERE {{sessions}} AND {{channels}} AND m.created_at >= %(since)s
 GROUP BY s.id
"""  # noqa: S608  # built from constants only


def _count_errors(rows: Sequence[Row]) -> None:
    if not rows:
        return
    sessions = [row.session for row in rows]
    found = db.fetch_rows(
        _ERRORS.format(
            sessions=db.among("s.id", "sessions"), channels=db.among("m.channel_id", "channels")
        ),
        {
            "sessions": db.list_param([session.pk for session in sessions]),
            "channels": db.uuids_param({session.channel_id for session in sessions}),
            "since": db.param(min(session.created_at for session in sessions)),
        },
    )
    counts = dict(found)
    for row in rows:
        row.error_count = counts.get(row.session.pk, 0)


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
