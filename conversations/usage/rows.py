"""Usage rows: precomputed sums for finished hours and days, single messages for everything since.

A reader first finds out what is rolled up for its channels (`cover_…`), then asks for the rows
(`usage_rows`) and groups them as it needs. The figures do not depend on how much is rolled up.
Without a worker that does it (rollup.py), all of them come from messages.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from common import db
from common.days import UTC_NAME, list_starts
from conversations.usage import sums
from conversations.usage.sums import DAY, HOUR, KEYS, QUARTER

LONGEST_PAGE = 2048

# --- Coverage -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Progress:
    """When rolled-up days and hours end, and when the kept hours begin."""

    days_until: datetime
    hours_from: datetime
    hours_until: datetime


@dataclass(slots=True)
class Coverage:
    """Channels whose past is rolled up, and channels whose messages are read individually.

    The latter are new, or received messages of a time that was already rolled up, for example from
    an import.
    """

    progress: Progress | None = None
    rolled: list[uuid.UUID] = field(default_factory=list)
    unrolled: list[uuid.UUID] = field(default_factory=list)
    # Whether it is every channel of the gateway, in place of the two lists.
    is_everything: bool = False

    @property
    def channel_ids(self) -> list[uuid.UUID]:
        return self.rolled + self.unrolled


# Adds up to a row or two, because a thousand rows with times cost 50 ms to read.
_COVERAGE = """
SELECT covered.is_unrolled, p.days_until, p.hours_from, p.hours_until, {ids}
  FROM (SELECT c.id, COALESCE({first_rollup} > {first_reply}, {first_reply} IS NOT NULL)
                     AS is_unrolled
          FROM channels_channel c WHERE {which}) AS covered
  LEFT JOIN conversations_rollupprogress p ON p.id = 1
 GROUP BY 1, 2, 3, 4
"""
_FIRST_REPLY = """(SELECT MIN(m.created_at) FROM conversations_message m
                    WHERE m.channel_id = c.id AND m.role = 'assistant')"""
_FIRST_ROLLUP = """(SELECT MIN(r.starts_at) FROM conversations_usagerollup r
                     WHERE r.channel_id = c.id)"""
_IDS = {
    "postgresql": "string_agg(CAST(covered.id AS text), ',')",
    "sqlite": "group_concat(covered.id)",
}


def cover_account(account_id: int, channel_id: uuid.UUID | None = None) -> Coverage:
    """Return what is rolled up for an account's channels, or for one of them.

    Call this before the query for the rows, and as a separate query. What is rolled up in between
    is then still read from its messages, so nothing is counted twice or left out.
    """
    which, params = "c.account_id = %(account)s", {"account": account_id}
    if channel_id is None:
        return _cover(which, params)
    return _cover(f"{which} AND c.id = %(id)s", params | {"id": db.param(channel_id)})


def cover_channels(channel_ids: Sequence[uuid.UUID]) -> Coverage:
    """Return what is rolled up for these channels."""
    return _cover(db.among("c.id", "ids"), {"ids": db.uuids_param(channel_ids)})


_PROGRESS = (
    "SELECT days_until, hours_from, hours_until FROM conversations_rollupprogress WHERE id = 1"
)


def cover_everything() -> Coverage:
    """Return what is rolled up, for the sums of all channels.

    Does not ask each channel for messages that came too late for their sum, after an import for
    example. Their figures are missing until the nightly correction (rollup.py).
    """
    row = db.fetch_row(_PROGRESS, {})
    progress = Progress(*map(db.time_value, row)) if row else None
    return Coverage(progress, is_everything=True)


def _cover(which: str, params: dict[str, Any]) -> Coverage:
    coverage = Coverage()
    statement = _COVERAGE.format(
        ids=_IDS[connection.vendor],
        which=which,
        first_reply=_FIRST_REPLY,
        first_rollup=_FIRST_ROLLUP,
    )
    for is_unrolled, *times, ids in db.fetch_rows(statement, params):
        if all(times):
            coverage.progress = Progress(*map(db.time_value, times))
        kind = coverage.unrolled if is_unrolled else coverage.rolled
        kind += map(uuid.UUID, ids.split(","))
    return coverage


@dataclass(frozen=True, slots=True)
class Chosen:
    """The chosen usage, and the step of time by which it will be grouped."""

    starts_at: datetime
    ends_at: datetime
    step: timedelta = DAY
    is_test: bool = False
    model_id: str = ""
    # The beginning of the page's address. Pages are not rolled up, because they are erased with the
    # text.
    page_url: str = ""
    # Whether it is the whole address.
    is_whole_page: bool = False
    # Whether yesterday and today are returned by the hour.
    is_recent_by_hour: bool = False

    @property
    def page_length(self) -> int:
        """Return how many characters of an address are compared: its beginning, or all of it."""
        return LONGEST_PAGE + 1 if self.is_whole_page else len(self.page_url)

    @property
    def step_of_messages(self) -> timedelta:
        return HOUR if self.is_recent_by_hour else self.step


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a period and the step of its rollups, or None if messages are read."""

    starts_at: datetime
    ends_at: datetime
    step: timedelta | None = None


