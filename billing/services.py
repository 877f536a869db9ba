"""Every movement of credits: hold, capture, release, expire, grant.

Each is one or more guarded single-row statements inside one short transaction. A guard is part
of the UPDATE itself, never a SELECT before it, so that it holds however many requests race, on
PostgreSQL (READ COMMITTED re-checks it after waiting for the row) and on SQLite (one writer at
a time) alike. Rows are locked in one order: hold, daily usage, credit account.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from billing.errors import CreditsExhausted, DailyQuotaReached, HoldNotOpen, ReferenceReused
from billing.models import Book, CreditAccount, DailyUsage, Hold, LedgerEntry
from channels.callers import Caller
from channels.models import Account
from common import db
from common.ids import uuid7

logger = logging.getLogger("gateway.billing")

EXPIRE_BATCH = 500


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a reply cost, and what the account can spend after it; both in micro-credits.

    `available_microcredits` is None where no credits were held, so that no balance was read.
    """

    charged_microcredits: int
    available_microcredits: int | None


@dataclass(frozen=True, slots=True)
class PlacedHold:
    """An open hold, as the request that placed it carries it along."""

    id: uuid.UUID
    account_id: int
    channel_id: uuid.UUID
    is_test: bool
    day: date
    amount_microcredits: int


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
    hold = PlacedHold(
        uuid7(), caller.account_id, caller.channel_id, caller.is_test, utc_day(now), amount
    )
    counted = db.fetch_row(
        _COUNT_MESSAGE,
        {
            "channel": caller.channel_id.hex,
            "is_test": caller.is_test,
            "day": hold.day.isoformat(),
            "quota": caller.daily_quota,
        },
    )
    if counted is None:
        raise DailyQuotaReached(quota=caller.daily_quota, retry_after=seconds_to_next_day(now))
    if amount and not db.execute(_HOLD_CREDITS, {"account": caller.account_id, "amount": amount}):
        raise CreditsExhausted
    db.execute(
        _INSERT_HOLD,
        [
            hold.id.hex,
            hold.account_id,
            hold.channel_id.hex,
            hold.is_test,
            hold.day.isoformat(),
            amount,
            request_id,
            db.time_param(now),
            db.time_param(expires_at),
        ],
    )
    return hold


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
       entry_count = entry_count + %(entries)s
 WHERE account_id = %(account)s
RETURNING balance_microcredits, entry_count, balance_microcredits - held_microcredits + COALESCE((
       SELECT SUM(h.amount_microcredits) FROM billing_hold h
        WHERE h.account_id = %(account)s AND h.state = 'held' AND h.expires_at <= %(now)s), 0)
"""

_INSERT_CHARGE = """
INSERT INTO billing_ledgerentry (credit_account_id, sequence, kind, debit, credit,
       amount_microcredits, balance_after_microcredits, reason, actor, request_id, message_id,
       hold_id, created_at)
VALUES (%s, %s, 'charge', 'customer', 'revenue', %s, %s, %s, '', %s, %s, %s, %s)
"""


def capture_hold(
    *,
    hold: PlacedHold,
    charge_microcredits: int,
    now: datetime,
    reason: str,
    request_id: str,
    message_id: uuid.UUID,
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
        return Settlement(0, None)
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
    balance, sequence, available = settled
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
                message_id.hex,
                hold.id.hex,
                params["now"],
            ],
        )
    return Settlement(charge, int(available))


@transaction.atomic
def release_hold(*, hold: PlacedHold, now: datetime) -> bool:
    """Give credits and the day's count back; False where the hold was resolved before."""
    return _resolve_free(hold, state=Hold.State.RELEASED, now=now)


def expire_holds(*, account_id: int | None = None, now: datetime) -> int:
    """Release up to 500 holds whose time has passed, of one account or of all; return how many.

    Called by admission when a limit says no, and by the clean-up task. Each hold is resolved in
    a transaction of its own: locks of several at once could wait for each other in a circle.
    """
    expired = Hold.objects.filter(state=Hold.State.HELD, expires_at__lte=now).order_by("id")
    if account_id is not None:
        expired = expired.filter(account_id=account_id)
    count = 0
    for row in expired[:EXPIRE_BATCH]:
        hold = PlacedHold(
            row.id, row.account_id, row.channel_id, row.is_test, row.day, row.amount_microcredits
        )
        with transaction.atomic():
            count += _resolve_free(hold, state=Hold.State.EXPIRED, now=now)
    if count:
        logger.warning("billing.holds.expired", extra={"count": count})
    return count


