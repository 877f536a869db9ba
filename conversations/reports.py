"""What an account used: replies, tokens, credits, failures and latency of a period.

Each report is two statements, one over the replies and one over the failures: a scan of the
index by channel and time, whose narrow rows are then grouped in several ways at once.
Percentiles are exact (the smallest time that so many per cent of the replies did not exceed).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection

from billing import selectors as billing
from common import db
from common.money import show_credits
from common.plans import uncompiled

TOP_PAGES = 10


@dataclass(frozen=True, slots=True)
class Scope:
    """Which requests: of one account, from `starts_at` to before `ends_at`, perhaps filtered."""

    account_id: int
    starts_at: datetime
    ends_at: datetime
    is_by_hour: bool = False
    is_test: bool = False
    channel_id: uuid.UUID | None = None
    model_id: str = ""
    # What the page's address begins with.
    page_url: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether it holds all that was charged in its time."""
        return not (self.is_test or self.channel_id or self.model_id or self.page_url)

    @property
    def step(self) -> timedelta:
        return timedelta(hours=1) if self.is_by_hour else timedelta(days=1)

    def times(self) -> Iterator[datetime]:
        """Yield the beginning of each hour or day."""
        moment = self.starts_at
        while moment < self.ends_at:
            yield moment
            moment += self.step


@dataclass(slots=True)
class Line:
    """The figures of one hour, day, channel, model or page."""

    key: Any
    reply_count: int = 0
    error_count: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    charged_microcredits: int = 0
    p50_ms: int | None = None
    p95_ms: int | None = None

    @property
    def request_count(self) -> int:
        return self.reply_count + self.error_count

    @property
    def credits(self) -> str:
        return show_credits(self.charged_microcredits)


@dataclass(slots=True)
class Report:
    """The figures of a scope: in all, and by each of its parts."""

    total: Line = field(default_factory=lambda: Line("total"))
    times: list[Line] = field(default_factory=list)
    channels: list[Line] = field(default_factory=list)
    models: list[Line] = field(default_factory=list)
    errors: list[Line] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LedgerComparison:
    """What the replies of a period say was charged, and what the ledger says."""

    replies_microcredits: int
    ledger_microcredits: int

    @property
    def is_equal(self) -> bool:
        return self.replies_microcredits == self.ledger_microcredits

    @property
    def difference_microcredits(self) -> int:
        return self.ledger_microcredits - self.replies_microcredits

    @property
    def ledger_credits(self) -> str:
        return show_credits(self.ledger_microcredits)

    @property
    def difference_credits(self) -> str:
        return show_credits(self.difference_microcredits)


# --- The report ---------------------------------------------------------------------------------

_PART = """
SELECT '{part}' AS part, CAST(k AS text) AS k, COUNT(*), SUM(input_tokens), SUM(output_tokens),
       SUM(charged_microcredits), {p50}, {p95}
  FROM ({source}) AS rows_of_{part} GROUP BY k
"""
_FAILED_PART = "SELECT '{part}', CAST({key} AS text), COUNT(*) FROM f GROUP BY {key}"

# Both are exact. PostgreSQL sorts for the aggregate; SQLite counts along a window.
_PERCENTILE = {
    "postgresql": "percentile_disc({share}) WITHIN GROUP (ORDER BY duration_ms)",
    "sqlite": "MIN(CASE WHEN place >= total * {share} THEN duration_ms END)",
}
_SOURCE = {
    "postgresql": "SELECT r.*, {key} AS k FROM r",
    "sqlite": """
        SELECT r.*, {key} AS k,
               ROW_NUMBER() OVER (PARTITION BY {key} ORDER BY duration_ms) AS place,
               COUNT(*) OVER (PARTITION BY {key}) AS total FROM r""",
}
_BUCKET = {
    ("postgresql", True): "date_trunc('hour', m.created_at AT TIME ZONE 'UTC')",
    ("postgresql", False): "date_trunc('day', m.created_at AT TIME ZONE 'UTC')",
    ("sqlite", True): "substr(m.created_at, 1, 13)",
    ("sqlite", False): "substr(m.created_at, 1, 10)",
}
_KEYS = {"total": "''", "time": "bucket", "channel": "channel_id", "model": "request_model"}


