"""After a call: capture its hold or absorb its loss. Also: what an account can spend.

Each operation is a few guarded single-row statements that succeed or fail as one
(common/db). admission.py has what comes before a call. A guard is part of the UPDATE,
never an earlier SELECT, so it holds however many requests race: PostgreSQL (READ COMMITTED) checks
it again after waiting for the row, and SQLite has one writer at a time. Rows are locked in one
order: hold, daily usage, spend caps, credit account.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction

from billing import grants, holds, spend_caps
from billing.contract import RESOLVED
from billing.errors import HoldNotOpen
from billing.holds import PlacedHold
from billing.models import Book, Hold, LedgerEntry
from common import db
from common.clock import HONEST_SKEW
from common.db import Step, Steps


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a reply cost, and what the account can spend after it, both in micro-credits.

    `is_low` says whether that is below the owners' warning threshold.
    """

    charged_microcredits: int
    available_microcredits: int
    is_low: bool


# holds.has_ended in SQL: such a hold counts as available.
HAS_ENDED = "(h.expires_at <= %(now)s OR h.created_at > %(believed)s)"


def ended_params(now: datetime) -> dict[str, Any]:
    """Return the parameters of HAS_ENDED."""
    return {"now": db.param(now), "believed": db.param(now + HONEST_SKEW)}


# --- Settlement ---------------------------------------------------------------------------------


# CASE, so that PostgreSQL finds the row by its id. Without statistics of the table, the planner
# would rather read the whole index of open holds.
_CAPTURED = RESOLVED.step(f"""
UPDATE billing_hold
   SET state = 'captured', captured_microcredits = %(charge)s, resolved_at = %(now)s
 WHERE id = %(hold)s AND CASE WHEN state = 'held' THEN expires_at > %(now)s ELSE FALSE END
RETURNING {", ".join(RESOLVED.columns)}
""")  # noqa: S608  # built from constants only
_ALREADY_RESOLVED = RESOLVED.step(
    f"SELECT {', '.join(RESOLVED.columns)} FROM billing_hold WHERE id = %(hold)s"  # noqa: S608
)

# {stored}: the last step of what is stored too. {order}: what else comes first. This comes late
# because all channels of an account share its row.
_CREDITED = f"""
UPDATE billing_creditaccount
   SET balance_microcredits = balance_microcredits - %(charge)s,
       held_microcredits = held_microcredits - %(amount)s,
       spent_microcredits = spent_microcredits + %(charge)s,
       entry_count = entry_count + %(entries)s
 WHERE account_id = %(account)s AND %(amount)s > 0 AND EXISTS (SELECT 1 FROM {{stored}}){{order}}
RETURNING balance_microcredits, entry_count, low_balance_microcredits,
       balance_microcredits - held_microcredits + COALESCE((
       SELECT SUM(h.amount_microcredits) FROM billing_hold h
        WHERE h.account_id = %(account)s AND h.state = 'held' AND h.id <> %(hold)s
          AND {HAS_ENDED}), 0)
"""  # noqa: S608  # built from constants only

_CHARGED = Step(
    "charged",
    ("id",),
    """
INSERT INTO billing_ledgerentry (credit_account_id, sequence, kind, debit, credit,
       amount_microcredits, balance_after_microcredits, reason, actor, request_id, hold_id,
       created_at)
SELECT %(account)s, entry_count, 'charge', 'customer', 'revenue',
       %(charge)s, balance, %(reason)s, '', %(request_id)s, %(hold)s, %(now)s
  FROM credited WHERE %(charge)s > 0
RETURNING id
""",
)


def _capturing(stored: Sequence[Step], returned: Sequence[Step] = ()) -> Steps:
    *_, last = (_CAPTURED, *stored)
    credited = Step(
        "credited",
        ("balance", "entry_count", "low_balance", "available"),
        _CREDITED.format(
            stored=last.name, order=spend_caps.after(returned[-1].name) if returned else ""
        ),
    )
    return Steps(
        _CAPTURED,
        *stored,
        *returned,
        credited,
        _CHARGED,
        result="SELECT low_balance, available, cap_day FROM resolved LEFT JOIN credited ON TRUE",
    )


class Settling:
    """The statements that resolve a hold, with the steps that store what goes with it.

    The steps read RESOLVED. If the hold is resolved, the last step returns a row; it reads the
    others. The steps may use their own parameters and the settlement's: `hold`, `now`, `charge`,
    and `request_id`. Create it at import, so that a wrong name stops the start.
    """

    def __init__(self, *stored: Step) -> None:
        self.charged = _capturing(stored)
        # For a charge below a hold that took from spend caps: they get the rest back.
        self.partly_charged = _capturing(stored, spend_caps.giving_back(RESOLVED))
        self.free = Steps(_ALREADY_RESOLVED, *stored, result="SELECT 1")


_NOTHING_STORED = Settling()


@dataclass(frozen=True, slots=True)
class Storing:
    """What to store if, and only if, a hold is resolved, and the parameters of its steps."""

    statements: Settling = _NOTHING_STORED
    params: Mapping[str, Any] = field(default_factory=dict)


