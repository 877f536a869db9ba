"""Requests per minute, exact between all processes of all machines, on every database.

One row a channel and kind of request holds the last minute in one-second slots. `total` counts
every admitted request; `history` holds what `total` was at the end of each of the 61 seconds
before `second`, newest first, as fixed-width digits. So the requests in the window are `total`
less one entry of the history, and moving on by n seconds is prefixing n copies of `total`: one
guarded statement, without a loop, that PostgreSQL and SQLite understand alike. The guard is
re-checked on the latest row after waiting for its lock, so no two requests share a place.

61 slots, as the first and the last are partly outside any 60 seconds: never more than the limit
in any 60 seconds, at the price of admitting up to 1 s late. The clock is this machine's; a
clock behind another one counts in the newest slot, so skew can refuse but never over-admit.
"""

from __future__ import annotations

import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from math import ceil

from rest_framework.request import Request
from rest_framework.views import APIView

from channels.authentication import caller_of
from channels.callers import Caller
from common import db
from common.api import HeaderThrottle
from common.errors import RateLimited

SLOTS = 61
WIDTH = 8
# `total` wraps, as it is only ever compared with itself a minute ago.
MODULUS = 10**WIDTH
# Reads (history, models, key, usage) have an allowance of their own, ten times as large.
READ_FACTOR = 10
_REFUSALS_REMEMBERED = 10_000

_ELAPSED = f"""(CASE WHEN excluded.second <= w.second THEN 0
       WHEN excluded.second - w.second > {SLOTS} THEN {SLOTS}
       ELSE excluded.second - w.second END)"""
_PADDED_TOTAL = f"LPAD(CAST(w.total AS text), {WIDTH}, '0')"
_NEXT_HISTORY = f"""SUBSTR(REPEAT({_PADDED_TOTAL}, CAST({_ELAPSED} AS integer)) || w.history,
                           1, {SLOTS * WIDTH})"""
_TOTAL_BEFORE_WINDOW = (
    f"CAST(SUBSTR({_NEXT_HISTORY}, {(SLOTS - 1) * WIDTH + 1}, {WIDTH}) AS bigint)"
)

_ADMIT = f"""
INSERT INTO billing_ratewindow AS w (channel_id, bucket, second, total, history)
VALUES (%(channel)s, %(bucket)s, %(second)s, 1, '{"0" * SLOTS * WIDTH}')
ON CONFLICT (channel_id, bucket) DO UPDATE
   SET second = CASE WHEN excluded.second > w.second THEN excluded.second ELSE w.second END,
       total = (w.total + 1) %% {MODULUS},
       history = {_NEXT_HISTORY}
 WHERE (w.total - {_TOTAL_BEFORE_WINDOW} + {MODULUS}) %% {MODULUS} < %(limit)s
RETURNING second, total, history
"""  # noqa: S608  # built from constants only

_PEEK = """
SELECT second, total, history FROM billing_ratewindow
 WHERE channel_id = %(channel)s AND bucket = %(bucket)s
"""


@dataclass(frozen=True, slots=True)
class RateState:
    """A window at one moment: its limit, what is left, and when the next place comes free.

    `free_at` is that moment in seconds since the epoch, `reset_seconds` how long it is until then,
    rounded up.
    """

    limit: int
    remaining: int
    reset_seconds: int
    free_at: float = 0.0

    def headers(self) -> dict[str, str]:
        """Return the X-RateLimit-* headers."""
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset_seconds),
        }


# Refusals, until the moment the next place comes free. Admissions are never remembered.
_refused_until: OrderedDict[tuple[uuid.UUID, str, int], float] = OrderedDict()