def get_report(scope: Scope) -> Report:
    """Return a scope's figures, with a line for every hour or day in it."""
    report = Report()
    times = {moment: Line(moment) for moment in scope.times()}
    parts: dict[str, dict[Any, Line]] = {"time": times, "channel": {}, "model": {}, "error": {}}
    for part, key, *figures in _reply_rows(scope):
        line = _line(report, parts, part, key)
        line.reply_count, line.input_tokens, line.output_tokens = map(int, figures[:3])
        line.charged_microcredits = int(figures[3])
        line.p50_ms, line.p95_ms = figures[4:]
    for part, key, count in _failure_rows(scope):
        _line(report, parts, part, key).error_count = count
    report.times = list(times.values())
    report.channels, report.models = _by_size(parts["channel"]), _by_size(parts["model"])
    report.errors = _by_size(parts["error"])
    return report


def _line(report: Report, parts: dict[str, dict[Any, Line]], part: str, key: str) -> Line:
    if part == "total":
        return report.total
    read = _KEY_READERS.get(part, str)(key)
    return parts[part].setdefault(read, Line(read))


def _read_time(key: str) -> datetime:
    return datetime.fromisoformat(key if len(key) != 13 else f"{key}:00").replace(tzinfo=UTC)


_KEY_READERS: dict[str, Callable[[str], Any]] = {"time": _read_time, "channel": uuid.UUID}


def _by_size(lines: dict[Any, Line]) -> list[Line]:
    return sorted(lines.values(), key=lambda line: (-line.request_count, str(line.key)))


def _reply_rows(scope: Scope) -> list[tuple[Any, ...]]:
    vendor = connection.vendor
    percentile, source = _PERCENTILE[vendor], _SOURCE[vendor]
    parts = [
        _PART.format(
            part=part,
            p50=percentile.format(share="0.5"),
            p95=percentile.format(share="0.95"),
            source=source.format(key=key),
        )
        for part, key in _KEYS.items()
    ]
    statement = f"""
        WITH r AS MATERIALIZED (
            SELECT {_bucket(scope)} AS bucket, m.channel_id, m.request_model, m.input_tokens,
                   m.output_tokens, m.charged_microcredits, m.duration_ms
              FROM {_replies(scope)})
        {" UNION ALL ".join(parts)}
    """  # noqa: S608  # our own words alone
    return db.fetch_rows(statement, _params(scope))


def _failure_rows(scope: Scope) -> list[tuple[Any, ...]]:
    keys = _KEYS | {"error": "error_code"}
    parts = [_FAILED_PART.format(part=part, key=key) for part, key in keys.items()]
    parts[0] = "SELECT 'total', '', COUNT(*) FROM f"
    statement = f"""
        WITH f AS MATERIALIZED (
            SELECT {_bucket(scope)} AS bucket, m.channel_id, m.request_model, m.error_code
              FROM {_failures(scope)})
        {" UNION ALL ".join(parts)}
    """  # noqa: S608  # our own words alone
    return db.fetch_rows(statement, _params(scope))


def _bucket(scope: Scope) -> str:
    return _BUCKET[connection.vendor, scope.is_by_hour]


# A page is that of the message a reply answers: the one before it in its session.
_QUESTION = """
  JOIN conversations_message u ON u.session_id = m.session_id AND u.position = m.position - 1
"""


def _replies(scope: Scope, *, with_page: bool = False) -> str:
    join = _QUESTION if with_page or scope.page_url else ""
    return f"conversations_message m {join} WHERE m.role = 'assistant' AND {_where(scope, 'u')}"


def _failures(scope: Scope) -> str:
    return f"conversations_failedrequest m WHERE {_where(scope, 'm')}"


def _where(scope: Scope, page_of: str) -> str:
    conditions = [
        "m.channel_id IN (SELECT id FROM channels_channel WHERE account_id = %(account)s)",
        "m.created_at >= %(start)s AND m.created_at < %(end)s AND m.is_test = %(is_test)s",
    ]
    if scope.channel_id:
        conditions.append("m.channel_id = %(channel)s")
    if scope.model_id:
        conditions.append("m.request_model = %(model)s")
    if scope.page_url:
        conditions.append(f"substr({page_of}.page_url, 1, %(page_length)s) = %(page)s")
    return " AND ".join(conditions)