def capture_hold(
    *,
    hold: PlacedHold,
    charge_microcredits: int,
    now: datetime,
    reason: str,
    request_id: str,
    storing: Storing = Storing(),  # frozen
) -> Settlement:
    """Charge a hold, at most its amount; release the rest; and store what goes with it.

    All or nothing, in its own transaction or in the caller's. Raises HoldNotOpen if the hold was
    resolved before or has expired: a late answer is not charged.
    """
    charge = min(charge_microcredits, hold.amount_microcredits)
    is_partly = charge < hold.amount_microcredits
    settling = storing.statements
    rows = (settling.partly_charged if is_partly and hold.is_capped else settling.charged).run(
        {
            **storing.params,
            "hold": db.param(hold.id),
            "account": hold.account_id,
            "amount": hold.amount_microcredits,
            "charge": charge,
            "entries": 1 if charge else 0,
            "reason": reason,
            "request_id": request_id,
            **ended_params(now),
        }
    )
    if not rows:
        raise HoldNotOpen(str(hold.id))
    if not hold.amount_microcredits:
        return _free_settlement(hold, now)
    ((low_balance, available, cap_day),) = rows
    if cap_day and is_partly and not hold.is_capped:
        # The cap was set during the call. If this process dies just now, the cap counts this one
        # call with all that it held, until its day and month end.
        spend_caps.give_back(hold.id, charged_microcredits=charge)
    return Settlement(charge, int(available), available < low_balance)


@transaction.atomic
def settle_free(*, hold: PlacedHold, now: datetime, storing: Storing) -> Settlement:
    """Release the hold of a free answer, with its place in the day's quota, and store the answer.

    Raises HoldNotOpen if it was resolved before.
    """
    if not holds.resolve_free(hold, state=Hold.State.RELEASED, now=now):
        raise HoldNotOpen(str(hold.id))
    storing.statements.free.run(
        {
            **storing.params,
            "hold": db.param(hold.id),
            "charge": 0,
            "request_id": hold.request_id,
            "now": db.param(now),
        }
    )
    return _free_settlement(hold, now)


def _free_settlement(hold: PlacedHold, now: datetime) -> Settlement:
    """Return the settlement of a free reply. It reads the balance, which nothing changed."""
    available = get_available_microcredits(account_id=hold.account_id, now=now)
    return Settlement(0, available, is_low=False)


# Holds of calls that never returned count as available from the moment they expire.
_AVAILABLE = f"""
SELECT c.balance_microcredits - c.held_microcredits + COALESCE((
       SELECT SUM(h.amount_microcredits) FROM billing_hold h
        WHERE h.account_id = c.account_id AND h.state = 'held' AND {HAS_ENDED}), 0),
       c.next_expiry_at
  FROM billing_creditaccount c WHERE c.account_id = %(account)s
"""  # noqa: S608  # built from constants only


def get_available_microcredits(*, account_id: int, now: datetime) -> int:
    """Return what the account can spend now: its balance minus what calls in flight hold.

    Expires ended grants first, so that it never shows credits that can no longer be spent. That
    locks the account's row, so do not call this before locking the day's row in a transaction.
    """
    available, next_expiry_at = _read_available(account_id, now)
    if next_expiry_at and next_expiry_at <= now:
        grants.expire_grants(account_id=account_id, now=now)
        available, _ = _read_available(account_id, now)
    return available


def guess_available_microcredits(*, account_id: int, now: datetime) -> int:
    """Return the same without locking anything. Too high if a grant has ended just now."""
    return _read_available(account_id, now)[0]


def _read_available(account_id: int, now: datetime) -> tuple[int, datetime | None]:
    row = db.fetch_row(_AVAILABLE, {"account": account_id} | ended_params(now))
    if row is None:
        return 0, None
    return int(row[0]), row[1] and db.time_value(row[1])


def free_up(*, account_id: int, now: datetime) -> None:
    """Expire an account's holds and grants whose time is over.

    Admission calls this when a limit refuses, because what counted against it may have ended since.
    """
    while holds.expire_holds(account_id=account_id, now=now) == holds.EXPIRE_BATCH:
        pass
    grants.expire_grants(account_id=account_id, now=now)


_COUNT_ENTRY = """
UPDATE billing_creditaccount SET entry_count = entry_count + 1
 WHERE account_id = %(account)s RETURNING balance_microcredits, entry_count
"""


@transaction.atomic
def absorb_loss(
    *,
    hold: PlacedHold,
    loss_microcredits: int,
    now: datetime,
    reason: str = "The provider broke off mid-stream",
) -> bool:
    """Release the hold of a provider that broke off, and book the loss to the operator.

    Returns False if the hold was resolved before. The customer's balance does not change. The cost
    of what the provider used moves from the operator's absorbed book to revenue.
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
            reason=reason,
            request_id=hold.request_id,
            hold_id=hold.id,
            created_at=now,
        )
    return True
