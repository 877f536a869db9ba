"""Requests per minute, exact across all processes and machines, on every database.

For each channel and kind of request, one row holds the last minute in one-second slots. `total`
counts every admitted request. `history` holds the value of `total` at the end of each of the 61
seconds before `second`, newest first, as fixed-width digits. So the requests in the window are
`total` minus one entry of the history, and moving on by n seconds means to prefix n copies of
`total`. That is one guarded statement without a loop, which runs on both PostgreSQL and SQLite.
After waiting for the row lock, the guard is checked on the latest row, so no two requests share a
place.

There are 61 slots, because the first and the last are partly outside any 60 seconds. So no 60
seconds ever admit more than the limit, and a request may be admitted up to 1 s late. The clock is
this machine's. A clock that is behind counts in the newest slot, so honest skew can refuse but
never over-admit. If a row is further ahead than that, a wrong clock wrote it. It counts as empty;
otherwise a channel would be refused for as long as that clock was ahead.
"""

from __future__ import annotations

import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import cache, partial
from math import ceil
from typing import Any

from rest_framework.request import Request
from rest_framework.views import APIView

from channels import authentication, callers
from channels.account_callers import AccountCaller, account_caller_of
from channels.authentication import ApiKeyAuthentication
from channels.callers import CALLER, Caller
from common import db
from common.api.base import HeaderThrottle
from common.clock import HONEST_SKEW
from common.db import Row, Step, Steps
from common.errors import ApiError, RateLimited

# Why a caller is refused before the request is counted, or None.
Refusal = Callable[[Caller], ApiError | None]

SLOTS = 61
WIDTH = 8
# `total` may wrap, because it is only compared with its own value a minute ago.
MODULUS = 10**WIDTH
# Reads (history, models, key, usage) have their own limit, ten times as large.
READ_FACTOR = 10
_REFUSALS_REMEMBERED = 10_000

_SKEW_SECONDS = int(HONEST_SKEW.total_seconds())
_ELAPSED = f"""(CASE WHEN w.second > excluded.second + {_SKEW_SECONDS} THEN {SLOTS}
       WHEN excluded.second <= w.second THEN 0
       WHEN excluded.second - w.second > {SLOTS} THEN {SLOTS}
       ELSE excluded.second - w.second END)"""
_PADDED_TOTAL = f"LPAD(CAST(w.total AS text), {WIDTH}, '0')"
_NEXT_HISTORY = f"""SUBSTR(REPEAT({_PADDED_TOTAL}, CAST({_ELAPSED} AS integer)) || w.history,
                           1, {SLOTS * WIDTH})"""
_TOTAL_BEFORE_WINDOW = (
    f"CAST(SUBSTR({_NEXT_HISTORY}, {(SLOTS - 1) * WIDTH + 1}, {WIDTH}) AS bigint)"
)


def _counting(
    place: str, limit: str, *, table: str = "billing_ratewindow", owner: str = "channel_id"
) -> str:
    """Return the statement that counts a request if the limit leaves room.

    `place` is the SQL source of (owner, bucket): VALUES or SELECT. The statement adds the rest.
    """
    return f"""
INSERT INTO {table} AS w (second, total, history, {owner}, bucket)
SELECT %(second)s, 1, '{"0" * SLOTS * WIDTH}', {place}
ON CONFLICT ({owner}, bucket) DO UPDATE
   SET second = CASE WHEN {_ELAPSED} > 0 THEN excluded.second ELSE w.second END,
       total = (w.total + 1) %% {MODULUS},
       history = {_NEXT_HISTORY}
 WHERE (w.total - {_TOTAL_BEFORE_WINDOW} + {MODULUS}) %% {MODULUS} < {limit}
RETURNING second, total, history
"""  # noqa: S608  # built from constants only


_ADMIT = _counting("%(channel)s, %(bucket)s WHERE TRUE", "%(limit)s")
# The bucket of account keys. Their windows have a table of their own.
MANAGE = "manage"
MANAGE_REQUESTS_PER_MINUTE = 600
_ADMIT_KEY = _counting(
    "%(channel)s, %(bucket)s WHERE TRUE",
    "%(limit)s",
    table="billing_accountkeywindow",
    owner="key_id",
)


