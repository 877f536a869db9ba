"""The live traffic of all accounts together, for the staff, from sums and the messages since.

Three statements for any number of accounts. What each reads grows with the channels in use and with
the messages of the last hour, not with those of 30 days (rows.py). Days are UTC days.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from common import db
from common.days import day_of, last_days, list_starts, start_of
from common.db.plans import planned_for_values
from conversations.usage import rows as usage_rows
from conversations.usage.reports import Line
from conversations.usage.rows import Chosen, Coverage
from conversations.usage.sums import DAY, HOUR

# The sums are at most this old where a worker runs.
SUMMED_WITHIN = timedelta(hours=3)
_COLUMNS = ("request_count", "charged_microcredits")
_FIGURES = """
SUM(CASE WHEN error_code = '' THEN request_count ELSE 0 END),
SUM(CASE WHEN error_code <> '' THEN request_count ELSE 0 END),
SUM(charged_microcredits)
"""
_BY_TIME = "SELECT starts_at, {figures} FROM ({rows}) AS used GROUP BY starts_at"
_BY_ACCOUNT = """
SELECT c.account_id, {figures}
  FROM ({rows}) AS used JOIN channels_channel c ON c.id = used.channel_id
 GROUP BY c.account_id ORDER BY 4 DESC, 2 DESC, 1 LIMIT {most}
"""


def unsummed_since(coverage: Coverage, *, starts_at: datetime, now: datetime) -> datetime | None:
    """Return since when a period's messages are not summed, or None if sums are up to date."""
    until = coverage.progress.hours_until if coverage.progress else starts_at
    return None if until >= now - SUMMED_WITHIN else max(until, starts_at)


def list_days(coverage: Coverage, *, now: datetime, days: int) -> list[Line]:
    """Return a line for each of the last days, today last. Their keys are when the days begin."""
    starts_at, ends_at = last_days(now, days)
    lines = {moment: Line(moment) for moment in list_starts(starts_at, ends_at)}
    for line in _lines(_BY_TIME, coverage, Chosen(starts_at, ends_at)):
        lines[start_of(day_of(db.time_value(line.key)))].count(line)
    return list(lines.values())


def sum_yesterday(coverage: Coverage, *, now: datetime) -> Line:
    """Return the figures of yesterday up to the same time of day."""
    starts_at = start_of(day_of(now - DAY))
    total = Line("yesterday")
    for line in _lines(_BY_TIME, coverage, Chosen(starts_at, now - DAY, HOUR)):
        total.count(line)
    return total


def list_top_accounts(coverage: Coverage, *, now: datetime, most: int) -> list[Line]:
    """Return today's figures of the accounts that spent the most. Their keys are account ids."""
    chosen = Chosen(start_of(day_of(now)), start_of(day_of(now)) + DAY)
    return _lines(_BY_ACCOUNT, coverage, chosen, most=most)


def sum_accounts(coverage: Coverage, *, now: datetime, days: int) -> dict[int, Line]:
    """Return the figures of the last days of each account whose channels are covered, if any."""
    chosen = Chosen(*last_days(now, days))
    most = len(coverage.channel_ids)
    return {line.key: line for line in _lines(_BY_ACCOUNT, coverage, chosen, most=most)}


def _lines(statement: str, coverage: Coverage, chosen: Chosen, *, most: int = 0) -> list[Line]:
    rows, params = usage_rows.usage_rows(coverage, chosen, _COLUMNS)
    with planned_for_values():
        found = db.fetch_rows(statement.format(figures=_FIGURES, rows=rows, most=most), params)
    return [
        Line(key, int(replies), int(errors), charged_microcredits=int(charged))
        for key, replies, errors, charged in found
    ]