def _resolve_free(hold: PlacedHold, *, state: Hold.State, now: datetime) -> bool:
    """Resolve an open hold at no charge: hold, then daily usage, then credit account."""
    open_hold = Hold.objects.filter(id=hold.id, state=Hold.State.HELD)
    if not open_hold.update(state=state, resolved_at=now):
        return False
    DailyUsage.objects.filter(
        channel_id=hold.channel_id, is_test=hold.is_test, day=hold.day, message_count__gt=0
    ).update(message_count=F("message_count") - 1)
    if hold.amount_microcredits:
        CreditAccount.objects.filter(account_id=hold.account_id).update(
            held_microcredits=F("held_microcredits") - hold.amount_microcredits
        )
    return True


# --- Grants and corrections ---------------------------------------------------------------------


def grant_credits(
    *,
    account: Account,
    amount_microcredits: int,
    reason: str,
    actor: str = "",
    reference: str | None = None,
) -> tuple[LedgerEntry, bool]:
    """Add credits to an account; return the entry and whether it is new.

    The same reference grants once: given again it returns the first entry. Raises
    ReferenceReused where that one was of another amount, and ValueError for an amount below one
    micro-credit.
    """
    if amount_microcredits <= 0:
        raise ValueError("A grant must be more than 0 credits.")
    CreditAccount.objects.bulk_create([CreditAccount(account=account)], ignore_conflicts=True)
    try:
        with transaction.atomic():
            entry = _append_entry(
                account_id=account.id,
                change_microcredits=amount_microcredits,
                kind=LedgerEntry.Kind.GRANT,
                other_book=Book.ISSUANCE,
                reason=reason,
                actor=actor,
                reference=reference or None,
            )
            return entry, True
    except IntegrityError:
        earlier = LedgerEntry.objects.filter(
            credit_account_id=account.id, reference=reference
        ).first()
        if not reference or earlier is None:
            raise
    if earlier.amount_microcredits != amount_microcredits:
        raise ReferenceReused(f"The reference '{reference}' was used for another amount.")
    return earlier, False


@transaction.atomic
def adjust_credits(
    *, account: Account, change_microcredits: int, reason: str, actor: str
) -> LedgerEntry:
    """Correct a balance up or down by an entry of its own.

    Raises CreditsExhausted where less than that is available: held credits cannot be taken.
    """
    if not change_microcredits:
        raise ValueError("An adjustment must not be 0.")
    CreditAccount.objects.bulk_create([CreditAccount(account=account)], ignore_conflicts=True)
    return _append_entry(
        account_id=account.id,
        change_microcredits=change_microcredits,
        kind=LedgerEntry.Kind.ADJUSTMENT,
        other_book=Book.ISSUANCE,
        reason=reason,
        actor=actor,
        reference=None,
    )


_CHANGE_BALANCE = """
UPDATE billing_creditaccount
   SET balance_microcredits = balance_microcredits + %(change)s, entry_count = entry_count + 1
 WHERE account_id = %(account)s AND balance_microcredits + %(change)s >= held_microcredits
RETURNING balance_microcredits, entry_count
"""


def _append_entry(
    *,
    account_id: int,
    change_microcredits: int,
    kind: LedgerEntry.Kind,
    other_book: Book,
    reason: str,
    actor: str,
    reference: str | None,
) -> LedgerEntry:
    """Change the balance and write the entry that says so."""
    changed = db.fetch_row(_CHANGE_BALANCE, {"account": account_id, "change": change_microcredits})
    if changed is None:
        raise CreditsExhausted("The account has less than that available.")
    balance, sequence = changed
    books = (other_book, Book.CUSTOMER)
    debit, credit = books if change_microcredits > 0 else reversed(books)
    return LedgerEntry.objects.create(
        credit_account_id=account_id,
        sequence=sequence,
        kind=kind,
        debit=debit,
        credit=credit,
        amount_microcredits=abs(change_microcredits),
        balance_after_microcredits=balance,
        reason=reason,
        actor=actor,
        reference=reference,
        created_at=timezone.now(),
    )


# --- Days ---------------------------------------------------------------------------------------


def utc_day(moment: datetime) -> date:
    """Return the UTC day of a moment, whatever TIME_ZONE or the database's zone."""
    return moment.astimezone(UTC).date()


def seconds_to_next_day(moment: datetime) -> int:
    """Return whole seconds, rounded up, until the UTC day of a moment ends."""
    midnight = datetime.combine(utc_day(moment) + timedelta(days=1), time(), UTC)
    return max(1, -int((moment - midnight).total_seconds() // 1))