# Finds a key's caller and counts the request: the first step of every API request. The count does
# not wait for the disk. A message's settlement, which comes later in the log, flushes it too. A
# database crash may lose the last moments of requests that only read, which does no harm.
@cache
def _find_and_count(*, by_many: bool = False) -> Steps:
    return Steps(
        callers.caller_step(by_many=by_many),
        Step(
            "minute",
            ("second", "total", "history"),
            _counting(
                f"{CALLER['channel_id']}, CASE {CALLER['mode']}"
                " WHEN 'test' THEN %(test_bucket)s ELSE %(bucket)s END"
                f" FROM {CALLER}"
                f" WHERE {CALLER['is_channel_enabled']} AND {CALLER['is_account_enabled']}"
                # A key with address ranges may have to be refused, so its request is counted only
                # after that check.
                f" AND {CALLER['allowed_addresses']} = ''",
                f"(SELECT {CALLER['requests_per_minute']} FROM {CALLER}) * %(factor)s",  # noqa: S608  # constants
            ),
        ),
        result=f"SELECT second, total, history, {CALLER}.*"  # noqa: S608  # constants
        f" FROM {CALLER} LEFT JOIN minute ON TRUE",
        awaits_disk=False,
    )


# Put together now, so that a wrong name stops the start.
_find_and_count()


def _count_known(known_caller: Step) -> Steps:
    """Return the same for a cached caller. If the cache is stale, nothing is counted."""
    return Steps(
        known_caller,
        Step(
            "minute",
            ("second", "total", "history"),
            _counting(
                f"%(channel)s, %(bucket)s FROM {CALLER} WHERE {CALLER['mark']} = %(mark)s",
                "%(limit)s",
            ),
        ),
        result=f"SELECT {CALLER['mark']}, second, total, history"  # noqa: S608  # constants
        f" FROM {CALLER} LEFT JOIN minute ON TRUE",
        awaits_disk=False,
    )


_COUNT_KNOWN = _count_known(callers.known_caller_step())


@cache
def _count_known_by_many() -> Steps:
    return _count_known(callers.known_caller_step(by_many=True))


_PEEK = """
SELECT second, total, history FROM billing_ratewindow
 WHERE channel_id = %(channel)s AND bucket = %(bucket)s
"""
_PEEK_KEY = """
SELECT second, total, history FROM billing_accountkeywindow
 WHERE key_id = %(channel)s AND bucket = %(bucket)s
"""


@dataclass(frozen=True, slots=True)
class RateState:
    """A window at one moment: its limit, what is left, and when the next place becomes free.

    `free_at` is that moment in seconds since the epoch. `reset_seconds` is the time until then,
    rounded up. `is_admitted` says whether the request that asked was admitted.
    """

    limit: int
    remaining: int
    reset_seconds: int
    free_at: float = 0.0
    is_admitted: bool = True

    def headers(self) -> dict[str, str]:
        """Return the X-RateLimit-* headers."""
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset_seconds),
        }

    def refusal(self, who: str = "channel") -> RateLimited:
        """Return the error for a request that was not admitted."""
        return RateLimited(
            f"This {who} may make {self.limit:,} such requests a minute. "
            f"Try again in {self.reset_seconds} s.",
            retry_after=self.reset_seconds,
            headers=self.headers(),
        )


# By (channel or key, bucket): the limit that was reached, and when the next place becomes free.
# Admissions are never cached.
_refused: OrderedDict[tuple[Hashable, str], tuple[int, float]] = OrderedDict()


def admit(*, channel_id: uuid.UUID, bucket: str, limit: int) -> RateState:
    """Count one request in the window. Raises RateLimited if the window is full.

    In the bucket MANAGE, `channel_id` is the id of an account key.
    """
    now = time.time()
    state = _remembered((channel_id, bucket), now)
    if state is None or state.limit != limit:
        state = _count(channel_id, bucket, limit, now)
        _remember((channel_id, bucket), state)
    if not state.is_admitted:
        raise state.refusal("key" if bucket == MANAGE else "channel")
    return state


