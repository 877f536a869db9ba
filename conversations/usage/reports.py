"""An account's usage in a period: replies, tokens, credits, failures, and latency.

The figures come from rows.py, and are the same whether or not a time has been rolled up.
Durations are rounded up, by at most a tenth. A percentile is the smallest duration that this many
per cent of the replies did not exceed.
"""

from __future__ import annotations

import uuid
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any

from django.db.models import Count, Sum
from django.utils.translation import gettext as _

from billing import charges as billing
from common import db
from common.days import UTC_NAME, day_of, end_of, list_starts, start_of
from common.money import show_credits
from common.pages.numbers import local_credits, local_number, with_unit
from conversations.models import DraftReply
from conversations.usage import rows as usage_rows
from conversations.usage import sums as usage_sums
from conversations.usage.rows import Chosen, Coverage
from conversations.usage.sums import HOUR


@dataclass(frozen=True, slots=True)
class Scope:
    """The requests of one account from `starts_at` to before `ends_at`, optionally filtered."""

    account_id: int
    starts_at: datetime
    ends_at: datetime
    is_by_hour: bool = False
    is_test: bool = False
    channel_id: uuid.UUID | None = None
    model_id: str = ""
    # The beginning of the page's address.
    page_url: str = ""
    # The time zone of the days. The scope begins and ends with one of them, unless it is by hour.
    zone: str = UTC_NAME

    @property
    def is_whole(self) -> bool:
        """Return whether the scope contains every charge of its period."""
        return not (self.is_test or self.channel_id or self.model_id or self.page_url)

    @property
    def chosen(self) -> Chosen:
        return Chosen(
            self.starts_at, self.ends_at, self._step, self.is_test, self.model_id, self.page_url
        )

    @property
    def _step(self) -> timedelta:
        """The step of usage rows, none of which may be from two parts of the scope."""
        if self.is_by_hour:
            return HOUR
        return usage_rows.step_of_days(self.starts_at, self.ends_at, self.zone)

    def times(self) -> list[datetime]:
        """Return the start of each hour or day."""
        if not self.is_by_hour:
            return list_starts(self.starts_at, self.ends_at, self.zone)
        hours = -(-(self.ends_at - self.starts_at) // HOUR)
        return [self.starts_at + number * HOUR for number in range(hours)]

    def start_of_part(self, moment: datetime) -> datetime:
        """Return when the hour or day of the scope begins that a moment is in."""
        if self.is_by_hour:
            return usage_rows.floor(moment, HOUR)
        return start_of(day_of(moment, self.zone), self.zone)

    def before(self, now: datetime) -> Scope:
        """Return the same scope one length earlier, up to the moment that this one has reached."""
        starts_at = self.starts_at - (self.ends_at - self.starts_at)
        if not self.is_by_hour:
            days = timedelta(len(self.times()))
            starts_at = start_of(day_of(self.starts_at, self.zone) - days, self.zone)
        ends_at = self.starts_at
        if now < self.ends_at:
            ends_at = max(starts_at, now - (self.starts_at - starts_at))
        return replace(self, starts_at=starts_at, ends_at=ends_at)

    def part(self, starts_at: datetime) -> Scope:
        """Return the hour or day of the scope that starts at a moment."""
        ends_at = starts_at + HOUR
        if not self.is_by_hour:
            ends_at = end_of(day_of(starts_at, self.zone), self.zone)
        return replace(self, starts_at=starts_at, ends_at=min(ends_at, self.ends_at))


@dataclass(slots=True)
class Line:
    """The figures of one hour, day, channel, model, error or page."""

    key: Any
    reply_count: int = 0
    error_count: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    charged_microcredits: int = 0
    p50_ms: int | None = None
    p95_ms: int | None = None
    # How many replies took how many milliseconds.
    durations: dict[int, int] = field(default_factory=dict)

    @property
    def request_count(self) -> int:
        return self.reply_count + self.error_count

    @property
    def token_count(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def error_percent(self) -> str:
        """The share of requests that got no answer, in words."""
        if not self.error_count:
            return with_unit("0", "%")
        percent = self.error_count * 100 / self.request_count
        if percent < 0.1:
            return _("under %(figure)s") % {"figure": with_unit(local_number(0.1, 1), "%")}
        return with_unit(local_number(percent, 1), "%")

    @property
    def credits(self) -> str:
        return local_credits(self.charged_microcredits)

    def add(self, other: Line) -> None:
        self.count(other)
        if not self.durations:
            self.durations = other.durations.copy()
            return
        mine = self.durations
        for ms, count in other.durations.items():
            mine[ms] = mine.get(ms, 0) + count

    def count(self, other: Line) -> None:
        """Add everything but the durations."""
        self.reply_count += other.reply_count
        self.error_count += other.error_count
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.charged_microcredits += other.charged_microcredits

    def find_percentiles(self) -> None:
        """Set the durations that half, and 95 of 100, of the replies did not exceed."""
        times = sorted(self.durations)
        # For each duration, how many replies took no longer.
        within = list(accumulate(map(self.durations.__getitem__, times)))
        if within:
            half, most = (-(-within[-1] * percent // 100) for percent in (50, 95))
            self.p50_ms, self.p95_ms = (times[bisect_left(within, so)] for so in (half, most))


@dataclass(slots=True)
class Report:
    """The figures of a scope, in total and by time, channel, model, and error."""

    total: Line = field(default_factory=lambda: Line("total"))
    times: list[Line] = field(default_factory=list)
    channels: list[Line] = field(default_factory=list)
    models: list[Line] = field(default_factory=list)
    # By channel id and model id together, without percentiles.
    pairs: list[Line] = field(default_factory=list)
    errors: list[Line] = field(default_factory=list)
    # By the start of an hour or day and model id together, without percentiles.
    shares: dict[tuple[datetime, str], Line] = field(default_factory=dict)
    # How many channels were used, even if there are lines of fewer.
    channel_count: int = 0


@dataclass(frozen=True, slots=True)
class LedgerComparison:
    """The charges of a period according to its replies, and according to the ledger.

    Replies to drafts are in the ledger, but in none of the figures.
    """

    replies_microcredits: int
    ledger_microcredits: int
    draft_count: int = 0
    drafts_microcredits: int = 0

    @property
    def is_equal(self) -> bool:
        return not self.difference_microcredits

    @property
    def difference_microcredits(self) -> int:
        return self.ledger_microcredits - self.replies_microcredits - self.drafts_microcredits

    @property
    def drafts_credits(self) -> str:
        return show_credits(self.drafts_microcredits)

    @property
    def ledger_credits(self) -> str:
        return show_credits(self.ledger_microcredits)

    @property
    def difference_credits(self) -> str:
        return show_credits(self.difference_microcredits)


# --- The report ---------------------------------------------------------------------------------

_COUNTED = ("request_count", "input_tokens", "output_tokens", "charged_microcredits")
COLUMNS = (*_COUNTED, "durations")


# The database adds up: an account has a row for each channel, day and model, tens of thousands.
_SUMS = """
SUM(request_count), SUM(input_tokens), SUM(output_tokens), SUM(charged_microcredits)
"""
_BY_TIME = f"""
SELECT '', starts_at, request_model, error_code, {_SUMS}, {{merged}}
  FROM used GROUP BY starts_at, request_model, error_code
"""  # noqa: S608  # our own words alone
_BY_CHANNEL = f"""
 UNION ALL
SELECT CAST(channel_id AS text), NULL, request_model, MAX(error_code), {_SUMS}, {{merged}}
  FROM used {{where}} GROUP BY channel_id, request_model, error_code = ''
"""  # noqa: S608  # our own words alone
# Reading the lines of a thousand channels takes longer than adding them up.
_COUNT = "count"
_BUSIEST = f"""
 UNION ALL
SELECT '{_COUNT}', NULL, '', '', COUNT(DISTINCT channel_id), 0, 0, 0, '' FROM used
"""  # noqa: S608  # our own words alone
_ARE_BUSIEST = """
 WHERE channel_id IN (SELECT channel_id FROM used GROUP BY channel_id
                       ORDER BY SUM(request_count) DESC, channel_id LIMIT %(busiest)s)
"""


def get_report(
    scope: Scope,
    coverage: Coverage | None = None,
    *,
    by_channel: bool = True,
    busiest: int = 0,
    with_durations: bool = True,
) -> Report:
    """Return a scope's figures, with a line for each hour or day.

    `coverage` is what `cover_account` returned for the same channels just before. Without
    `by_channel`, there are no lines of channels, and it costs less the more channels there are.
    With `busiest`, there are lines of so many channels alone, those with the most requests. Without
    durations, which are most of what is read, nothing has percentiles.
    """
    times = {moment: Line(moment) for moment in scope.times()}
    pairs, errors, shares = _Lines(), _Lines(), _Lines()
    total, channels, models = Line("total"), _Lines(), _Lines()
    coverage = coverage or usage_rows.cover_account(scope.account_id, scope.channel_id)
    rows, params = usage_rows.usage_rows(
        coverage, scope.chosen, COLUMNS if with_durations else _COUNTED
    )
    statement = f"WITH used AS ({rows}) {_BY_TIME}"  # our own words alone
    if by_channel:
        statement += _BY_CHANNEL + (_BUSIEST if busiest else "")
    statement = statement.format(
        merged=usage_sums.merged_durations() if with_durations else "''",
        where=_ARE_BUSIEST if busiest else "",
    )
    params["busiest"] = busiest
    channel_count = 0
    for channel_id, starts_at, model_id, error_code, *sums in db.fetch_rows(statement, params):
        if channel_id == _COUNT:
            channel_count = int(sums[0])
            continue
        row = row_line(error_code, *sums)
        if channel_id:
            key = uuid.UUID(channel_id)
            pairs[key, model_id].count(row)
            channels[key].add(row)
            continue
        time = scope.start_of_part(db.time_value(starts_at))
        for line in (times[time], models[model_id], total):
            line.add(row)
        shares[time, model_id].count(row)
        if error_code:
            errors[error_code].add(row)
    for line in (total, *times.values(), *channels.values(), *models.values()):
        line.find_percentiles()
    return Report(
        total,
        list(times.values()),
        channels.by_size(),
        models.by_size(),
        pairs.by_size(),
        errors.by_size(),
        shares,
        channel_count or len(channels),
    )


def row_line(
    error_code: str, count: int, tokens_in: int, tokens_out: int, charged: int, durations: str
) -> Line:
    """Return the figures of a usage row with COLUMNS, or of several added up."""
    if error_code:
        return Line(error_code, error_count=int(count))
    took = usage_sums.read_durations(durations)
    return Line("", int(count), 0, int(tokens_in), int(tokens_out), int(charged), durations=took)


class _Lines(dict[Any, Line]):
    """Lines by key, created at first access."""

    def __missing__(self, key: Any) -> Line:
        self[key] = Line(key)
        return self[key]

    def by_size(self) -> list[Line]:
        return sorted(self.values(), key=lambda line: (-line.request_count, str(line.key)))


# --- Pages and the ledger -----------------------------------------------------------------------


def compare_with_ledger(scope: Scope, total: Line) -> LedgerComparison | None:
    """Compare the total with the ledger's charges. Returns None if a filter hides a part."""
    if not scope.is_whole:
        return None
    charged = billing.sum_charges(
        account_id=scope.account_id, starts_at=scope.starts_at, ends_at=scope.ends_at
    )
    return LedgerComparison(total.charged_microcredits, charged, *sum_drafts(scope))


def sum_drafts(scope: Scope) -> tuple[int, int]:
    """Return how many drafts the account's channels answered for a price, and what they cost."""
    drafts = DraftReply.objects.filter(
        channel__account_id=scope.account_id,
        is_test=False,
        error_code="",
        created_at__gte=scope.starts_at,
        created_at__lt=scope.ends_at,
    ).aggregate(count=Count("id"), charged=Sum("charged_microcredits", default=0))
    return drafts["count"], int(drafts["charged"])
