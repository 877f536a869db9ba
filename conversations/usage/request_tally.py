"""How many requests a filter finds, and what they cost: the same figures as those of usage.

They come from usage rows (rows.py). These do not know keys, durations, and saved replies; for such
a filter the requests themselves are counted, unless there are too many.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from common import db
from common.db.plans import planned_for_values
from conversations.usage import reports, sums
from conversations.usage import rows as usage_rows
from conversations.usage.reports import Line
from conversations.usage.request_filter import Kind, RequestFilter, source

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

    @property
    def credits(self) -> str:
        return self.total.credits if self.total else ""


def tally_requests(chosen: RequestFilter) -> Tally:
    """Return a filter's figures. Counts replays separately, because usage does not count them."""
    with planned_for_values():
        coverage = usage_rows.cover_account(chosen.account_id, chosen.channel_id)
        total, starts = Line("total"), Counter[datetime]()
        rows, params = usage_rows.usage_rows(coverage, chosen.chosen, reports.COLUMNS)
        for _, starts_at, _, _, error_code, *figures in db.fetch_rows(rows, params):
            if chosen.has_row(error_code):
                line = reports.row_line(error_code, *figures)
                total.add(line)
                starts[db.time_value(starts_at)] += line.request_count
        channels = {"channels": db.uuids_param(coverage.channel_ids)}
        replays = _count_replays(chosen, channels)
        starts.update(replays)
        in_order = sorted(starts.items(), reverse=True)
        if chosen.needs_messages:
            counted = None
            if total.request_count <= MOST_COUNTED:
                counted = _count_each(chosen, channels)
            return Tally(counted, replays.total(), in_order)
    total.find_percentiles()
    return Tally(total, replays.total(), in_order)


def _count_replays(chosen: RequestFilter, channels: dict[str, Any]) -> Counter[datetime]:
    """Return how many replays begin in each hour."""
    if not chosen.has_kind(Kind.REPLAY):
        return Counter()
    replays = source(chosen, Kind.REPLAY, db.among("m.channel_id", "channels"))
    statement = f"""
        SELECT {sums.start_of(sums.HOUR)}, COUNT(*) FROM {replays} GROUP BY 1
    """  # noqa: S608  # our own words alone
    rows = db.fetch_rows(statement, chosen.params() | channels)
    return Counter({db.time_value(starts_at): count for starts_at, count in rows})


_SUMS = {
    Kind.REPLY: "COUNT(*), SUM(m.input_tokens), SUM(m.output_tokens), SUM(m.charged_microcredits)",
    Kind.FAILURE: "COUNT(*), 0, 0, 0",
}


def _count_each(chosen: RequestFilter, channels: dict[str, Any]) -> Line:
    total = Line("total")
    for kind, counted in _SUMS.items():
        if chosen.has_kind(kind):
            of_kind = source(chosen, kind, db.among("m.channel_id", "channels"))
            row = db.fetch_row(f"SELECT {counted} FROM {of_kind}", chosen.params() | channels)  # noqa: S608
            count, tokens_in, tokens_out, charged = (int(figure or 0) for figure in row or ())
            counts = (count, 0) if kind == Kind.REPLY else (0, count)
            total.add(Line(kind, *counts, tokens_in, tokens_out, charged))
    return total
