"""Before a call: count it in the day's quota, and hold credits for its highest possible cost.

This is one statement of guarded single-row steps (common/db). It also opens what goes with
the call, such as a session's turn. Rows are locked in one order: what is opened, daily usage, spend
caps, credit account.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from typing import Any

from billing import holds, spend_caps
from billing.contract import LOOKED
from billing.errors import CreditsExhausted, DailyQuotaReached
from billing.holds import PlacedHold
from channels.calendars import Calendar
from channels.callers import Caller
from common import db
from common.db import Row, Step, Steps
from common.errors import ApiError

# Every use of credits goes through this condition: held credits and ended grants cannot be held.
_CAN_PAY = """
account_id = %(account)s AND balance_microcredits - held_microcredits >= %(amount)s
   AND (next_expiry_at IS NULL OR next_expiry_at > %(now)s)
"""

# Reads without a lock, so that a caller who has reached a limit writes nothing. The guards of the
# later steps decide. {has_cap_room}: see spend caps below.
_LOOKED = f"""
SELECT NOT EXISTS (SELECT 1 FROM billing_dailyusage
                    WHERE channel_id = %(channel)s AND is_test = %(is_test)s AND day = %(day)s
                      AND message_count >= %(quota)s),
       {{has_cap_room}},
       %(amount)s = 0 OR EXISTS (SELECT 1 FROM billing_creditaccount WHERE {_CAN_PAY})
"""  # noqa: S608  # built from constants only

_HAS_ROOM = f"{LOOKED} WHERE " + " AND ".join(LOOKED[column] for column in LOOKED.columns)

# {opened}: a source of at most one row, on which all that follows depends. {cap_changes}: how
# often a first cap was set, by what this statement knows. PostgreSQL compares it with the row's
# latest version. So a statement that began before a cap was set counts nothing, and the request
# tries again.
_COUNTED = """
INSERT INTO billing_dailyusage (channel_id, is_test, day, message_count)
SELECT %(channel)s, %(is_test)s, %(day)s, 1 FROM {opened}
ON CONFLICT (channel_id, is_test, day) DO UPDATE
   SET message_count = billing_dailyusage.message_count + 1
 WHERE billing_dailyusage.message_count < %(quota)s
   AND (%(amount)s = 0 OR billing_dailyusage.cap_changes = {cap_changes})
RETURNING message_count
"""
_CAP_CHANGES = """
COALESCE((SELECT d.cap_changes FROM billing_dailyusage d
           WHERE d.channel_id = %(channel)s AND d.is_test = %(is_test)s AND d.day = %(day)s), 0)
"""

# Holds nothing if nothing can be charged. {caps}: whether the caps allow it.
_HELD = f"""
UPDATE billing_creditaccount
   SET held_microcredits = held_microcredits + %(amount)s
 WHERE {_CAN_PAY} AND %(amount)s > 0 AND EXISTS (SELECT 1 FROM counted) AND {{caps}}
RETURNING account_id
"""  # noqa: S608  # built from constants only

# Placed even if another request took the credits at this very moment. It then holds nothing, and
# its release or expiry gives the day's count back.
_PLACED = """
INSERT INTO billing_hold (id, account_id, channel_id, is_test, day, amount_microcredits,
       captured_microcredits, state, request_id, created_at, expires_at, key_id{columns})
SELECT %(hold)s, %(account)s, %(channel)s, %(is_test)s, %(day)s,
       CASE WHEN EXISTS (SELECT 1 FROM held) THEN %(amount)s ELSE 0 END,
       0, 'held', %(request_id)s, %(now)s, %(expires_at)s, %(key)s{values}
  FROM counted WHERE TRUE
RETURNING amount_microcredits
"""
_CAPPED_COLUMNS = ", cap_day, cap_month, channel_capped_microcredits, key_capped_microcredits"
_CAPPED_VALUES = """,
       COALESCE((SELECT day FROM bychannel), (SELECT day FROM bykey)),
       COALESCE((SELECT month FROM bychannel), (SELECT month FROM bykey)),
       (SELECT COUNT(*) FROM bychannel) * %(amount)s, (SELECT COUNT(*) FROM bykey) * %(amount)s
"""


# --- Spend caps ---------------------------------------------------------------------------------

# A row is out of date unless its day is today or, by a clock ahead of this one, the day after. So
# is one with another month: a month may end at another time than its last day, if the account's
# time zone has changed.
_CAP_HAS_ROOM = """
s.day BETWEEN %(cap_day)s AND %(next_day)s AND s.month BETWEEN %(cap_month)s AND %(next_month)s
   AND s.day_left_microcredits >= %(amount)s AND s.month_left_microcredits >= %(amount)s
