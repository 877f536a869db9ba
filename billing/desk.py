"""The credits desk: what staff book on accounts by hand, one at a time or many at once.

Every booking is a grant or an adjustment of its own (billing/grants.py). The form's one-time
reference makes it book once for each account, however often the form is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from billing import grants, services
from billing.errors import CreditsExhausted, ReferenceReused
from billing.models import CreditAccount, CreditGrant, LedgerEntry
from channels.audit import Actor
from channels.models import Account
from common.money import show_credits


@dataclass(frozen=True, slots=True)
class Booking:
    """What is to be booked on each account: micro-credits, negative where they are taken."""

    change_microcredits: int
    reason: str
    category: str = CreditGrant.Category.ADJUSTMENT
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """What an account has and would have, in micro-credits, and why it would be refused."""

    account: Account
    balance: int
    available: int
    change: int

    @property
    def balance_after(self) -> int:
        return self.balance + self.change

    @property
    def available_after(self) -> int:
        return self.available + self.change

    @property
    def refusal(self) -> str:
        return refusal(self.available) if self.available_after < 0 else ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a booking on one account: an entry, new or of before, or why there is none."""

    account: Account
    entry: LedgerEntry | None = None
    is_new: bool = False
    refusal: str = ""


def refusal(available_microcredits: int) -> str:
    """Say why an account's credits cannot be taken."""
    available = show_credits(max(0, available_microcredits))
    return f"Only {available} credits are available; what calls in flight hold cannot be taken."


def preview(accounts: Iterable[Account], booking: Booking) -> list[Preview]:
    """Return each account before and after, in one query; nothing is booked."""
    found = list(accounts)
    known = CreditAccount.objects.in_bulk([account.id for account in found])
    rows = []
    for account in found:
        credit = known.get(account.id) or CreditAccount(account=account)
        balance = credit.balance_microcredits
        available = balance - credit.held_microcredits
        rows.append(Preview(account, balance, available, booking.change_microcredits))
    return rows


def book(
    accounts: Sequence[Account], booking: Booking, *, reference: str, actor: Actor
) -> list[Outcome]:
    """Book on each account, in a transaction of its own; one that is refused stops no other."""
    return [_book_one(account, booking, reference, actor) for account in accounts]


def _book_one(account: Account, booking: Booking, reference: str, actor: Actor) -> Outcome:
    try:
        entry, is_new = _append(account, booking, reference, actor)
    except CreditsExhausted:
        now = timezone.now()
        available = services.get_available_microcredits(account_id=account.id, now=now)
        return Outcome(account, refusal=refusal(available))
    except (ReferenceReused, ValueError) as error:
        return Outcome(account, refusal=str(error))
    return Outcome(account, entry, is_new)


def _append(
    account: Account, booking: Booking, reference: str, actor: Actor
) -> tuple[LedgerEntry, bool]:
    if booking.category == CreditGrant.Category.ADJUSTMENT:
        return grants.adjust_credits(
            account=account,
            change_microcredits=booking.change_microcredits,
            reason=booking.reason,
            actor=actor,
            reference=reference,
        )
    return grants.grant_credits(
        account=account,
        amount_microcredits=booking.change_microcredits,
        reason=booking.reason,
        actor=actor,
        reference=reference,
        category=booking.category,
        expires_at=booking.expires_at,
    )
