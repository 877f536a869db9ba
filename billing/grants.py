"""Credits outside of charges: grants that expire, corrections, monthly grants.

Charges do not touch grants. An account counts its total spending, and how much of it was allocated
to grants. The rest is allocated when it matters: before a grant is added, and when one has ended.
That happens under the account's row lock, soonest-ending grant first. In between the set of grants
does not change, so the order of allocation is the order of spending.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import F, Max, Min, QuerySet, Sum
from django.utils import timezone

from billing import holds
from billing.errors import CreditsExhausted, ReferenceReused
from billing.models import Book, CreditAccount, CreditGrant, Hold, LedgerEntry
from channels import audit
from channels.audit import Actor
from channels.models import Account
from common import db
from common.money import show_credits


@dataclass(frozen=True, slots=True)
class Change:
    """A change of an account's balance, with everything its entry says. Micro-credits."""

    amount_microcredits: int  # negative: taken from the customer
    kind: LedgerEntry.Kind
    reason: str
    actor: str | Actor = ""
    reference: str | None = None

    def is_that_of(self, entry: LedgerEntry) -> bool:
        """Return whether an entry has the same kind, amount, and direction."""
        sign = 1 if entry.credit == Book.CUSTOMER else -1
        return (entry.kind, sign * entry.amount_microcredits) == (
            self.kind,
            self.amount_microcredits,
        )


def grant_credits(
    *,
    account: Account,
    amount_microcredits: int,
    reason: str,
    actor: str | Actor = "",
    reference: str | None = None,
    category: str = CreditGrant.Category.PURCHASE,
    expires_at: datetime | None = None,
) -> tuple[LedgerEntry, bool]:
    """Add credits to an account. Returns the entry and whether it is new.

    Idempotent by reference: the same reference returns the first entry. Raises ReferenceReused if
    that entry has another amount, and ValueError for an amount below one micro-credit or an end in
    the past. If the actor is an Actor, a person, the audit log records the grant too.
    """
    if amount_microcredits <= 0:
        raise ValueError("A grant must be more than 0 credits.")
    if expires_at is not None and expires_at <= timezone.now():
        raise ValueError("A grant must end in the future.")
    kind = LedgerEntry.Kind.GRANT
    change = Change(amount_microcredits, kind, reason, actor, reference or None)
    try:
        return _grant(account, change, category, expires_at), True
    except IntegrityError as refusal:
        return _find_earlier(account, change, refusal), False


def _find_earlier(account: Account, change: Change, refusal: Exception) -> LedgerEntry:
    """Return the entry that this reference booked before. Raises `refusal` if there is none."""
    entries = LedgerEntry.objects.filter(credit_account_id=account.id, reference=change.reference)
    earlier = entries.first() if change.reference else None
    if earlier is None:
        raise refusal
    if not change.is_that_of(earlier):
        raise ReferenceReused(f"The reference '{change.reference}' was used for another amount.")
    return earlier


def adjust_credits(
    *,
    account: Account,
    change_microcredits: int,
    reason: str,
    actor: str | Actor,
    reference: str | None = None,
) -> tuple[LedgerEntry, bool]:
    """Correct a balance up or down with an entry. Returns the entry and whether it is new.

    Uses what is available now: expires ended holds and grants first, so that it does not matter who
    noticed them. Raises CreditsExhausted if less is available, because held credits cannot be
    taken. Idempotent by reference, like grant_credits.
    """
    if not change_microcredits:
        raise ValueError("An adjustment must not be 0.")
    now = timezone.now()
    holds.expire_holds(account_id=account.id, now=now)
    expire_grants(account_id=account.id, now=now)
    kind = LedgerEntry.Kind.ADJUSTMENT
    change = Change(change_microcredits, kind, reason, actor, reference or None)
    try:
        if change_microcredits > 0:
            return _grant(account, change, CreditGrant.Category.ADJUSTMENT, None), True
        with transaction.atomic():
            return _append_entry(account.id, change), True
    except (IntegrityError, CreditsExhausted) as refusal:
        # The same adjustment, sent twice, may be what exhausted them.
        return _find_earlier(account, change, refusal), False