"""
_OF_CALL = "billing_spendcap s WHERE s.id IN (%(channel)s, %(key)s)"

# Whether there is no cap at all, and whether each one has room and is up to date.
_HAS_NO_CAPS = """
(%(amount)s = 0 OR NOT EXISTS (SELECT 1 FROM billing_spendcap WHERE channel_id = %(channel)s))
"""
_HAS_CAP_ROOM = f"NOT EXISTS (SELECT 1 FROM {_OF_CALL} AND NOT ({_CAP_HAS_ROOM}))"  # noqa: S608

_TAKE = f"""
UPDATE billing_spendcap AS s
   SET day_left_microcredits = s.day_left_microcredits - %(amount)s,
       month_left_microcredits = s.month_left_microcredits - %(amount)s
 WHERE s.id = %({{scope}})s AND {_CAP_HAS_ROOM}
   AND EXISTS (SELECT 1 FROM counted){{order}}
RETURNING day, month
"""  # noqa: S608  # built from constants only
# Two steps, so that the channel's row is locked first. They take nothing unless the day counted.
_TAKEN = (
    Step("bychannel", ("day", "month"), _TAKE.format(scope="channel", order="")),
    Step("bykey", ("day", "month"), _TAKE.format(scope="key", order=spend_caps.after("bychannel"))),
    Step(
        "took",
        ("is_all",),
        f"""
SELECT (SELECT COUNT(*) FROM {_OF_CALL})
       = (SELECT COUNT(*) FROM bychannel) + (SELECT COUNT(*) FROM bykey)
""",  # noqa: S608  # built from constants only
    ),
)
_ALL_TAKEN = "(SELECT is_all FROM took)"


# --- Statements -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Placing:
    """The statements that place a hold: for calls without spend caps, and for all calls.

    `plain` opens nothing if there is a cap.
    """

    plain: Steps
    capped: Steps


def placing(step: Step | None = None, *, columns: str = "", source: str = "") -> Placing:
    """Return the statements that place a hold, with the step that opens what goes with it.

    The step must do nothing unless LOOKED has room everywhere. `columns` and `source` are SQL for
    what to read with it, in no order: columns, and their joins. Call it at import, so that a wrong
    name stops the start.
    """
    return Placing(
        _placing(step, columns, source, _HAS_NO_CAPS),
        _placing(step, columns, source, _HAS_CAP_ROOM, _TAKEN),
    )


def _placing(
    step: Step | None, columns: str, source: str, has_cap_room: str, taken: Sequence[Step] = ()
) -> Steps:
    opened = f"{step.name} WHERE TRUE" if step else _HAS_ROOM
    is_opened = f"EXISTS (SELECT 1 FROM {step.name})" if step else "TRUE"  # noqa: S608
    counted = _COUNTED.format(opened=opened, cap_changes=_CAP_CHANGES if taken else "0")
    all_taken = _ALL_TAKEN if taken else "TRUE"
    placed = _PLACED.format(
        columns=_CAPPED_COLUMNS if taken else "", values=_CAPPED_VALUES if taken else ""
    )
    return Steps(
        LOOKED.step(_LOOKED.format(has_cap_room=has_cap_room)),
        *([step] if step else []),
        Step("counted", ("message_count",), counted),
        *taken,
        Step("held", ("account_id",), _HELD.format(caps=all_taken)),
        Step("placed", ("amount_microcredits",), placed),
        result=f"""
SELECT {", ".join(LOOKED.columns)}, {is_opened}, {all_taken}, (SELECT message_count FROM counted),
       (SELECT amount_microcredits FROM placed) {", " + columns if columns else ""}
  FROM {LOOKED} {source}
