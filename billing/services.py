"""The movements of credits that a message makes: hold, capture, release, expire.

Each is one or more guarded single-row statements inside one short transaction. A guard is part
of the UPDATE itself, never a SELECT before it, so that it holds however many requests race, on
PostgreSQL (READ COMMITTED re-checks it after waiting for the row) and on SQLite (one writer at
a time) alike. Rows are locked in one order: hold, daily usage, credit account.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from django.db import transaction

from billing import grants, holds
from billing.errors import CreditsExhausted, DailyQuotaReached, HoldNotOpen
from billing.holds import PlacedHold
from billing.models import Book, Hold, LedgerEntry
from channels.callers import Caller
from common import db
from common.ids import uuid7


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a reply cost, and what the account can spend after it; both in micro-credits.

    `is_low` tells that this is below what the account's owners want to be warned of.
    """

    charged_microcredits: int
    available_microcredits: int
    is_low: bool


# --- Admission ----------------------------------------------------------------------------------

_COUNT_MESSAGE = """
INSERT INTO billing_dailyusage (channel_id, is_test, day, message_count)
VALUES (%(channel)s, %(is_test)s, %(day)s, 1)
ON CONFLICT (channel_id, is_test, day) DO UPDATE
   SET message_count = billing_dailyusage.message_count + 1
 WHERE billing_dailyusage.message_count < %(quota)s
RETURNING message_count
"""

_HOLD_CREDITS = """
UPDATE billing_creditaccount
   SET held_microcredits = held_microcredits + %(amount)s
 WHERE account_id = %(account)s AND balance_microcredits - held_microcredits >= %(amount)s
   AND (next_expiry_at IS NULL OR next_expiry_at > %(now)s)
"""

_INSERT_HOLD = """
INSERT INTO billing_hold (id, account_id, channel_id, is_test, day, amount_microcredits,
                          captured_microcredits, state, request_id, created_at, expires_at)
VALUES (%s, %s, %s, %s, %s, %s, 0, 'held', %s, %s, %s)
"""


def place_hold(
    *,
    caller: Caller,
    amount_microcredits: int,
    now: datetime,
    expires_at: datetime,
    request_id: str,
) -> PlacedHold:
    """Count a message of the day and set credits aside for it; part of the caller's transaction.

    A test key's message, and one that cannot cost anything, holds no credits. Raises
    DailyQuotaReached, then CreditsExhausted; the caller's transaction must then be rolled back.
    """
    amount = 0 if caller.is_test else amount_microcredits
    hold_id, day = uuid7(), utc_day(now)
    # The insert goes first and the account's row last: the two rows that many requests share
    # are locked for as short as can be. A refusal rolls the insert back.
    db.execute(
        _INSERT_HOLD,
        [
            hold_id.hex,
            caller.account_id,
            caller.channel_id.hex,
            caller.is_test,
            day.isoformat(),
            amount,
            request_id,
            db.time_param(now),
            db.time_param(expires_at),
        ],
    )
    counted = db.fetch_row(
        _COUNT_MESSAGE,
        {
            "channel": caller.channel_id.hex,
            "is_test": caller.is_test,
            "day": day.isoformat(),
            "quota": caller.daily_quota,
        },
    )
    if counted is None:
        raise DailyQuotaReached(quota=caller.daily_quota, retry_after=seconds_to_next_day(now))
    wanted = {"account": caller.account_id, "amount": amount, "now": db.time_param(now)}
    if amount and not db.execute(_HOLD_CREDITS, wanted):
        raise CreditsExhausted
    return PlacedHold(
        id=hold_id,
        account_id=caller.account_id,
        channel_id=caller.channel_id,
        is_test=caller.is_test,
        day=day,
        amount_microcredits=amount,
        messages_today=counted[0],
        request_id=request_id,
    )


# --- Settlement ---------------------------------------------------------------------------------

_CAPTURE_HOLD = """
UPDATE billing_hold
   SET state = 'captured', captured_microcredits = %(charge)s, resolved_at = %(now)s
 WHERE id = %(hold)s AND state = 'held' AND expires_at > %(now)s
"""

_CAPTURE_CREDITS = """
UPDATE billing_creditaccount
   SET balance_microcredits = balance_microcredits - %(charge)s,
       held_microcredits = held_microcredits - %(amount)s,
       spent_microcredits = spent_microcredits + %(charge)s,
       entry_count = entry_count + %(entries)s
 WHERE account_id = %(account)s
RETURNING balance_microcredits, entry_count, low_balance_microcredits,
       balance_microcredits - held_microcredits + COALESCE((
       SELECT SUM(h.amount_microcredits) FROM billing_hold h
        WHERE h.account_id = %(account)s AND h.state = 'held' AND h.expires_at <= %(now)s), 0)
"""

_INSERT_CHARGE = """
INSERT INTO billing_ledgerentry (credit_account_id, sequence, kind, debit, credit,
       amount_microcredits, balance_after_microcredits, reason, actor, request_id, hold_id,
       created_at)
VALUES (%s, %s, 'charge', 'customer', 'revenue', %s, %s, %s, '', %s, %s, %s)
"""