def _params(scope: Scope) -> dict[str, Any]:
    return {
        "account": scope.account_id,
        "start": db.time_param(scope.starts_at),
        "end": db.time_param(scope.ends_at),
        "is_test": scope.is_test,
        "channel": scope.channel_id.hex if scope.channel_id else None,
        "model": scope.model_id,
        "page": scope.page_url,
        "page_length": len(scope.page_url),
    }


# --- Pages, models, the ledger ------------------------------------------------------------------


def list_top_pages(scope: Scope) -> list[Line]:
    """Return the pages with the most replies, and how often a message from them failed."""
    replies = f"""
        SELECT u.page_url, COUNT(*), SUM(m.input_tokens), SUM(m.output_tokens),
               SUM(m.charged_microcredits)
          FROM {_replies(scope, with_page=True)} AND u.page_url <> ''
         GROUP BY u.page_url ORDER BY 2 DESC, 1 LIMIT {TOP_PAGES}
    """  # noqa: S608  # our own words alone
    failures = f"""
        SELECT m.page_url, COUNT(*) FROM {_failures(scope)} AND m.page_url <> ''
         GROUP BY m.page_url ORDER BY 2 DESC, 1
    """  # noqa: S608
    params = _params(scope)
    with uncompiled():
        failed = dict(db.fetch_rows(failures, params))
        found = db.fetch_rows(replies, params)
    return [
        Line(url, count, failed.get(url, 0), int(tokens_in), int(tokens_out), int(charged))
        for url, count, tokens_in, tokens_out, charged in found
    ]


def compare_with_ledger(scope: Scope, total: Line) -> LedgerComparison | None:
    """Return what the ledger says was charged in the same time; None where a filter hides part."""
    if not scope.is_whole:
        return None
    charged = billing.sum_charges(
        account_id=scope.account_id, starts_at=scope.starts_at, ends_at=scope.ends_at
    )
    return LedgerComparison(total.charged_microcredits, charged)


# --- Each request -------------------------------------------------------------------------------

REQUEST_COLUMNS = (
    "created_at", "channel_id", "session_id", "request_id", "message_id", "status", "error",
    "reason", "model", "provider", "page", "input_tokens", "output_tokens",
    "charged_microcredits", "duration_ms", "prompt_version",
)  # fmt: skip

_LIST_REPLIES = """
SELECT m.created_at, m.channel_id, s.session_id, m.request_id, m.id, 'answered', '', '',
       m.request_model, m.provider_name, u.page_url, m.input_tokens, m.output_tokens,
       m.charged_microcredits, m.duration_ms, m.prompt_version
  FROM conversations_message m
  LEFT JOIN conversations_chatsession s ON s.id = m.session_id
  LEFT JOIN conversations_message u
         ON u.session_id = m.session_id AND u.position = m.position - 1
 WHERE m.role = 'assistant' AND {where}
"""
_LIST_FAILURES = """
SELECT m.created_at, m.channel_id, m.session_id, m.request_id, NULL, 'failed', m.error_code,
       m.reason, m.request_model, '', m.page_url, 0, 0, 0, m.duration_ms, NULL
  FROM conversations_failedrequest m WHERE {where}
"""


def iterate_requests(scope: Scope) -> Iterator[dict[str, Any]]:
    """Yield every answered and failed request, oldest first, one hour or day in memory at a time.

    No connection is held between two of them, however slowly they are read.
    """
    statements = [
        _LIST_REPLIES.format(where=_where(scope, "u")),
        _LIST_FAILURES.format(where=_where(scope, "m")),
    ]
    for moment in scope.times():
        params = _params(scope) | {
            "start": db.time_param(moment),
            "end": db.time_param(min(moment + scope.step, scope.ends_at)),
        }
        rows = [row for statement in statements for row in db.fetch_rows(statement, params)]
        db.release_connection()
        yield from _described(sorted(rows, key=lambda row: (row[0], str(row[4]))))


def _described(rows: Iterable[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        request = dict(zip(REQUEST_COLUMNS, row, strict=True))
        request["created_at"] = db.time_value(request["created_at"])
        request["channel_id"] = uuid.UUID(str(request["channel_id"]))
        message_id = request["message_id"]
        request["message_id"] = str(uuid.UUID(str(message_id))) if message_id else ""
        yield request
