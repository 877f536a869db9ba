"""The requests of an account, newest first: answered, failed, refused, and replayed ones.

A page continues after the last request shown (keyset pagination). It reads only hours and days that
contain requests, according to the tally, so that a page costs the same however many requests there
are. A filter that the tally knows nothing about reads a bounded number of requests at a time, and
returns the place to continue from.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import CharField, QuerySet, UUIDField, Value

from common import db
from common.api.base import REQUEST_ID_PATTERN
from common.db.plans import planned_for_values
from conversations.models import ChatSession, FailedRequest, Message, ReplayedRequest
from conversations.usage import outcomes, sums
from conversations.usage.references import read_reply_id
from conversations.usage.request_filter import Kind, RequestFilter, requests_of, source
from conversations.usage.request_tally import Tally, tally_requests

REQUESTS_ON_A_PAGE = 50
REQUESTS_A_READ = 500  # in an export
FOUND_BY_REFERENCE = 50
# How many requests are read at a time for a filter that the tally does not support.
FIRST_LOOKED_AT, LOOKED_AT_ONCE = 1_000, 20_000
WINDOWS_GROW = 20


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the log, just after a request. Without a `pk`, before all of its moment."""

    created_at: datetime
    kind: int = -1
    pk: str = ""

    def __str__(self) -> str:
        return f"{self.created_at.isoformat()}~{self.kind}~{self.pk}"

    @classmethod
    def parse(cls, text: str) -> Place | None:
        """Return the place that `str` wrote, or None for anything else."""
        moment, _, rest = text.partition("~")
        kind, _, pk = rest.partition("~")
        try:
            place = cls(datetime.fromisoformat(moment), int(kind), pk)
            _ = place.pk_param if place.kind >= 0 else None
        except ValueError:
            return None
        return place if place.created_at.tzinfo and -1 <= place.kind <= Kind.REPLY else None

    @property
    def pk_param(self) -> Any:
        """The row's id as the database stores it. Raises ValueError if the text is not an id."""
        if self.kind == Kind.REPLY:
            return db.param(uuid.UUID(self.pk))
        number = int(self.pk)
        if not 0 <= number < 2**63:
            raise ValueError("no row has this id")
        return number


@dataclass(frozen=True, slots=True)
class Entry:
    """One request of the log."""

    kind: Kind
    row: Message | FailedRequest | ReplayedRequest
    outcome: str

    @property
    def place(self) -> Place:
        return Place(self.row.created_at, self.kind, str(self.row.pk))

    @property
    def error_code(self) -> str:
        return self.row.error_code if isinstance(self.row, FailedRequest) else ""

    @property
    def reason(self) -> str:
        return self.row.reason if isinstance(self.row, FailedRequest) else ""

    @property
    def reply(self) -> Message | None:
        """The reply, if this request has one of its own."""
        return self.row if isinstance(self.row, Message) else None

    @property
    def duration_ms(self) -> int | None:
        return None if isinstance(self.row, ReplayedRequest) else self.row.duration_ms


@dataclass(frozen=True, slots=True)
class LogPage:
    """Some requests, the place to continue from, and whether the filter stopped early."""

    entries: list[Entry]
    following: Place | None = None
    is_cut: bool = False


def list_requests(
    chosen: RequestFilter, tally: Tally, *, after: Place | None = None, most: int = 0
) -> LogPage:
    """Return a page of requests, newest first. `tally` is that of the same filter."""
    most = most or REQUESTS_ON_A_PAGE
    found: list[Place] = []
    with planned_for_values():
        for since, is_last in _windows(chosen, tally, after, most):
            window = replace(chosen, starts_at=since)
            found += _find(window, tally.channel_ids, after, most + 1 - len(found))
            if len(found) > most:
                return LogPage(_load(found[:most]), found[most - 1])
            after = Place(since)
            if is_last:
                return LogPage(_load(found), after, is_cut=True)
        return LogPage(_load(found))


def _windows(
    chosen: RequestFilter, tally: Tally, after: Place | None, most: int
) -> Iterator[tuple[datetime, bool]]:
    """Yield the start of each window to read, latest first, and whether to stop after it.

    Each window contains many times more requests than the one before, so that there are few.
    """
    left = [one for one in tally.starts if not after or one[0] <= after.created_at]
    partly = 2 if after else 0
    wanted, seen, looked_at = FIRST_LOOKED_AT if chosen.needs_messages else most + 1, 0, 0
    for position, (moment, count) in enumerate(left):
        # The place may be in the middle of its hour or day.
        seen += count if position >= partly else 0
        looked_at += count
        is_end = position == len(left) - 1
        if is_end or seen >= wanted:
            is_cut = chosen.needs_messages and looked_at >= LOOKED_AT_ONCE and not is_end
            yield max(moment, chosen.starts_at), is_cut
            wanted, seen = wanted * WINDOWS_GROW, 0


# --- Finding ------------------------------------------------------------------------------------