def find_and_count(
    *,
    key: str,
    bucket: str,
    factor: int,
    refusal_of: Refusal = lambda caller: None,
) -> tuple[Caller | None, RateState | None]:
    """Return the key's caller, and the rate state after counting the request, in one statement.

    Counts nothing for an unknown key, for a channel that is switched off, or if `refusal_of`
    refuses the caller. A key with address ranges takes a second statement unless it is cached.
    """
    now = time.time()
    asked = callers.params_of(key)
    remembered = asked["digest"], bucket
    if _refused and (state := _remembered(remembered, now)):
        caller = callers.find_caller(key)
        if caller is None:
            return None, None
        if state.limit == caller.requests_per_minute * factor:
            return caller, state
    asked |= {"second": int(now), "factor": factor}
    caller, counted = _ask(asked, bucket, refusal_of)
    if caller is None:
        return None, None
    limit = caller.requests_per_minute * factor
    if counted[0]:
        return caller, _state(counted, limit, now)
    if not caller.is_enabled or refusal_of(caller):
        return caller, None
    count = _look_again if caller.allowed_addresses is None else _count
    state = count(caller.channel_id, _bucket_of(caller, bucket), limit, now)
    _remember(remembered, state)
    return caller, state


def _ask(asked: dict[str, Any], bucket: str, refusal_of: Refusal) -> tuple[Caller | None, Row]:
    """Return a key's caller, and the row of their window, empty if nothing was counted in it."""
    digest, by_many = asked["digest"], "digests" in asked
    known = callers.recall(digest)
    if known and (known.allowed_addresses is None or not refusal_of(known)):
        told = {
            "mark": known.mark,
            "channel": known.channel_id.hex,
            "bucket": _bucket_of(known, bucket),
            "limit": known.requests_per_minute * asked["factor"],
        }
        rows = (_count_known_by_many() if by_many else _COUNT_KNOWN).run(asked | told)
        if not rows:
            return None, ()
        if rows[0][0] == known.mark:
            return known, rows[0][1:]
    buckets = {"bucket": bucket, "test_bucket": _of_tests(bucket)}
    rows = _find_and_count(by_many=by_many).run(asked | buckets)
    if not rows:
        return None, ()
    caller = callers.read_caller(rows[0][3:])
    callers.keep(digest, caller)
    return caller, rows[0][:3]


def _bucket_of(caller: Caller, bucket: str) -> str:
    return _of_tests(bucket) if caller.is_test else bucket


def _of_tests(bucket: str) -> str:
    return f"{bucket}-test"


def _remembered(who: tuple[Hashable, str], now: float) -> RateState | None:
    """Return an earlier refusal for as long as no place can have become free."""
    limit, until = _refused.get(who, (0, 0.0))
    # The second condition stops a clock that was set back from refusing for longer than a window.
    if not now < until <= now + SLOTS:
        return None
    return RateState(limit, 0, max(1, ceil(until - now)), until, is_admitted=False)


def _remember(who: tuple[Hashable, str], state: RateState) -> None:
    if state.is_admitted:
        return
    _refused[who] = state.limit, state.free_at
    while len(_refused) > _REFUSALS_REMEMBERED:
        _refused.popitem(last=False)


def _count(channel_id: uuid.UUID, bucket: str, limit: int, now: float) -> RateState:
    row = db.fetch_row(_admit_of(bucket), _params(channel_id, bucket, now) | {"limit": limit})
    return _state(row, limit, now) if row else _look_again(channel_id, bucket, limit, now)


def _look_again(channel_id: uuid.UUID, bucket: str, limit: int, now: float) -> RateState:
    """Return when a place becomes free in a full window. Counts the request if one is free now."""
    state = peek(channel_id=channel_id, bucket=bucket, limit=limit)
    if state.remaining:
        # This request may have it as much as any other.
        row = db.fetch_row(
            _admit_of(bucket), _params(channel_id, bucket, time.time()) | {"limit": limit}
        )
        if row is not None:
            return _state(row, limit, now)
    return replace(state, remaining=0, reset_seconds=max(1, state.reset_seconds), is_admitted=False)


def peek(*, channel_id: uuid.UUID, bucket: str, limit: int) -> RateState:
    """Return the state of a window without counting anything."""
    now = time.time()
    row = db.fetch_row(_PEEK_KEY if bucket == MANAGE else _PEEK, _params(channel_id, bucket, now))
    return _state(row, limit, now) if row else RateState(limit, limit, 0)


def _admit_of(bucket: str) -> str:
    return _ADMIT_KEY if bucket == MANAGE else _ADMIT


def _params(channel_id: uuid.UUID, bucket: str, now: float) -> dict[str, object]:
    return {"channel": channel_id.hex, "bucket": bucket, "second": int(now)}


