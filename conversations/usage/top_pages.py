"""The pages of an account's sites with the most replies, read from the latest messages."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from common import db
from common.db.plans import planned_for_values
from conversations.usage import rows as usage_rows
from conversations.usage import sums as usage_sums
from conversations.usage.reports import Line, Scope
from conversations.usage.rows import Coverage
from conversations.usage.sums import DAY, HOUR

TOP_PAGES = 10
# Top pages cover about this many replies, or a few more, because pages are read from messages.
REPLIES_READ_FOR_PAGES = 5_000


@dataclass(frozen=True, slots=True)
class TopPages:
    """The pages with the most replies. `since` is set if only the latest replies were read."""

    lines: list[Line]
    since: datetime | None = None


_SUM_REPLIES_OF_PAGES = f"""
SELECT u.page_url, COUNT(*), SUM(m.input_tokens), SUM(m.output_tokens), SUM(m.charged_microcredits)
  FROM {{replies}} AND u.page_url <> '' GROUP BY u.page_url ORDER BY 2 DESC, 1 LIMIT {TOP_PAGES}
"""  # noqa: S608  # our own words alone
_COUNT_FAILURES_OF_PAGES = """
SELECT m.page_url, COUNT(*) FROM {failures} AND m.page_url <> '' GROUP BY m.page_url
"""


def list_top_pages(scope: Scope) -> TopPages:
    """Return the pages with the most replies, and how often messages from them failed.

    If the scope has very many replies, reads only the latest ones.
    """
    with planned_for_values():
        return _list_top_pages(scope)


def _list_top_pages(scope: Scope) -> TopPages:
    coverage = usage_rows.cover_account(scope.account_id, scope.channel_id)
    since = _latest_replies_begin(scope, coverage)
    params = _params(scope, coverage.channel_ids, starts_at=since or scope.starts_at)
    where, is_on_page = _where(scope), bool(scope.page_url)
    replies = usage_sums.replies(where, is_on_page=is_on_page, join=usage_sums.question())
    failures = usage_sums.failures(where, is_on_page=is_on_page)
    failed = dict(db.fetch_rows(_COUNT_FAILURES_OF_PAGES.format(failures=failures), params))
    found = db.fetch_rows(_SUM_REPLIES_OF_PAGES.format(replies=replies), params)
    lines = [
        Line(url, count, failed.get(url, 0), int(tokens_in), int(tokens_out), int(charged))
        for url, count, tokens_in, tokens_out, charged in found
    ]
    return TopPages(lines, since)


def _latest_replies_begin(scope: Scope, coverage: Coverage) -> datetime | None:
    """Return the hour or day since which to read a scope's latest replies, or None to read all."""
    if scope.page_url:
        return None
    step = HOUR if scope.is_by_hour else DAY
    chosen = replace(scope.chosen, step=step, is_recent_by_hour=True)
    rows, params = usage_rows.usage_rows(coverage, chosen, ["request_count"])
    statement = f"""
        SELECT starts_at, SUM(request_count) FROM ({rows}) AS used
         WHERE error_code = '' GROUP BY starts_at ORDER BY starts_at DESC
    """  # noqa: S608  # our own words alone
    left = REPLIES_READ_FOR_PAGES
    counts = db.fetch_rows(statement, params)
    for starts_at, count in counts[:-1]:
        left -= count
        if left <= 0:
            return db.time_value(starts_at)
    return None


# --- Messages -----------------------------------------------------------------------------------


def _where(scope: Scope) -> str:
    """Return the condition for replies or failures `m` of a scope, without its page filter.

    Lists the channels one by one. With a condition on their account, PostgreSQL may read the rows
    of all accounts.
    """
    model = " AND m.request_model = %(model)s" if scope.model_id else ""
    return (
        f"{db.among('m.channel_id', 'channels')} AND m.is_test = %(is_test)s{model}"
        " AND m.created_at >= %(start)s AND m.created_at < %(end)s"
    )


def _params(
    scope: Scope, channel_ids: Sequence[uuid.UUID], *, starts_at: datetime
) -> dict[str, Any]:
    return {
        "channels": db.uuids_param(channel_ids),
        "start": db.param(starts_at),
        "end": db.param(scope.ends_at),
        "is_test": scope.is_test,
        "model": scope.model_id,
        "page": scope.page_url,
        "page_length": len(scope.page_url),
    }