# Reads the newest requests of each channel, then the newest of these, as sessions.py does for
# sessions, and for the same reason.
_NEWEST = """
SELECT {kind} AS kind, m.created_at, CAST(m.id AS text) AS pk, m.id
  FROM {source} ORDER BY m.created_at DESC, m.id DESC LIMIT %(count)s
"""
_NEWEST_OF_CHANNELS = f"""
SELECT newest.* FROM unnest(%(channels)s) AS c(id) CROSS JOIN LATERAL ({_NEWEST}) AS newest
 ORDER BY newest.created_at DESC, newest.id DESC LIMIT %(count)s
"""  # noqa: S608  # built from constants only

_PLACES = "SELECT kind, created_at, pk FROM ({select}) AS of_kind_{kind}"


def _find(
    chosen: RequestFilter, channel_ids: Sequence[uuid.UUID], after: Place | None, count: int
) -> list[Place]:
    """Return the places of the newest requests, newest first."""
    is_postgresql = connection.vendor == "postgresql"
    newest = _NEWEST_OF_CHANNELS if is_postgresql else _NEWEST
    channels = "m.channel_id = c.id" if is_postgresql else db.among("m.channel_id", "channels")
    params = chosen.params() | {"channels": db.uuids_param(channel_ids), "count": count}
    if after:
        params["after"] = db.param(after.created_at)
        params["after_pk"] = after.pk_param if after.kind >= 0 else None
    selects = []
    for kind in filter(chosen.has_kind, Kind):
        of_kind = source(chosen, kind, channels, _before(after, kind) if after else "")
        select = newest.format(kind=int(kind), source=of_kind)
        selects.append(_PLACES.format(select=select, kind=int(kind)))
    # An id is stored as text and as a number, so that kinds are sorted apart, in their own order.
    rows = db.fetch_rows(" UNION ALL ".join(selects), params) if selects else []
    found = [Place(db.time_value(moment), kind, pk) for kind, moment, pk in rows]
    # Stable: requests of one kind and moment stay in the database's order.
    return sorted(found, key=lambda place: (place.created_at, place.kind), reverse=True)[:count]


def _before(after: Place, kind: Kind) -> str:
    """Return the condition for requests of a kind that come after a place in the log."""
    if kind == after.kind:
        return "(m.created_at, m.id) < (%(after)s, %(after_pk)s)"
    return "m.created_at <= %(after)s" if kind < after.kind else "m.created_at < %(after)s"


def _load(places: Sequence[Place]) -> list[Entry]:
    """Return the requests at these places, in their order."""
    pks = {kind: [place.pk for place in places if place.kind == kind] for kind in Kind}
    tables = _tables()
    rows: list[Any] = []
    if pks[Kind.REPLY]:
        rows += tables[Kind.REPLY].filter(pk__in=pks[Kind.REPLY])
    if pks[Kind.FAILURE] and pks[Kind.REPLAY]:
        rows += _load_unanswered(pks[Kind.FAILURE], pks[Kind.REPLAY])
    else:
        for kind in (Kind.FAILURE, Kind.REPLAY):
            rows += tables[kind].filter(pk__in=pks[kind]) if pks[kind] else ()
    found = {(entry.kind, _key(entry.row.pk)): entry for entry in map(entry_of, rows)}
    in_order = ((place.kind, _key(place.pk)) for place in places)
    return [found[key] for key in in_order if key in found]


_OF_BOTH = (
    "id", "channel_id", "is_test", "session_id", "request_id", "request_model", "created_at",
    "api_key_id",
)  # fmt: skip
_OF_FAILURES = ("error_code", "reason", "page_url", "duration_ms")


def _load_unanswered(
    failures: Sequence[str], replays: Sequence[str]
) -> list[FailedRequest | ReplayedRequest]:
    """Return failures and replays, read with one statement."""
    no_id, blank = Value(None, UUIDField()), Value("", CharField())
    failed = FailedRequest.objects.filter(pk__in=failures).values_list(
        *_OF_BOTH, *_OF_FAILURES, no_id, Value(int(Kind.FAILURE))
    )
    replayed = ReplayedRequest.objects.filter(pk__in=replays).values_list(
        *_OF_BOTH, blank, blank, blank, Value(0), "message_id", Value(int(Kind.REPLAY))
    )
    found: list[FailedRequest | ReplayedRequest] = []
    for row in failed.union(replayed, all=True):
        shared = dict(zip(_OF_BOTH, row, strict=False))
        *of_failure, message_id, kind = row[len(_OF_BOTH) :]
        if kind == Kind.FAILURE:
            values = dict(zip(_OF_FAILURES, of_failure, strict=True))
            found.append(FailedRequest(**shared, **values))
        else:
            found.append(ReplayedRequest(**shared, message_id=message_id))
    return found


def _key(pk: Any) -> str:
    """Return an id as one text, whichever way the database writes it."""
    return str(pk).replace("-", "")


def _tables() -> dict[Kind, QuerySet[Any]]:
    replies = Message.objects.filter(role=Message.Role.ASSISTANT)
    return {
        Kind.REPLY: replies.defer("content").select_related("session"),
        Kind.FAILURE: FailedRequest.objects.all(),
        Kind.REPLAY: ReplayedRequest.objects.all(),
    }