def admit(*, channel_id: uuid.UUID, bucket: str, limit: int) -> RateState:
    """Count one request in the window. Raises RateLimited where the window is full."""
    now = time.time()
    remembered = (channel_id, bucket, limit)
    until = _refused_until.get(remembered, 0.0)
    # Nothing can free a place sooner; a changed limit has another key. The second test keeps a
    # clock that was set back from refusing for longer than a window.
    if now < until <= now + SLOTS:
        raise _refusal(limit, until - now)
    row = db.fetch_row(_ADMIT, _params(channel_id, bucket, now) | {"limit": limit})
    if row is not None:
        return _state(row, limit, now)
    state = peek(channel_id=channel_id, bucket=bucket, limit=limit)
    if state.remaining:
        # Between the two statements a place came free; it is this request's as much as anyone's.
        row = db.fetch_row(_ADMIT, _params(channel_id, bucket, time.time()) | {"limit": limit})
        if row is not None:
            return _state(row, limit, now)
    _refused_until[remembered] = state.free_at
    while len(_refused_until) > _REFUSALS_REMEMBERED:
        _refused_until.popitem(last=False)
    raise _refusal(limit, state.reset_seconds)


def peek(*, channel_id: uuid.UUID, bucket: str, limit: int) -> RateState:
    """Return the state of a window without counting anything."""
    now = time.time()
    row = db.fetch_row(_PEEK, _params(channel_id, bucket, now))
    return _state(row, limit, now) if row else RateState(limit, limit, 0)


def _params(channel_id: uuid.UUID, bucket: str, now: float) -> dict[str, object]:
    return {"channel": channel_id.hex, "bucket": bucket, "second": int(now)}


def _state(row: tuple[int, int, str], limit: int, now: float) -> RateState:
    """Read a row: how many requests are in the window, and when enough of them have left it."""
    second, total, history = row
    elapsed = min(max(int(now) - second, 0), SLOTS)
    # What `total` was at the end of each second of the window, oldest first, from before it on.
    totals = [int(history[at : at + WIDTH]) for at in range(0, SLOTS * WIDTH, WIDTH)]
    totals = ([total] * elapsed + totals)[:SLOTS][::-1]
    used = (total - totals[0]) % MODULUS
    # Slots leave one a second; the first departure that brings the count below the limit, or,
    # while there is room, the first that changes it at all, is the reset.
    target = min(used - 1, limit - 1)
    seconds = next(
        (n for n, before in enumerate(totals) if (total - before) % MODULUS <= target), SLOTS
    )
    free_at = float(max(int(now), second) + seconds) if used else now
    return RateState(limit, max(0, limit - used), max(0, ceil(free_at - now)), free_at)


def _refusal(limit: int, wait_seconds: float) -> RateLimited:
    seconds = max(1, ceil(wait_seconds))
    return RateLimited(
        f"This channel may make {limit:,} such requests a minute. Try again in {seconds} s.",
        retry_after=seconds,
        headers=RateState(limit, 0, seconds).headers(),
    )


class ChatThrottle(HeaderThrottle):
    """The channel's own requests per minute. Test keys have a window apart."""

    bucket = "chat"
    factor = 1

    def allow_request(self, request: Request, view: APIView) -> bool:
        state = self.admit(caller_of(request))
        request._request.rate_headers = state.headers()  # type: ignore[attr-defined]
        return True

    def admit(self, caller: Caller) -> RateState:
        """Count one request of the caller's. Raises RateLimited where the minute is used up."""
        return admit(
            channel_id=caller.channel_id, bucket=self._bucket(caller), limit=self._limit(caller)
        )

    def state(self, caller: Caller) -> RateState:
        """Return the state of the caller's window without counting anything."""
        return peek(
            channel_id=caller.channel_id, bucket=self._bucket(caller), limit=self._limit(caller)
        )

    def headers(self, caller: Caller) -> dict[str, str]:
        """Return the headers for an answer that never reached the count."""
        return self.state(caller).headers()

    def _bucket(self, caller: Caller) -> str:
        return f"{self.bucket}-test" if caller.is_test else self.bucket

    def _limit(self, caller: Caller) -> int:
        return caller.requests_per_minute * self.factor


class ReadThrottle(ChatThrottle):
    """The allowance of requests that only read or erase."""

    bucket = "read"
    factor = READ_FACTOR