def capture_hold(
    *,
    hold: PlacedHold,
    charge_microcredits: int,
    now: datetime,
    reason: str,
    request_id: str,
) -> Settlement:
    """Charge a hold, never more than it holds, and release its rest.

    Part of the caller's transaction. Raises HoldNotOpen where the hold was resolved before or
    its time has passed: a late answer is not charged.
    """
    charge = min(charge_microcredits, hold.amount_microcredits)
    params = {"charge": charge, "now": db.time_param(now), "hold": hold.id.hex}
    if not db.execute(_CAPTURE_HOLD, params):
        raise HoldNotOpen(str(hold.id))
    if not hold.amount_microcredits:
        return _free_settlement(hold, now)
    settled = db.fetch_row(
        _CAPTURE_CREDITS,
        {
            "charge": charge,
            "amount": hold.amount_microcredits,
            "entries": 1 if charge else 0,
            "account": hold.account_id,
            "now": params["now"],
        },
    )
    if settled is None:
        raise HoldNotOpen(str(hold.id))
    balance, sequence, low_balance, available = settled
    if charge:
        db.execute(
            _INSERT_CHARGE,
            [
                hold.account_id,
                sequence,
                charge,
                balance,
                reason,
                request_id,
                hold.id.hex,
                params["now"],
            ],
        )
    return Settlement(charge, int(available), available < low_balance)


def settle_free(*, hold: PlacedHold, now: datetime) -> Settlement:
    """Give a hold back whose answer is free, its place in the day's quota with it.

    Part of the caller's transaction. Raises HoldNotOpen where it was resolved before.
    """
    if not holds.resolve_free(hold, state=Hold.State.RELEASED, now=now):
        raise HoldNotOpen(str(hold.id))
    return _free_settlement(hold, now)


def _free_settlement(hold: PlacedHold, now: datetime) -> Settlement:
    """What a free reply leaves: the balance is read, as nothing changed it."""
    available = get_available_microcredits(account_id=hold.account_id, now=now)
    return Settlement(0, available, is_low=False)


# What was held for calls that never came back counts as available from the moment it expires.
_AVAILABLE = """
SELECT c.balance_microcredits - c.held_microcredits + COALESCE((
       SELECT SUM(h.amount_microcredits) FROM billing_hold h
        WHERE h.account_id = c.account_id AND h.state = 'held' AND h.expires_at <= %(now)s), 0),
       c.next_expiry_at
  FROM billing_creditaccount c WHERE c.account_id = %(account)s
"""


def get_available_microcredits(*, account_id: int, now: datetime) -> int:
    """Return what the account can spend now: its balance less what is held by calls in flight.

    Takes back grants that have ended, so that nothing is shown that can no longer be spent. As
    that locks the account's row, it has no place before the day's row in a transaction.
    """
    available, next_expiry_at = _read_available(account_id, now)
    if next_expiry_at and next_expiry_at <= now:
        grants.expire_grants(account_id=account_id, now=now)
        available, _ = _read_available(account_id, now)
    return available


def guess_available_microcredits(*, account_id: int, now: datetime) -> int:
    """Return the same without locking anything; too high where a grant has ended just now."""
    return _read_available(account_id, now)[0]


def _read_available(account_id: int, now: datetime) -> tuple[int, datetime | None]:
    row = db.fetch_row(_AVAILABLE, {"account": account_id, "now": db.time_param(now)})
    if row is None:
        return 0, None
    return int(row[0]), row[1] and db.time_value(row[1])


def free_up(*, account_id: int, now: datetime) -> None:
    """Do what time alone has decided: expire an account's holds and grants.

    Called by admission when a limit says no, which may be for something that has ended since.
    """
    while holds.expire_holds(account_id=account_id, now=now) == holds.EXPIRE_BATCH:
        pass
    grants.expire_grants(account_id=account_id, now=now)


_COUNT_ENTRY = """
UPDATE billing_creditaccount SET entry_count = entry_count + 1
 WHERE account_id = %(account)s RETURNING balance_microcredits, entry_count
"""


@transaction.atomic
def absorb_loss(*, hold: PlacedHold, loss_microcredits: int, now: datetime) -> bool:
    """Release a hold whose provider broke off, and book the loss to the operator.

    False where the hold was resolved before. The customer's balance is not touched; what the
    words said so far would have cost moves from the operator's absorbed book to revenue.
    """
    if not holds.resolve_free(hold, state=Hold.State.RELEASED, now=now):
        return False
    loss = min(loss_microcredits, hold.amount_microcredits)
    if loss:
        row = db.fetch_row(_COUNT_ENTRY, {"account": hold.account_id})
        assert row is not None, "credits were held, so there is an account"
        LedgerEntry.objects.create(
            credit_account_id=hold.account_id,
            sequence=row[1],
            kind=LedgerEntry.Kind.ABSORBED,
            debit=Book.ABSORBED,
            credit=Book.REVENUE,
            amount_microcredits=loss,
            balance_after_microcredits=row[0],
            reason="The provider broke off in mid-stream",
            request_id=hold.request_id,
            hold_id=hold.id,
            created_at=now,
        )
    return True


# --- Days ---------------------------------------------------------------------------------------


def utc_day(moment: datetime) -> date:
    """Return the UTC day of a moment, whatever TIME_ZONE or the database's zone."""
    return moment.astimezone(UTC).date()


def seconds_to_next_day(moment: datetime) -> int:
    """Return whole seconds, rounded up, until the UTC day of a moment ends."""
    midnight = datetime.combine(utc_day(moment) + timedelta(days=1), time(), UTC)
    return max(1, -int((moment - midnight).total_seconds() // 1))