def entry_of(row: Message | FailedRequest | ReplayedRequest) -> Entry:
    """Return a stored request as an entry of the log."""
    if isinstance(row, Message):
        return Entry(Kind.REPLY, row, outcomes.of_reply(row.provider_name))
    if isinstance(row, FailedRequest):
        return Entry(Kind.FAILURE, row, outcomes.of_failure(row.error_code))
    return Entry(Kind.REPLAY, row, outcomes.REPLAYED)


# --- One request --------------------------------------------------------------------------------


def find_request(*, account_id: int, kind: Kind, pk: Any) -> Entry | None:
    """Return a request if it belongs to one of the account's channels, otherwise None."""
    row = _tables()[kind].filter(pk=pk, channel__account_id=account_id).first()
    return entry_of(row) if row else None


# By channel, because the indexes of request ids begin with it.
_WITH_ID = "SELECT m.created_at, m.id FROM {source} ORDER BY m.created_at DESC LIMIT %(most)s"
_WITH_ID_IN_CHANNELS = {
    "postgresql": f"""
        SELECT found.* FROM channels_channel c CROSS JOIN LATERAL ({_WITH_ID}) AS found
         WHERE {{channels}} ORDER BY 1 DESC LIMIT %(most)s""",  # noqa: S608  # constants only
    "sqlite": _WITH_ID,
}
_OF_CHANNEL = {
    "postgresql": "m.channel_id = c.id",
    "sqlite": "m.channel_id IN (SELECT c.id FROM channels_channel c WHERE {channels})",
}


def find_by_reference(
    *, account_id: int | None, reference: str, channel_id: uuid.UUID | None = None, most: int = 0
) -> list[Entry]:
    """Return the requests with this reply's id or request id, newest first. Test keys' too.

    Without an account, looks into the channels of all accounts, one by one.
    """
    most = most or FOUND_BY_REFERENCE
    channels = "c.account_id = %(account)s" if account_id is not None else "TRUE"
    params: dict[str, Any] = {"account": account_id, "reference": reference, "most": most}
    if channel_id:
        channels += " AND c.id = %(channel)s"
        params["channel"] = db.param(channel_id)
    if reply_id := read_reply_id(reference):
        params["reply"] = db.param(reply_id)
        if found := _find_with("m.id = %(reply)s", (Kind.REPLY,), channels, params):
            return found
    if not REQUEST_ID_PATTERN.fullmatch(reference):
        return []
    return _find_with("m.request_id = %(reference)s", tuple(Kind), channels, params)[:most]


def _find_with(
    condition: str, kinds: Sequence[Kind], channels: str, params: dict[str, Any]
) -> list[Entry]:
    vendor = connection.vendor
    where = f"{_OF_CHANNEL[vendor].format(channels=channels)} AND {condition}"
    found: list[Place] = []
    with planned_for_values():
        for kind in kinds:
            statement = _WITH_ID_IN_CHANNELS[vendor].format(
                source=requests_of(kind, where), channels=channels
            )
            rows = db.fetch_rows(statement, params)
            found += [Place(db.time_value(moment), kind, str(pk)) for moment, pk in rows]
        found.sort(key=lambda place: (place.created_at, place.kind), reverse=True)
        return _load(found[: params["most"]])


def find_session_pk(entry: Entry) -> int | None:
    """Return the session that the request belongs to, or None if it has none."""
    row = entry.row
    if isinstance(row, Message):
        return row.session_id
    if not row.session_id:
        return None
    # The same session id may have begun several conversations.
    sessions = ChatSession.objects.filter(
        channel_id=row.channel_id,
        is_test=row.is_test,
        session_id=row.session_id,
        created_at__lte=row.created_at,
    )
    return sessions.order_by("-created_at").values_list("pk", flat=True).first()


# --- Export -------------------------------------------------------------------------------------


def iterate_requests(chosen: RequestFilter) -> Iterator[tuple[Entry, str]]:
    """Yield every request, newest first, with the page of its message.

    Reads some requests at a time, and holds no connection between two reads, even if the consumer
    is slow.
    """
    tally = tally_requests(chosen)
    after: Place | None = None
    while True:
        page = list_requests(chosen, tally, after=after, most=REQUESTS_A_READ)
        pages = _pages_of([entry.reply.id for entry in page.entries if entry.reply])
        db.release_connection()
        for entry in page.entries:
            row = entry.row
            failed_on = row.page_url if isinstance(row, FailedRequest) else ""
            yield entry, pages.get(_key(row.pk), failed_on)
        after = page.following
        if after is None:
            return


_PAGES = "SELECT m.id, u.page_url FROM {replies}"


def _pages_of(reply_ids: Sequence[uuid.UUID]) -> dict[str, str]:
    replies = sums.replies(db.among("m.id", "replies"), join=sums.question())
    rows = db.fetch_rows(_PAGES.format(replies=replies), {"replies": db.uuids_param(reply_ids)})
    return {_key(pk): page for pk, page in rows}
