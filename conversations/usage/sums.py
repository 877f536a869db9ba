"""SQL that sums messages and failures by channel, hour or day, model, and error code.

Durations are rounded up, by at most a tenth, and counted, so that they can be added up too. An hour
of replies has a few dozen different durations. “This many replies took no longer” stays true after
rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import orjson
from django.db import connection

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Days of every time zone begin at a whole quarter.
QUARTER = timedelta(minutes=15)
# A row's keys, then the columns that a caller can ask for.
KEYS = ("channel_id", "starts_at", "is_test", "request_model", "error_code")
COLUMNS = (
    "request_count", "estimated_count", "input_tokens", "output_tokens", "charged_microcredits",
    "durations",
)  # fmt: skip

# Rounds up in steps of 1 up to 50, of 5 up to 100, of 10 up to 500, and so on: by a tenth at most.
# The numbers are integers, so the division is an integer division.
_STEPS = [
    (most * unit, step * unit)
    for unit in (1, 10, 100, 1_000, 10_000)
    for most, step in ((50, 1), (100, 5))
]
_CASES = " ".join(
    f"WHEN m.duration_ms <= {most} THEN (m.duration_ms + {step - 1}) / {step} * {step}"
    for most, step in _STEPS
)
_ROUNDED_UP = f"CASE {_CASES} ELSE (m.duration_ms + 99999) / 100000 * 100000 END"
_SUMS = {
    "request_count": "COUNT(*)",
    "estimated_count": "SUM(CASE WHEN m.is_estimated THEN 1 ELSE 0 END)",
    "input_tokens": "SUM(m.input_tokens)",
    "output_tokens": "SUM(m.output_tokens)",
    "charged_microcredits": "SUM(m.charged_microcredits)",
    # Not a sum: replies are first grouped by it, then counted.
    "durations": _ROUNDED_UP,
}
# "[ms, count, ms, count, …]".
_COUNT_BY_DURATION = {
    "postgresql": "'[' || string_agg(durations || ',' || request_count, ',') || ']'",
    "sqlite": "'[' || group_concat(durations || ',' || request_count) || ']'",
}
_OF_FAILURES = {"request_count": "COUNT(*)", "durations": "'[]'"}
_STARTS_AT = {
    ("postgresql", HOUR): "date_trunc('hour', m.created_at, 'UTC')",
    ("postgresql", QUARTER): "date_bin('15 minutes', m.created_at, '2000-01-01 00:00:00+00')",
    ("postgresql", DAY): "date_trunc('day', m.created_at, 'UTC')",
    # In the format in which Django stores a time.
    ("sqlite", HOUR): "substr(m.created_at, 1, 13) || ':00:00'",
    ("sqlite", QUARTER): (
        "substr(m.created_at, 1, 14)"
        " || substr('00153045', CAST(substr(m.created_at, 15, 2) AS integer) / 15 * 2 + 1, 2)"
        " || ':00'"
    ),
    ("sqlite", DAY): "substr(m.created_at, 1, 10) || ' 00:00:00'",
}

# OFFSET 0 makes PostgreSQL look them up one by one. If it believes that a table is small, it would
# otherwise read all messages.
_QUESTION = {
    "postgresql": """
  {join} LATERAL (SELECT q.page_url FROM conversations_message q
                   WHERE q.session_id = m.session_id AND q.position = m.position - 1
                  OFFSET 0) AS u ON TRUE
""",
    "sqlite": """
  {join} conversations_message u ON u.session_id = m.session_id AND u.position = m.position - 1
""",
}
_ON_PAGE = " AND substr({of}.page_url, 1, %(page_length)s) = %(page)s"


def question(join: str = "JOIN") -> str:
    """Return the join to `u.page_url`, the page of the message that a reply `m` answers.

    This is the message before it in the session.
    """
    return _QUESTION[connection.vendor].format(join=join)


def replies(where: str, *, is_on_page: bool = False, join: str = "") -> str:
    """Return FROM and WHERE for replies `m`, optionally only those on some pages."""
    join = join or (question() if is_on_page else "")
    page = _ON_PAGE.format(of="u") if is_on_page else ""
    return f"conversations_message m {join} WHERE m.role = 'assistant' AND {where}{page}"


def failures(where: str, *, is_on_page: bool = False) -> str:
    """Return FROM and WHERE for failed requests `m`, optionally only those on some pages."""
    page = _ON_PAGE.format(of="m") if is_on_page else ""
    return f"conversations_failedrequest m WHERE {where}{page}"


def sum_messages(
    where: str,
    columns: Sequence[str],
    step: timedelta,
    *,
    is_on_page: bool = False,
    with_failures: bool = True,
) -> str:
    """Return a SELECT of KEYS and columns over replies and failures `m`, for use as a subquery."""
    selects = [_sum_replies(replies(where, is_on_page=is_on_page), columns, step)]
    if with_failures:
        selects.append(_sum_failures(failures(where, is_on_page=is_on_page), columns, step))
    return " UNION ALL ".join(selects)


def _sum_replies(source: str, columns: Sequence[str], step: timedelta) -> str:
    by = "1, 2, 3, 4, durations" if "durations" in columns else "1, 2, 3, 4"
    sums = ", ".join(f"{_SUMS[name]} AS {name}" for name in columns)
    return f"""
        SELECT channel_id, starts_at, is_test, request_model, '' AS error_code,
               {", ".join(map(_sum_again, columns))}
          FROM (SELECT {_keys(step)}, {sums} FROM {source} GROUP BY {by}) AS grouped
         GROUP BY 1, 2, 3, 4
    """  # noqa: S608  # our own words alone


def _sum_failures(source: str, columns: Sequence[str], step: timedelta) -> str:
    """Return the SELECT for failures: their counts, and zero in the other columns."""
    sums = ", ".join(f"{_OF_FAILURES.get(name, '0')} AS {name}" for name in columns)
    return f"""
        SELECT {_keys(step)}, m.error_code, {sums} FROM {source} GROUP BY 1, 2, 3, 4, 5
    """  # noqa: S608


def start_of(step: timedelta) -> str:
    """Return the SQL for the start of the quarter, hour, or day of `m.created_at`."""
    return _STARTS_AT[connection.vendor, step]


def _keys(step: timedelta) -> str:
    return f"m.channel_id, {start_of(step)} AS starts_at, m.is_test, m.request_model"


def _sum_again(name: str) -> str:
    if name == "durations":
        return f"{_COUNT_BY_DURATION[connection.vendor]} AS durations"
    # PostgreSQL's sums have a wider type, which Python would read as decimals.
    return f"CAST(SUM({name}) AS bigint) AS {name}"


def merged_durations() -> str:
    """Return the aggregate that puts the durations of several rows one after the other."""
    joined = "string_agg" if connection.vendor == "postgresql" else "group_concat"
    return f"{joined}(durations, '')"


def read_durations(text: str) -> dict[int, int]:
    """Return how many replies took how many milliseconds. Takes merged durations too."""
    numbers = orjson.loads(text.replace("[]", "").replace("][", ",") or "[]")
    found: dict[int, int] = {}
    # Most pairs occur many times, and Counter is faster than a loop.
    for (ms, count), times in Counter(zip(numbers[::2], numbers[1::2], strict=True)).items():
        found[ms] = found.get(ms, 0) + count * times
    return found
