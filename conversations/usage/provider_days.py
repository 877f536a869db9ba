"""Sums of replies by day, provider and model, for all accounts: what the operator pays for.

A worker adds each finished hour to its day. Readers take the days and the messages since, of one
snapshot, so that a reply is never in both. The figures do not depend on how much is added up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db import connection, transaction
from django.db.models import Min

from common import db
from common.days import day_of, end_of, start_of
from common.db.plans import planned_for_values, snapshot
from conversations.models import DraftReply, ProviderDay, RollupProgress

_KEYS = "day, provider_name, request_model"
_COLUMNS = (
    "request_count", "input_tokens", "output_tokens", "cached_input_tokens", "charged_microcredits",
)  # fmt: skip
_NAMES = ", ".join(_COLUMNS)
_SUMMED = ", ".join(f"CAST(SUM({name}) AS bigint) AS {name}" for name in _COLUMNS)
_DAY = {
    "postgresql": "CAST(m.created_at AT TIME ZONE 'UTC' AS date)",
    "sqlite": "substr(m.created_at, 1, 10)",
}
# Drafts do not know cached tokens, so all of their input costs as much as other input.
_REPLIES = """
SELECT {day} AS day, m.provider_name, m.request_model, 1 AS request_count, m.input_tokens,
       m.output_tokens, COALESCE(m.cached_input_tokens, 0) AS cached_input_tokens,
       m.charged_microcredits
  FROM conversations_message m
 WHERE m.role = 'assistant' AND {where}
 UNION ALL
SELECT {day}, m.provider_name, m.request_model, 1, m.input_tokens, m.output_tokens, 0,
       m.charged_microcredits
  FROM conversations_draftreply m WHERE {where}
"""
# Found channel by channel, in the index of channel and time.
_WHERE = """m.channel_id IN (SELECT id FROM channels_channel) AND NOT m.is_test
   AND m.created_at >= %(start)s AND m.created_at < %(end)s"""


def _replies() -> str:
    return _REPLIES.format(day=_DAY[connection.vendor], where=_WHERE)


# --- Adding up ----------------------------------------------------------------------------------


def add_up(*, first: datetime, until: datetime) -> int:
    """Add the replies before `until`, a whole hour, to their days. Returns how many steps it took.

    `first` is the start of the first day with messages, for the first run. If two run at once, each
    reply is still added once: a step advances the progress in the transaction that adds.
    """
    if _progress() is None:
        draft = DraftReply.objects.aggregate(first=Min("created_at"))["first"]
        first = min(first, start_of(day_of(draft)) if draft else first)
        RollupProgress.objects.filter(providers_until=None).update(providers_until=first)
    count = 0
    while (since := _progress()) is not None and since < until:
        count += _add(since, min(end_of(day_of(since)), until))
    return count


def _progress() -> datetime | None:
    return RollupProgress.objects.values_list("providers_until", flat=True).first()


@transaction.atomic
def _add(since: datetime, until: datetime) -> bool:
    progress = RollupProgress.objects.filter(providers_until=since)
    is_next = bool(progress.update(providers_until=until))
    if is_next:
        _write(since, until)
    return is_next


def _write(since: datetime, until: datetime) -> None:
    sums = ", ".join(
        f"{name} = conversations_providerday.{name} + excluded.{name}" for name in _COLUMNS
    )
    # SQLite needs WHERE, or it takes ON for the condition of a join.
    statement = f"""
        INSERT INTO conversations_providerday ({_KEYS}, {_NAMES})
        SELECT {_KEYS}, {_SUMMED} FROM ({_replies()}) AS replies WHERE TRUE GROUP BY {_KEYS}
            ON CONFLICT ({_KEYS}) DO UPDATE SET {sums}
    """  # noqa: S608  # our own words alone
    with planned_for_values():
        db.execute(statement, {"start": db.param(since), "end": db.param(until)})


@transaction.atomic
def add_up_again(day: date) -> None:
    """Replace a day's sums, because messages of it arrived late."""
    # One at a time, because a second one would write the same rows.
    progress = RollupProgress.objects.select_for_update().first()
    until = progress.providers_until if progress else None
    if until is None or until <= start_of(day):
        return
    ProviderDay.objects.filter(day=day).delete()
    _write(start_of(day), min(end_of(day), until))


# --- Reading ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProviderSums:
    """The replies of a provider and a model on a day, added up."""

    day: date
    provider_name: str
    model_id: str
    request_count: int
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    charged_microcredits: int


def unread_since(*, starts_at: datetime, now: datetime, within: timedelta) -> datetime | None:
    """Return since when replies are not added up, or None if that is `within` the last hours."""
    until = _progress()
    if until is not None and until >= now - within:
        return None
    return max(until or starts_at, starts_at)


def list_sums(*, first: date, last: date) -> list[ProviderSums]:
    """Return the sums of each day, provider and model, from one day to another, both included."""
    statement = f"""
        SELECT {_KEYS}, {_SUMMED} FROM (
            SELECT {_KEYS}, {_NAMES} FROM conversations_providerday
             WHERE day >= %(first)s AND day <= %(last)s
             UNION ALL {_replies()}) AS replies
         GROUP BY {_KEYS}
    """  # noqa: S608  # our own words alone
    starts_at, ends_at = start_of(first), end_of(last)
    # Otherwise, what is added up in between would be counted twice.
    with snapshot():
        params = {
            "first": first if db.is_postgresql() else first.isoformat(),
            "last": last if db.is_postgresql() else last.isoformat(),
            "start": db.param(max(starts_at, _progress() or starts_at)),
            "end": db.param(ends_at),
        }
        with planned_for_values():
            found = db.fetch_rows(statement, params)
    return [ProviderSums(date.fromisoformat(str(day)), *rest) for day, *rest in found]