def split(chosen: Chosen, progress: Progress | None) -> Iterator[Part]:
    """Yield a period's parts: whole days (if the step is a day), whole hours, and the rest."""
    starts_at, ends_at = chosen.starts_at, chosen.ends_at
    for step, since, until in _rolled_up(chosen, progress):
        first = _ceiling(max(starts_at, since), step)
        last = min(floor(ends_at, step), until)
        if first < last:
            if starts_at < first:
                yield Part(starts_at, first)
            yield Part(first, last, step)
            starts_at = last
    if starts_at < ends_at:
        yield Part(starts_at, ends_at)


def _rolled_up(
    chosen: Chosen, progress: Progress | None
) -> Iterator[tuple[timedelta, datetime, datetime]]:
    """Yield the steps of rollups that a period can use, each with when they begin and end."""
    if progress and chosen.step == DAY:
        kept = progress.days_until
        if chosen.is_recent_by_hour:
            kept = max(progress.hours_from, kept - DAY)
        yield DAY, chosen.starts_at, kept
    if progress and chosen.step != QUARTER:
        yield HOUR, progress.hours_from, progress.hours_until


def step_of_days(starts_at: datetime, ends_at: datetime, zone: str) -> timedelta:
    """Return the longest step that no day of a zone cuts in two, for a period of whole days."""
    if zone == UTC_NAME:
        return DAY
    starts = list_starts(starts_at, ends_at, zone)
    for step in (DAY, HOUR):
        if all(moment == floor(moment, step) for moment in starts):
            return step
    return QUARTER


def floor(moment: datetime, step: timedelta) -> datetime:
    """Return the start of the UTC hour or day that contains a moment."""
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight if step == DAY else midnight.replace(hour=moment.hour)


def _ceiling(moment: datetime, step: timedelta) -> datetime:
    start = floor(moment, step)
    return start if start == moment else start + step


# --- Rows ---------------------------------------------------------------------------------------


def usage_rows(
    coverage: Coverage, chosen: Chosen, columns: Sequence[str]
) -> tuple[str, dict[str, Any]]:
    """Return a SELECT of KEYS and columns, for use as a subquery, and its parameters.

    No row spans more than a step of time. Several rows may have the same keys.
    """
    params: dict[str, Any] = {
        "is_test": chosen.is_test,
        "model": chosen.model_id,
        "page": chosen.page_url,
        "page_length": chosen.page_length,
        "rolled": db.uuids_param(coverage.rolled),
        "unrolled": db.uuids_param(coverage.unrolled),
    }
    selects = [_NOTHING.format(columns=", ".join((*KEYS, *columns)))]
    for number, (channels, part) in enumerate(_parts(coverage, chosen)):
        params[f"from{number}"] = db.param(part.starts_at)
        params[f"until{number}"] = db.param(part.ends_at)
        selects.append(_select_part(channels, part, number, chosen, columns))
    return " UNION ALL ".join(selects), params


# In place of the name of a parameter with channels.
_EVERY = "every channel"
# Makes a valid SELECT for an account without channels too.
_NOTHING = "SELECT {columns} FROM conversations_usagerollup WHERE FALSE"


def _parts(coverage: Coverage, chosen: Chosen) -> Iterator[tuple[str, Part]]:
    """Yield the parts of the period, each with the parameter that holds its channels."""
    if coverage.rolled or coverage.is_everything:
        progress = None if chosen.page_url else coverage.progress
        for part in split(chosen, progress):
            yield _EVERY if coverage.is_everything else "rolled", part
    if coverage.unrolled:
        yield "unrolled", Part(chosen.starts_at, chosen.ends_at)


def _select_part(
    channels: str, part: Part, number: int, chosen: Chosen, columns: Sequence[str]
) -> str:
    if part.step is None:
        where = _where("m", "created_at", channels, number, chosen)
        return sums.sum_messages(
            where, columns, chosen.step_of_messages, is_on_page=bool(chosen.page_url)
        )
    where = _where("r", "starts_at", channels, number, chosen)
    is_day = "r.is_day" if part.step == DAY else "NOT r.is_day"
    return (
        f"SELECT {', '.join((*KEYS, *columns))} FROM conversations_usagerollup r"  # noqa: S608
        f" WHERE {where} AND {is_day}"
    )


def _where(of: str, time: str, channels: str, number: int, chosen: Chosen) -> str:
    among = db.among(f"{of}.channel_id", channels)
    if channels == _EVERY:
        # Messages are found channel by channel, in the index of channel and time.
        among = f"{of}.channel_id IN (SELECT id FROM channels_channel)"  # noqa: S608
    model = f" AND {of}.request_model = %(model)s" if chosen.model_id else ""
    return (
        f"{among} AND {of}.is_test = %(is_test)s{model}"
        f" AND {of}.{time} >= %(from{number})s AND {of}.{time} < %(until{number})s"
    )