""",  # noqa: S608  # built from constants only
        # The settlement waits for the disk, and flushes everything its message wrote before. What a
        # database crash loses before that has no effect: without its hold nothing is charged or
        # stored.
        awaits_disk=False,
    )


_ALONE = placing()


@dataclass(frozen=True, slots=True)
class Opening:
    """What to open with a hold. If its step returns no row, nothing is counted or held.

    The statements come from `placing`; the parameters are those of its step.
    """

    statements: Placing = _ALONE
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Placement:
    """The result of placing a hold: the hold, or the limit that refused it.

    Both are None if the opening was refused. `opened` holds the rows that were read with it.
    """

    hold: PlacedHold | None
    refusal: ApiError | None
    opened: Sequence[Row] = ()


# --- Placing --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Days:
    """What a moment counts for: the day of the quota, and parameters of spend caps.

    Valid from `starts_at` until before `ends_at`.
    """

    quota_day: date
    params: Mapping[str, Any]
    starts_at: datetime
    ends_at: datetime


@lru_cache(maxsize=4_096)
def _latest_days(calendar: Calendar) -> list[_Days]:
    """Return the days last computed for a calendar, in a list, because most calls need the same."""
    return []


def _days_of(calendar: Calendar, now: datetime) -> _Days:
    """Return the days of a moment, computed once for each period of a calendar."""
    latest = _latest_days(calendar)
    for days in latest:
        if days.starts_at <= now < days.ends_at:
            return days
    day, month, quota_day = (
        count.span(now) for count in (calendar.day, calendar.month, calendar.quota_day)
    )
    params = {
        "cap_day": day.first.isoformat(),
        "next_day": day.next_first.isoformat(),
        "cap_month": month.first.isoformat(),
        "next_month": month.next_first.isoformat(),
        "day": quota_day.first.isoformat(),
    }
    spans = (day, month, quota_day)
    days = _Days(
        quota_day.first,
        params,
        starts_at=max(span.starts_at for span in spans),
        ends_at=min(span.ends_at for span in spans),
    )
    latest[:] = [days]  # another thread may replace it at once
    return days


def place_hold(
    *,
    caller: Caller,
    amount_microcredits: int,
    now: datetime,
    expires_at: datetime,
    request_id: str,
) -> PlacedHold:
    """Count a message of the day and hold credits for it: all or nothing.

    A test key's message, and one that cannot cost anything, holds no credits. Raises
    DailyQuotaReached, SpendCapReached, or CreditsExhausted, in this order.
    """
    placement = try_hold(
        caller=caller,
        amount_microcredits=amount_microcredits,
        now=now,
        expires_at=expires_at,
        request_id=request_id,
    )
    if placement.hold is None:
        raise placement.refusal or AssertionError("without an opening, only a limit refuses")
    return placement.hold


def try_hold(
    *,
    caller: Caller,
    amount_microcredits: int,
    now: datetime,
    expires_at: datetime,
    request_id: str,
    opening: Opening = Opening(),  # frozen
) -> Placement:
    """Do the same, and open what goes with it in the same statement. Raises nothing."""
    amount = 0 if caller.is_test else amount_microcredits
    hold_id, days = db.uuid7(), _days_of(caller.calendar, now)
    params = {
        **opening.params,
        **days.params,
        "hold": hold_id.hex,
        "account": caller.account_id,
        "channel": caller.channel_id.hex,
        "is_test": caller.is_test,
        "key": caller.key_id and caller.key_id.hex,
        "quota": caller.daily_quota,
        "amount": amount,
        "request_id": request_id,
        "now": db.param(now),
        "expires_at": db.param(expires_at),
    }
    rows = opening.statements.plain.run(params)
    is_capped = not rows[0][1]
    if is_capped:
        rows = opening.statements.capped.run(params)
        if not rows[0][1] and spend_caps.start_period(
            caller=caller, amount_microcredits=amount, now=now
        ):
            rows = opening.statements.capped.run(params)
    has_quota, has_cap_room, has_credits, is_opened, took, messages_today, held = rows[0][:7]
    opened = [row[7:] for row in rows] if is_opened else []
    if held is None:
        refusal: ApiError | None = None
        if not has_quota or (has_cap_room and has_credits and is_opened):
            refusal = DailyQuotaReached(quota=caller.daily_quota, calendar=caller.calendar, now=now)
        elif not has_cap_room:
            refusal = spend_caps.refusal_of(caller=caller, amount_microcredits=amount, now=now)
        elif not has_credits:
            refusal = CreditsExhausted()
        return Placement(None, refusal, opened)
    hold = PlacedHold(
        id=hold_id,
        account_id=caller.account_id,
        channel_id=caller.channel_id,
        is_test=caller.is_test,
        day=days.quota_day,
        amount_microcredits=held,
        messages_today=messages_today,
        request_id=request_id,
        is_capped=is_capped,
    )
    if held == amount:
        return Placement(hold, None, opened)
    # Another call took the credits, or a cap's room, at this very moment.
    holds.release_hold(hold=hold, now=now)
    if took:
        return Placement(None, CreditsExhausted(), opened)
    refusal = spend_caps.refusal_of(caller=caller, amount_microcredits=amount, now=now)
    return Placement(None, refusal, opened)
