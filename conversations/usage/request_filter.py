"""Which requests of an account to list or add up, and the SQL that finds them.

A request is a reply, a failure, or a replay. Each kind has a table of its own, with an index of
channel and time.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any

from channels.providers.fixed import FixedAnswerProvider
from common import db
from conversations.usage import outcomes, sums
from conversations.usage.references import IN_SESSION
from conversations.usage.rows import Chosen

# Outcomes to filter by, besides those of outcomes.py. ANSWERED includes saved replies here, as the
# usage figures do.
ERRORS = "errors"
FILTERS = (
    outcomes.ANSWERED,
    outcomes.SAVED_REPLY,
    ERRORS,
    outcomes.FAILED,
    outcomes.REFUSED,
    outcomes.REPLAYED,
)


class Kind(IntEnum):
    """Where a request is stored. Of several at the same moment, the highest is the newest."""

    REPLAY = 0
    FAILURE = 1
    REPLY = 2


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """The requests of one account from `starts_at` to before `ends_at`, optionally filtered."""

    account_id: int
    starts_at: datetime
    ends_at: datetime
    is_test: bool = False
    channel_id: uuid.UUID | None = None
    # One of FILTERS.
    outcome: str = ""
    error_code: str = ""
    model_id: str = ""
    api_key_id: uuid.UUID | None = None
    session_pk: int | None = None
    # The beginning of the page's address, or all of it.
    page_url: str = ""
    is_whole_page: bool = False
    # Answered or refused after at least this long.
    least_ms: int = 0

    @property
    def needs_messages(self) -> bool:
        """Return whether the usage rows cannot answer the filter."""
        is_saved = self.outcome == outcomes.SAVED_REPLY
        return bool(self.api_key_id or self.session_pk or self.least_ms or is_saved)

    @property
    def chosen(self) -> Chosen:
        """Return the usage rows that contain the requests, the latest by the hour."""
        return Chosen(
            self.starts_at,
            self.ends_at,
            is_test=self.is_test,
            model_id=self.model_id,
            page_url=self.page_url,
            is_whole_page=self.is_whole_page,
            is_recent_by_hour=True,
        )

    def has_kind(self, kind: Kind) -> bool:
        """Return whether requests of this kind can match."""
        if kind == Kind.REPLY:
            is_wanted = self.outcome in ("", outcomes.ANSWERED, outcomes.SAVED_REPLY)
            return is_wanted and not self.error_code
        if kind == Kind.FAILURE:
            return self.outcome in ("", ERRORS, outcomes.FAILED, outcomes.REFUSED)
        is_wanted = self.outcome in ("", outcomes.REPLAYED)
        return is_wanted and not (self.error_code or self.page_url or self.least_ms)

    def has_row(self, error_code: str) -> bool:
        """Return whether a usage row with this error code, or '' for replies, is included."""
        if not error_code:
            return self.has_kind(Kind.REPLY)
        is_wanted = self.outcome in ("", ERRORS, outcomes.of_failure(error_code))
        return is_wanted and self.error_code in ("", error_code)

    def params(self) -> dict[str, Any]:
        """Return the parameters of `source`, except the channels'."""
        return {
            "is_test": self.is_test,
            "start": db.param(self.starts_at),
            "end": db.param(self.ends_at),
            "model": self.model_id,
            "code": self.error_code,
            "failures": db.list_param(list(outcomes.FAILURE_CODES)),
            "saved": FixedAnswerProvider.provider_name,
            "key": db.param(self.api_key_id) if self.api_key_id else None,
            "session": self.session_pk,
            "least_ms": self.least_ms,
            "page": self.page_url,
            "page_length": self.chosen.page_length,
        }


def source(chosen: RequestFilter, kind: Kind, channels: str, more: str = "") -> str:
    """Return FROM and WHERE for the requests `m` of one kind, in these channels."""
    conditions = [channels, "m.is_test = %(is_test)s", *_conditions(chosen, kind)]
    where = " AND ".join(conditions) + (f" AND {more}" if more else "")
    return requests_of(kind, where, is_on_page=bool(chosen.page_url))


def requests_of(kind: Kind, where: str, *, is_on_page: bool = False) -> str:
    """Return FROM and WHERE for requests `m` of one kind, optionally only those on some pages."""
    if kind == Kind.REPLY:
        return sums.replies(where, is_on_page=is_on_page)
    if kind == Kind.FAILURE:
        return sums.failures(where, is_on_page=is_on_page)
    return f"conversations_replayedrequest m WHERE {where}"


def _of_session(kind: Kind) -> str:
    if kind == Kind.REPLY:
        return "m.session_id = %(session)s"
    return f"""EXISTS (SELECT 1 FROM conversations_chatsession s
                        WHERE s.id = %(session)s AND {IN_SESSION})"""  # noqa: S608  # constants


def _conditions(chosen: RequestFilter, kind: Kind) -> list[str]:
    is_failure = db.among("m.error_code", "failures")
    wanted = {
        "m.created_at >= %(start)s AND m.created_at < %(end)s": True,
        "m.request_model = %(model)s": chosen.model_id,
        "m.api_key_id = %(key)s": chosen.api_key_id,
        _of_session(kind): chosen.session_pk,
        "m.duration_ms >= %(least_ms)s": chosen.least_ms,
        "m.provider_name = %(saved)s": chosen.outcome == outcomes.SAVED_REPLY,
        "m.error_code = %(code)s": chosen.error_code,
        is_failure: chosen.outcome == outcomes.FAILED,
        f"NOT ({is_failure})": chosen.outcome == outcomes.REFUSED,
    }
    return [condition for condition, is_wanted in wanted.items() if is_wanted]
