"""The list of an account's conversations, newest first, and the search in them.

Every query goes through the account's channels. A list continues from the last session shown
(keyset pagination) and never counts all sessions. A search looks into at most `SCANNED_AT_ONCE`
sessions at a time, and returns the place to continue from.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db import connection
from django.db.models import OuterRef, Subquery, Value
from django.db.models.functions import Greatest, StrIndex, Substr, Upper

from common import db
from common.db.plans import planned_for_values
from conversations.models import ChatSession, Feedback, Message
from conversations.usage.references import IN_SESSION

SESSIONS_ON_A_PAGE = 25
SCANNED_AT_ONCE = 2_000
FIRST_LINE_CHARACTERS = 160
# What a search shows around the first hit in a message.
HIT_CHARACTERS = 120
BEFORE_HIT = 40


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
    # What is before a search's text in the newest message with it, the text itself, what is after.
    hit: tuple[str, str, str] | None = None


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Some sessions, the place to continue from, and whether the search stopped early."""

    rows: list[Row]
    following: Place | None
    is_cut: bool = False


def list_sessions(search: Search, *, after: Place | None = None) -> SessionPage:
    """Return a page of sessions, latest activity first."""
    most = SESSIONS_ON_A_PAGE + 1
    if not search.looks_inside:
        found = _latest(search, after, most)
        return _page(search, found) or SessionPage(_rows(search, found), None)
    found, stopped_at = _look_inside(search, after, most)
    return _page(search, found) or SessionPage(
        _rows(search, found), stopped_at, is_cut=stopped_at is not None
    )


def count_sessions(search: Search, *, most: int) -> int:
    """Count sessions, up to `most`. Does not look into them."""
    return len(_latest(search, None, most))


def _page(search: Search, found: Sequence[Place]) -> SessionPage | None:
    """Return a full page if more sessions follow it, otherwise None."""
    shown = found[:SESSIONS_ON_A_PAGE]
    if len(found) == len(shown):
        return None
    return SessionPage(_rows(search, shown), shown[-1])


# --- The latest sessions ------------------------------------------------------------------------

_LATEST = """
SELECT s.last_message_at, s.id, s.is_test, s.session_id, s.created_at, s.closed_at, s.channel_id
  FROM conversations_chatsession s WHERE """
_NEWEST_FIRST = "ORDER BY last_message_at DESC, id DESC LIMIT"
# Reads the latest sessions of each channel, then the latest of these. The index has them in this
# order, however many there are. For all channels at once, PostgreSQL would sort all sessions of the
# account, or scan those of all accounts until it finds enough. SQLite has no other way.
#
# For 2,000 sessions of 1,000 channels, it would read up to two million. So it first looks only at
# the session at a small `depth` of each channel. Enough channels with that many sessions since some
# moment have enough sessions together, and nothing older is read.
_LATEST_OF_ACCOUNT = {
    "postgresql": """
        WITH own AS MATERIALIZED (SELECT c.id FROM channels_channel c WHERE {channels}),
        size AS MATERIALIZED (
            SELECT 1 + 2 * %(wanted)s / GREATEST(COUNT(*), 1) AS depth FROM own),
        edge AS MATERIALIZED (
            SELECT deep.last_message_at
              FROM own CROSS JOIN LATERAL (
                   SELECT s.last_message_at FROM conversations_chatsession s
                    WHERE s.channel_id = own.id AND {conditions}
                    ORDER BY s.last_message_at DESC
                   OFFSET (SELECT depth - 1 FROM size) LIMIT 1) AS deep
             ORDER BY 1 DESC OFFSET (SELECT (%(wanted)s - 1) / depth FROM size) LIMIT 1)
        SELECT latest.* FROM own
         CROSS JOIN LATERAL (
               {latest} s.channel_id = own.id AND {conditions}
                   AND s.last_message_at
                       >= COALESCE((SELECT last_message_at FROM edge), '-infinity')
                {newest_first} %(wanted)s) AS latest
         {newest_first} %(wanted)s""",
    "sqlite": """
        {latest} s.channel_id IN (SELECT c.id FROM channels_channel c WHERE {channels})
           AND {conditions} {newest_first} %(wanted)s""",
}


def _latest(search: Search, after: Place | None, count: int) -> list[Place]:
    """Return the places of the latest sessions, latest first.

    Ignores filters that need to look into sessions.
    """
    statement, params = _select_latest(search, after, count)
    rows = db.fetch_rows(f"SELECT last_message_at, id FROM ({statement}) AS latest", params)  # noqa: S608
    return [Place(db.time_value(last), pk) for last, pk in rows]