def expire_grants(*, account_id: int, now: datetime) -> bool:
    """Take back what is left of ended grants. Returns False if no grant has ended.

    Every refusal calls this first, so it locks nothing if nothing has ended. Credits held by calls
    in flight stay held. A call that began before a grant's end may still be charged, from this
    grant first. What such calls give back can be spent until the last of them has ended, within the
    lifetime of a hold, and is taken back then.
    """
    due = CreditAccount.objects.filter(account_id=account_id, next_expiry_at__lte=now)
    return due.exists() and _expire_due(due, account_id, now)


@transaction.atomic
def _expire_due(due: QuerySet[CreditAccount], account_id: int, now: datetime) -> bool:
    if not due.update(entry_count=F("entry_count")):  # takes the row lock and checks again
        return False
    available = _allocate(account_id)
    ended = CreditGrant.objects.filter(
        credit_account_id=account_id, remaining_microcredits__gt=0, expires_at__lte=now
    )
    open_holds = Hold.objects.filter(account_id=account_id, state=Hold.State.HELD)
    is_left = False
    for grant in ended.order_by("expires_at", "id"):
        earlier = open_holds.filter(created_at__lt=grant.expires_at)
        kept = earlier.aggregate(amount=Sum("amount_microcredits", default=0))["amount"]
        part = min(max(0, grant.remaining_microcredits - kept), available)
        _take_back(grant, part)
        available -= part
        is_left = is_left or part < grant.remaining_microcredits
    last_end = open_holds.aggregate(end=Max("expires_at"))["end"] if is_left else None
    _set_next_expiry(account_id, after=now, recheck_at=last_end and max(last_end, now))
    return True


def _take_back(grant: CreditGrant, amount_microcredits: int) -> None:
    if not amount_microcredits:
        return
    CreditGrant.objects.filter(id=grant.id).update(
        remaining_microcredits=F("remaining_microcredits") - amount_microcredits
    )
    reason = f"Grant {grant.entry_id} of {grant.category} has ended"
    _append_entry(
        grant.credit_account_id,
        Change(-amount_microcredits, LedgerEntry.Kind.EXPIRY, reason),
    )


def _set_next_expiry(account_id: int, *, after: datetime, recheck_at: datetime | None) -> None:
    coming = CreditGrant.objects.filter(
        credit_account_id=account_id, remaining_microcredits__gt=0, expires_at__gt=after
    ).aggregate(next=Min("expires_at"))["next"]
    moments = [moment for moment in (coming, recheck_at) if moment is not None]
    CreditAccount.objects.filter(account_id=account_id).update(
        next_expiry_at=min(moments, default=None)
    )


@transaction.atomic
def _grant(
    account: Account, change: Change, category: str, expires_at: datetime | None
) -> LedgerEntry:
    CreditAccount.objects.bulk_create([CreditAccount(account=account)], ignore_conflicts=True)
    entry = _append_entry(account.id, change)
    # After the entry, because that takes the row lock. Before the grant, because the grant must not
    # pay for earlier spending.
    _allocate(account.id)
    CreditGrant.objects.create(
        credit_account_id=account.id,
        entry=entry,
        category=category,
        amount_microcredits=change.amount_microcredits,
        remaining_microcredits=change.amount_microcredits,
        expires_at=expires_at,
    )
    if expires_at is not None:
        credit_account = CreditAccount.objects.get(account_id=account.id)
        soonest = min(expires_at, credit_account.next_expiry_at or expires_at)
        CreditAccount.objects.filter(account_id=account.id).update(next_expiry_at=soonest)
    return entry


def _allocate(account_id: int) -> int:
    """Allocate recent spending to grants. Returns the credits that the account has available.

    Needs the account's row lock.
    """
    account = CreditAccount.objects.get(account_id=account_id)
    unallocated = account.spent_microcredits - account.allocated_microcredits
    grants = CreditGrant.objects.filter(
        credit_account_id=account_id, remaining_microcredits__gt=0
    ).order_by(F("expires_at").asc(nulls_last=True), "id")
    for grant in grants if unallocated else ():
        part = min(unallocated, grant.remaining_microcredits)
        CreditGrant.objects.filter(id=grant.id).update(
            remaining_microcredits=F("remaining_microcredits") - part
        )
        unallocated -= part
        if not unallocated:
            break
    CreditAccount.objects.filter(account_id=account_id).update(
        allocated_microcredits=account.spent_microcredits - unallocated
    )
    return account.balance_microcredits - account.held_microcredits


