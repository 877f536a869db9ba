"""Before a call: count it in the day's quota, and hold credits for its highest possible cost.

This is one statement of guarded single-row steps (common/db/steps.py). It also opens what goes with
the call, such as a session's turn. Rows are locked in one order: what is opened, daily usage,
credit account.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from billing import holds
from billing.contract import LOOKED
from billing.errors import CreditsExhausted, DailyQuotaReached
from billing.holds import PlacedHold
from billing.utc_day import seconds_to_next_day, utc_day
from channels.callers import Caller
from common import db
from common.db.steps import Row, Step, Steps
from common.errors import ApiError
from common.ids import uuid7

# Every use of credits goes through this condition: held credits and ended grants cannot be held.
_CAN_PAY = """
account_id = %(account)s AND balance_microcredits - held_microcredits >= %(amount)s
   AND (next_expiry_at IS NULL OR next_expiry_at > %(now)s)
"""

# Reads without a lock, so that a caller who has reached a limit writes nothing. The guards of the
# later steps decide.
_LOOKED = LOOKED.step(f"""
SELECT NOT EXISTS (SELECT 1 FROM billing_dailyusage
                    WHERE channel_id = %(channel)s AND is_test = %(is_test)s AND day = %(day)s
                      AND message_count >= %(quota)s),
       %(amount)s = 0 OR EXISTS (SELECT 1 FROM billing_creditaccount WHERE {_CAN_PAY})
""")  # noqa: S608  # built from constants only

_HAS_ROOM = f"{LOOKED} WHERE {LOOKED['has_quota']} AND {LOOKED['has_credits']}"

# {opened}: a source of at most one row, on which everything that follows depends.
_COUNTED = """
INSERT INTO billing_dailyusage (channel_id, is_test, day, message_count)
SELECT %(channel)s, %(is_test)s, %(day)s, 1 FROM {opened}
ON CONFLICT (channel_id, is_test, day) DO UPDATE
   SET message_count = billing_dailyusage.message_count + 1
 WHERE billing_dailyusage.message_count < %(quota)s
RETURNING message_count
"""

# Holds nothing if nothing can be charged.
_HELD = Step(
    "held",
    ("account_id",),
    f"""
UPDATE billing_creditaccount
   SET held_microcredits = held_microcredits + %(amount)s
 WHERE {_CAN_PAY} AND %(amount)s > 0 AND EXISTS (SELECT 1 FROM counted)
RETURNING account_id
""",  # noqa: S608  # built from constants only
)

# Placed even if another request took the credits at this very moment. It then holds nothing, and
# its release or expiry gives the day's count back.
_PLACED = Step(
    "placed",
    ("amount_microcredits",),
    """
INSERT INTO billing_hold (id, account_id, channel_id, is_test, day, amount_microcredits,
       captured_microcredits, state, request_id, created_at, expires_at)
SELECT %(hold)s, %(account)s, %(channel)s, %(is_test)s, %(day)s,
       CASE WHEN EXISTS (SELECT 1 FROM held) THEN %(amount)s ELSE 0 END,
       0, 'held', %(request_id)s, %(now)s, %(expires_at)s
  FROM counted WHERE TRUE
RETURNING amount_microcredits
""",
)


def placing(step: Step | None = None, *, columns: str = "", source: str = "") -> Steps:
    """Return the statement that places a hold, with the step that opens what goes with it.

    The step must do nothing unless LOOKED has both quota and credits. `columns` and `source` are
    SQL for what to read with it, in no order: columns, and their joins. Call it at import, so that
    a wrong name stops the start.
    """
    opened = f"{step.name} WHERE TRUE" if step else _HAS_ROOM
    is_opened = f"EXISTS (SELECT 1 FROM {step.name})" if step else "TRUE"  # noqa: S608
    counted = Step("counted", ("message_count",), _COUNTED.format(opened=opened))
    return Steps(
        _LOOKED,
        *([step] if step else []),
        counted,
        _HELD,
        _PLACED,
        result=f"""
SELECT {", ".join(LOOKED.columns)}, {is_opened}, (SELECT message_count FROM counted),
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

    The statement is one of `placing`; the parameters are those of its step.
    """

    statement: Steps = _ALONE
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Placement:
    """The result of placing a hold: the hold, or the limit that refused it.

    Both are None if the opening was refused. `opened` holds the rows that were read with it.
    """

    hold: PlacedHold | None
    refusal: ApiError | None
    opened: Sequence[Row] = ()


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
    DailyQuotaReached or CreditsExhausted; the daily quota comes first.
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
    hold_id, day = uuid7(), utc_day(now)
    rows = opening.statement.run(
        {
            **opening.params,
            "hold": hold_id.hex,
            "account": caller.account_id,
            "channel": caller.channel_id.hex,
            "is_test": caller.is_test,
            "day": day.isoformat(),
            "quota": caller.daily_quota,
            "amount": amount,
            "request_id": request_id,
            "now": db.time_param(now),
            "expires_at": db.time_param(expires_at),
        }
    )
    has_quota, has_credits, is_opened, messages_today, held = rows[0][:5]
    opened = [row[5:] for row in rows] if is_opened else []
    if held is None:
        refusal = _refusal(caller, now, has_quota, has_credits, is_opened)
        return Placement(None, refusal, opened)
    hold = PlacedHold(
        id=hold_id,
        account_id=caller.account_id,
        channel_id=caller.channel_id,
        is_test=caller.is_test,
        day=day,
        amount_microcredits=held,
        messages_today=messages_today,
        request_id=request_id,
    )
    if held == amount:
        return Placement(hold, None, opened)
    holds.release_hold(hold=hold, now=now)
    return Placement(None, CreditsExhausted(), opened)


def _refusal(
    caller: Caller, now: datetime, has_quota: bool, has_credits: bool, is_opened: bool
) -> ApiError | None:
    """Return the limit that refused, or None if the opening was refused."""
    if has_quota and not has_credits:
        return CreditsExhausted()
    if has_quota and not is_opened:
        return None
    return DailyQuotaReached(quota=caller.daily_quota, retry_after=seconds_to_next_day(now))