def _select_latest(search: Search, after: Place | None, count: int) -> tuple[str, dict[str, Any]]:
    channels = "c.account_id = %(account)s"
    conditions = "s.is_test = %(is_test)s"
    params: dict[str, Any] = {
        "account": search.account_id, "is_test": search.is_test, "wanted": count
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
    return statement, params


# --- What is in them ----------------------------------------------------------------------------

# PostgreSQL reads the subquery in its order, and stops at the last session that is wanted. The last
# one that it may look into is always returned, as the place to continue from.
_MATCHING = """
SELECT s.last_message_at, s.id, s.number, {matches} AS is_match
  FROM (SELECT latest.*, ROW_NUMBER() OVER (ORDER BY last_message_at DESC, id DESC) AS number
          FROM ({latest}) AS latest {newest_first} %(wanted)s) AS s
 WHERE {matches} OR s.number = %(wanted)s
 {newest_first} %(most)s
"""
# A value instead of EXISTS, because PostgreSQL may answer that from all messages or failures of the
# gateway, instead of looking into one session after the other.
_HAS = "(SELECT 1 FROM {rows} LIMIT 1) IS NOT NULL"
_CONTAINS = {
    "postgresql": "UPPER({column}) LIKE UPPER(%(text)s)",
    "sqlite": "{column} LIKE %(text)s ESCAPE '\\'",
}
_SAYING = "conversations_message m WHERE m.session_id = s.id AND ({said} OR {on_page})"
# The end is repeated in a way that an index can use.
_FAILED = f"""conversations_failedrequest m
 WHERE {IN_SESSION} AND m.created_at <= COALESCE(s.closed_at, %(forever)s)"""
_DISLIKED = """conversations_message m JOIN conversations_feedback f ON f.message_id = m.id
 WHERE m.session_id = s.id AND f.rating = %(down)s"""


def _look_inside(
    search: Search, after: Place | None, most: int
) -> tuple[list[Place], Place | None]:
    """Return the latest sessions that match, and where the search stopped, if not at the end."""
    latest, params = _select_latest(search, after, SCANNED_AT_ONCE)
    statement = _MATCHING.format(
        latest=latest,
        newest_first=_NEWEST_FIRST,
        matches=f"({' AND '.join(_conditions_inside(search))})",
    )
    params |= {
        "most": most + 1,
        "text": f"%{connection.ops.prep_for_like_query(search.text)}%",
        "forever": db.param(datetime(9999, 1, 1, tzinfo=UTC)),
        "down": Feedback.Rating.DOWN.value,
    }
    with planned_for_values():
        rows = db.fetch_rows(statement, params)
    places = [Place(db.time_value(last), pk) for last, pk, _, _ in rows]
    found = [place for place, row in zip(places, rows, strict=True) if row[3]]
    is_cut = bool(rows) and rows[-1][2] == SCANNED_AT_ONCE
    return found[:most], places[-1] if is_cut else None


def _conditions_inside(search: Search) -> Iterator[str]:
    """Yield the conditions for a session `s` that need to look into it."""
    if search.has_errors:
        yield _HAS.format(rows=_FAILED)
    if search.text:
        contains = _CONTAINS[connection.vendor]
        said, on_page = (contains.format(column=f"m.{name}") for name in ("content", "page_url"))
        rows = _HAS.format(rows=_SAYING.format(said=said, on_page=on_page))
        yield f"({contains.format(column='s.session_id')} OR {rows})"
    if search.has_thumb_down:
        yield _HAS.format(rows=_DISLIKED)


# --- What the list shows ------------------------------------------------------------------------


def _rows(search: Search, places: Sequence[Place]) -> list[Row]:
    """Return the sessions at these places with their first lines, hits, failures, and ratings."""
    if not places:
        return []
    sessions = ChatSession.objects.filter(id__in=[place.session_pk for place in places])
    in_order = sessions.select_related("channel").order_by("-last_message_at", "-id")
    if search.text:
        in_order = in_order.annotate(hit=_hit(search.text))
    rows = {session.pk: Row(session) for session in in_order}
    if search.text:
        for row in rows.values():
            row.hit = split_hit(getattr(row.session, "hit", None) or "", search.text)
    first = Message.objects.filter(session_id__in=rows, position=0).annotate(
        beginning=Substr("content", 1, FIRST_LINE_CHARACTERS)
    )
    columns = ("session_id", "beginning", "page_url", "erased_at")
    for pk, text, page_url, erased_at in first.values_list(*columns):
        rows[pk].first_line, rows[pk].page_url = text, page_url
        rows[pk].is_erased = erased_at is not None
    _add_errors_and_ratings(rows)
    return list(rows.values())


def _hit(text: str) -> Subquery:
    """Return a part of the newest message of the outer session that contains the text."""
    place = StrIndex(Upper("content"), Upper(Value(text)))
    start = Greatest(place - BEFORE_HIT, Value(1))
    messages = Message.objects.filter(session_id=OuterRef("pk"), content__icontains=text)
    parts = messages.order_by("-position").values(part=Substr("content", start, HIT_CHARACTERS))
    return Subquery(parts[:1])


def split_hit(part: str, text: str) -> tuple[str, str, str] | None:
    """Return what is before the text, the text as it is written there, and what is after."""
    found = re.search(re.escape(text), part, re.IGNORECASE)
    if found is None:
        return None
    before, after = part[: found.start()], part[found.end() :]
    if found.start() == BEFORE_HIT:
        before = "…" + before
    if len(part) == HIT_CHARACTERS:
        after += "…"
    return before, found.group(), after


# Channels and time are repeated, so that no plan reads old failures or those of others.
_ERRORS_AND_RATINGS = f"""
SELECT s.id, NULL AS rating, COUNT(*) FROM conversations_chatsession s
  JOIN conversations_failedrequest m ON {IN_SESSION}
 WHERE {{sessions}} AND {{channels}} AND m.created_at >= %(since)s
 GROUP BY s.id
 UNION ALL
SELECT s.id, f.rating, 0 FROM conversations_chatsession s
  JOIN conversations_message m ON m.session_id = s.id
  JOIN conversations_feedback f ON f.message_id = m.id
 WHERE {{sessions}}
"""  # noqa: S608  # built from constants only


def _add_errors_and_ratings(rows: dict[int, Row]) -> None:
    sessions = [row.session for row in rows.values()]
    if not sessions:
        return
    statement = _ERRORS_AND_RATINGS.format(
        sessions=db.among("s.id", "sessions"), channels=db.among("m.channel_id", "channels")
    )
    params = {
        "sessions": db.list_param(list(rows)),
        "channels": db.uuids_param({session.channel_id for session in sessions}),
        "since": db.param(min(session.created_at for session in sessions)),
    }
    for pk, rating, error_count in db.fetch_rows(statement, params):
        if rating is None:
            rows[pk].error_count = error_count
        else:
            rows[pk].ratings.add(rating)