def _state(row: Row, limit: int, now: float) -> RateState:
    """Return the state of a row: the requests in the window, and when enough of them have left."""
    second, total, history = row
    elapsed = int(now) - second
    newest = SLOTS - 1 - (min(max(elapsed, 0), SLOTS) if elapsed >= -_SKEW_SECONDS else SLOTS)
    at = WIDTH * newest
    used = (total - int(history[at : at + WIDTH])) % MODULUS if at >= 0 else 0
    # One slot leaves each second. The reset is the first departure that brings the count below the
    # limit or, while there is room, the first that changes it at all. Found by bisection, because
    # the count only falls.
    target, seconds, after = min(used - 1, limit - 1), 0, SLOTS
    while seconds < after:
        middle = (seconds + after) // 2
        at = WIDTH * (newest - middle)
        left = (total - int(history[at : at + WIDTH])) % MODULUS if at >= 0 else 0
        seconds, after = (middle + 1, after) if left > target else (seconds, middle)
    free_at = float(max(int(now), second) + seconds) if used else now
    return RateState(limit, max(0, limit - used), max(0, ceil(free_at - now)), free_at)


class ChatThrottle(HeaderThrottle):
    """The channel's requests per minute. Test keys have a separate window.

    CountedKey counts an API request while it looks up the key. This throttle only reports the
    result, after the checks that come first.
    """

    bucket = "chat"
    factor = 1

    def allow_request(self, request: Request, view: APIView) -> bool:
        counted: RateState = request._request.minute  # type: ignore[attr-defined]
        if not counted.is_admitted:
            raise counted.refusal()
        request._request.rate_headers = counted.headers()  # type: ignore[attr-defined]
        return True

    def admit(self, caller: Caller) -> RateState:
        """Count one request of the caller. Raises RateLimited if the minute is used up."""
        return admit(
            channel_id=caller.channel_id,
            bucket=_bucket_of(caller, self.bucket),
            limit=self._limit(caller),
        )

    def state(self, caller: Caller) -> RateState:
        """Return the state of the caller's window without counting anything."""
        return peek(
            channel_id=caller.channel_id,
            bucket=_bucket_of(caller, self.bucket),
            limit=self._limit(caller),
        )

    def headers(self, caller: Caller) -> dict[str, str]:
        """Return the headers for an answer to a request that was not counted."""
        return self.state(caller).headers()

    def _limit(self, caller: Caller) -> int:
        return caller.requests_per_minute * self.factor


class ReadThrottle(ChatThrottle):
    """The limit of requests that only read or erase."""

    bucket = "read"
    factor = READ_FACTOR


class ManageThrottle(HeaderThrottle):
    """An account key's requests per minute, for every kind of request alike."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        state = admit(
            channel_id=account_caller_of(request).key_id,
            bucket=MANAGE,
            limit=MANAGE_REQUESTS_PER_MINUTE,
        )
        request._request.rate_headers = state.headers()  # type: ignore[attr-defined]
        return True

    def headers(self, caller: AccountCaller) -> dict[str, str]:
        """Return the headers for an answer to a request that was not counted."""
        state = peek(channel_id=caller.key_id, bucket=MANAGE, limit=MANAGE_REQUESTS_PER_MINUTE)
        return state.headers()


class CountedKey(ApiKeyAuthentication):
    """Authenticates by key, and counts the request in place of the view's throttle.

    One statement does both. The contract's order of checks stays: an unknown key is 401, and a
    disabled channel or a key that may not be used here is 403, with nothing counted, so that
    somebody who found a restricted key cannot use up the channel's minute. A full window is 429
    when DRF asks the throttle.
    """

    def find_caller(self, request: Request, key: str) -> Caller | None:
        (throttle,) = request.parser_context["view"].throttle_classes
        assert issubclass(throttle, ChatThrottle)
        refusal_of = partial(authentication.refusal_of, request=request._request)
        caller, minute = find_and_count(
            key=key, bucket=throttle.bucket, factor=throttle.factor, refusal_of=refusal_of
        )
        request._request.minute = minute  # type: ignore[attr-defined]  # read by the throttle
        request._request.refusal = (  # type: ignore[attr-defined]  # read by the permission
            refusal_of(caller) if caller else None
        )
        return caller
