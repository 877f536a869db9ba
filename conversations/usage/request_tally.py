"""How many requests a filter finds, and what they cost: the same figures as those of usage.

They come from usage rows (rows.py). These do not know keys, durations, and saved replies; for such
a filter the requests themselves are counted, unless there are too many.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from common import db
from common.db.plans import planned_for_values
from conversations.usage import reports, sums
from conversations.usage import rows as usage_rows
from conversations.usage.reports import Line
from conversations.usage.request_filter import Kind, RequestFilter, source
from conversations.usage.rows import Coverage

# More than this are not counted one by one.
MOST_COUNTED = 100_000


@dataclass(frozen=True, slots=True)
class Tally:
    """The figures of a filter."""

    # None if there are too many requests to count.
    total: Line | None
    replay_count: int
    # How many requests the hour or day that starts at a moment contains, latest first. An upper
    # bound if the usage rows cannot answer the filter.
    starts: list[tuple[datetime, int]] = field(default_factory=list)
    channel_ids: Sequence[uuid.UUID] = ()

    @property
    def credits(self) -> str:
        return self.total.credits if self.total else ""


# The database adds up: a week of a thousand channels has ten thousand rows.
_TALLY = """
SELECT FALSE, starts_at, error_code, SUM(request_count), SUM(input_tokens), SUM(output_tokens),
       SUM(charged_microcredits), {merged}
  FROM ({rows}) AS used GROUP BY starts_at, error_code
"""
_REPLAYS = """
 UNION ALL
SELECT TRUE, {start}, '', COUNT(*), 0, 0, 0, '[]' FROM {replays} GROUP BY 2
"""


def tally_requests(chosen: RequestFilter) -> Tally:
    """Return a filter's figures. Counts replays separately, because usage does not count them."""
    with planned_for_values():
        coverage = usage_rows.cover_account(chosen.account_id, chosen.channel_id)
        channels = {"channels": db.uuids_param(coverage.channel_ids)}
        total, replay_count, starts = Line("total"), 0, Counter[datetime]()
        for is_replay, starts_at, error_code, *figures in _sums(chosen, coverage, channels):
            moment = db.time_value(starts_at)
            if is_replay:
                replay_count += int(figures[0])
                starts[moment] += int(figures[0])
            elif chosen.has_row(error_code):
                line = reports.row_line(error_code, *figures)
                total.add(line)
                starts[moment] += line.request_count
        in_order = sorted(starts.items(), reverse=True)
        if chosen.needs_messages:
            counted = None
            if total.request_count <= MOST_COUNTED:
                counted = _count_each(chosen, channels)
            return Tally(counted, replay_count, in_order, coverage.channel_ids)
    total.find_percentiles()
    return Tally(total, replay_count, in_order, coverage.channel_ids)


def _sums(
    chosen: RequestFilter, coverage: Coverage, channels: dict[str, Any]
) -> list[tuple[Any, ...]]:
    """Return the sums of each hour or day and error code, and the replays of each hour."""
    rows, params = usage_rows.usage_rows(coverage, chosen.chosen, reports.COLUMNS)
    statement = _TALLY.format(merged=sums.merged_durations(), rows=rows)
    if chosen.has_kind(Kind.REPLAY):
        replays = source(chosen, Kind.REPLAY, db.among("m.channel_id", "channels"))
        statement += _REPLAYS.format(start=sums.start_of(sums.HOUR), replays=replays)
    return db.fetch_rows(statement, params | chosen.params() | channels)


_SUMS = {
    Kind.REPLY: "COUNT(*), SUM(m.input_tokens), SUM(m.output_tokens), SUM(m.charged_microcredits)",
    Kind.FAILURE: "COUNT(*), 0, 0, 0",
}


def _count_each(chosen: RequestFilter, channels: dict[str, Any]) -> Line:
    total = Line("total")
    among = db.among("m.channel_id", "channels")
    selects = [
        f"SELECT {int(kind)}, {counted} FROM {source(chosen, kind, among)}"  # noqa: S608  # our own
        for kind, counted in _SUMS.items()
        if chosen.has_kind(kind)
    ]
    statement = " UNION ALL ".join(selects)
    for kind, *figures in db.fetch_rows(statement, chosen.params() | channels) if selects else ():
        count, tokens_in, tokens_out, charged = (int(figure or 0) for figure in figures)
        counts = (count, 0) if kind == Kind.REPLY else (0, count)
        total.add(Line(kind, *counts, tokens_in, tokens_out, charged))
    return total
