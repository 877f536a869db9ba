"""The credits desk: what staff book on accounts by hand, on one or many at once.

Every booking is a grant or an adjustment (billing/grants.py). The form carries a one-time
reference, so each account is booked only once, however often the form is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone
from django.utils.translation import gettext as _

from billing import grants, settlement
from billing.errors import CreditsExhausted, ReferenceReused
from billing.models import CreditAccount, CreditGrant, LedgerEntry
from channels.audit import Actor
from channels.models import Account
from common.pages.numbers import local_credits


@dataclass(frozen=True, slots=True)
class Booking:
    """A booking for each chosen account, in micro-credits. Negative amounts deduct."""

    change_microcredits: int
    reason: str
    category: str = CreditGrant.Category.ADJUSTMENT
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """An account before and after a booking, in micro-credits, and why it would be refused."""

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
    """The result for one account: a new or earlier entry, or why there is none."""

    account: Account
    entry: LedgerEntry | None = None
    is_new: bool = False
    refusal: str = ""


def refusal(available_microcredits: int) -> str:
    """Return why credits cannot be taken from an account."""
    available = local_credits(max(0, available_microcredits))
    said = _("Only %(amount)s credits are available. Calls in progress hold the rest.")
    return said % {"amount": available}


def preview(accounts: Iterable[Account], booking: Booking) -> list[Preview]:
    """Return each account before and after, in one query. Books nothing."""
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
    """Book on each account, in separate transactions, so that a refusal stops no other."""
    return [_book_one(account, booking, reference, actor) for account in accounts]


def _book_one(account: Account, booking: Booking, reference: str, actor: Actor) -> Outcome:
    try:
        entry, is_new = _append(account, booking, reference, actor)
    except CreditsExhausted:
        now = timezone.now()
        available = settlement.get_available_microcredits(account_id=account.id, now=now)
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