# A balance well above the threshold re-arms the warnings. It must be a quarter above, so that small
# grants around the threshold do not each cause an e-mail.
_CHANGE_BALANCE = """
UPDATE billing_creditaccount
   SET balance_microcredits = balance_microcredits + %(change)s,
       entry_count = entry_count + 1,
       spent_microcredits = spent_microcredits + %(spent)s,
       warned = CASE WHEN %(change)s > 0 AND balance_microcredits + %(change)s - held_microcredits
                          > low_balance_microcredits + low_balance_microcredits / 4
                     THEN 0 ELSE warned END
 WHERE account_id = %(account)s AND balance_microcredits + %(change)s >= held_microcredits
RETURNING balance_microcredits, entry_count
"""


def _append_entry(account_id: int, change: Change) -> LedgerEntry:
    """Change the balance and append its entry. Raises CreditsExhausted."""
    is_spent = change.kind == LedgerEntry.Kind.ADJUSTMENT and change.amount_microcredits < 0
    changed = db.fetch_row(
        _CHANGE_BALANCE,
        {
            "account": account_id,
            "change": change.amount_microcredits,
            "spent": -change.amount_microcredits if is_spent else 0,
        },
    )
    if changed is None:
        raise CreditsExhausted("The account has fewer credits available.")
    balance, sequence = changed
    books = (Book.ISSUANCE, Book.CUSTOMER)
    debit, credit = books if change.amount_microcredits > 0 else books[::-1]
    entry = LedgerEntry.objects.create(
        credit_account_id=account_id,
        sequence=sequence,
        kind=change.kind,
        debit=debit,
        credit=credit,
        amount_microcredits=abs(change.amount_microcredits),
        balance_after_microcredits=balance,
        reason=change.reason,
        actor=change.actor.name if isinstance(change.actor, Actor) else change.actor,
        reference=change.reference,
        created_at=timezone.now(),
    )
    if isinstance(change.actor, Actor):
        _record(entry, change, change.actor)
    return entry


def _record(entry: LedgerEntry, change: Change, actor: Actor) -> None:
    after = entry.balance_after_microcredits
    before = after - change.amount_microcredits
    is_grant = change.kind == LedgerEntry.Kind.GRANT
    audit.record(
        "credits.granted" if is_grant else "credits.adjusted",
        actor=actor,
        account_id=entry.credit_account_id,
        target=f"Entry {entry.sequence}: {change.reason}",
        changes={"balance": (show_credits(before), show_credits(after))},
    )


# --- Monthly grants of plans --------------------------------------------------------------------


def grant_monthly_credits(*, now: datetime) -> int:
    """Grant this UTC month's credits to every account on a plan, once. Returns how many got them.

    Safe to run at any time and on many machines, because the month is the grant's reference.
    """
    month_start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    month_end = (month_start.replace(day=28) + timedelta(days=4)).replace(day=1)
    reference = f"plan {month_start:%Y-%m}"
    accounts = Account.objects.filter(
        is_enabled=True, plan__monthly_grant_microcredits__gt=0
    ).exclude(credit_account__entries__reference=reference)
    return sum(_grant_month(account, reference, month_end) for account in accounts.iterator())


def _grant_month(account: Account, reference: str, month_end: datetime) -> bool:
    assert account.plan is not None
    try:
        _, is_new = grant_credits(
            account=account,
            amount_microcredits=account.plan.monthly_grant_microcredits,
            reason=f"Monthly credits of the plan {account.plan.name}",
            reference=reference,
            category=CreditGrant.Category.PROMOTION,
            expires_at=month_end,
        )
    except ReferenceReused:
        return False  # the plan's grant changed mid-month, and this month was already granted
    return is_new
