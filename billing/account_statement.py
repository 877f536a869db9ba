"""How an account got its balance: grants, pages of the ledger, daily sums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from django.db.models import F, Q, QuerySet, Sum
from django.db.models.functions import TruncDate

from billing import charges
from billing.models import Book, CreditGrant, Hold, LedgerEntry
from common import db
from common.days import UTC_NAME, day_of, end_of, start_of

ENTRIES_A_READ = 500
ENTRIES_A_PAGE = 50
GRANTS_SHOWN = 50


@dataclass(frozen=True, slots=True)
class GrantLeft:
    """A grant and what is really left of it, including spending not yet allocated to grants."""

    grant: CreditGrant
    left_microcredits: int
    is_over: bool


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects entries by kind and by days of a time zone, both inclusive."""

    kind: str = ""
    first_day: date | None = None
    last_day: date | None = None
    zone: str = UTC_NAME


@dataclass(frozen=True, slots=True)
class Page:
    """Entries, newest first, and the number to continue before (None at the end)."""

    entries: list[LedgerEntry] = field(default_factory=list)
    next_before: int | None = None


def list_grants(*, account_id: int, now: datetime) -> list[GrantLeft]:
    """Return an account's grants, those with something left first, the soonest to end first.

    Allocates recent spending in the order of billing.grants, but writes nothing.
    """
    grants = CreditGrant.objects.filter(credit_account_id=account_id)
    grants = grants.select_related("entry", "credit_account")
    unspent = grants.filter(remaining_microcredits__gt=0).order_by(
        F("expires_at").asc(nulls_last=True), "id"
    )
    unallocated: int | None = None
    found = []
    for grant in unspent[:1_000]:
        if unallocated is None:
            account = grant.credit_account
            unallocated = account.spent_microcredits - account.allocated_microcredits
        part = min(unallocated, grant.remaining_microcredits)
        unallocated -= part
        is_over = grant.expires_at is not None and grant.expires_at <= now
        found.append(GrantLeft(grant, grant.remaining_microcredits - part, is_over))
    spent = grants.filter(remaining_microcredits=0).order_by("-id")[:GRANTS_SHOWN]
    found += [GrantLeft(grant, 0, True) for grant in spent]
    return sorted(found, key=lambda one: one.left_microcredits == 0)[:GRANTS_SHOWN]


def list_open_holds(*, account_id: int) -> list[Hold]:
    """Return the newest holds of calls in flight."""
    holds = Hold.objects.filter(account_id=account_id, state=Hold.State.HELD)
    return list(holds.select_related("channel").order_by("-id")[:ENTRIES_A_PAGE])


# --- The ledger by pages ------------------------------------------------------------------------


def filter_entries(*, account_id: int, chosen: Filter) -> QuerySet[LedgerEntry]:
    """Return an account's entries, newest first."""
    entries = LedgerEntry.objects.filter(credit_account_id=account_id)
    if chosen.kind == LedgerEntry.Kind.GRANT:
        # By the grants, which are few, instead of walking along all charges.
        granted = CreditGrant.objects.filter(credit_account_id=account_id)
        entries = entries.filter(id__in=granted.values("entry_id"))
    if chosen.kind:
        entries = entries.filter(kind=chosen.kind)
    entries = charges.entries_between(
        entries,
        account_id=account_id,
        starts_at=start_of(chosen.first_day, chosen.zone) if chosen.first_day else None,
        ends_at=end_of(chosen.last_day, chosen.zone) if chosen.last_day else None,
    )
    return entries.order_by("-sequence")


def get_page(*, account_id: int, chosen: Filter, before: int | None = None) -> Page:
    """Return a page of an account's entries, from the newest or from before a number."""
    entries = filter_entries(account_id=account_id, chosen=chosen)
    if before is not None:
        entries = entries.filter(sequence__lt=before)
    found = list(entries[: ENTRIES_A_PAGE + 1])
    is_more = len(found) > ENTRIES_A_PAGE
    found = found[:ENTRIES_A_PAGE]
    return Page(found, found[-1].sequence if is_more else None)


def iterate_entries(*, account_id: int, chosen: Filter) -> Iterator[LedgerEntry]:
    """Yield all of an account's chosen entries, newest first, reading them in pieces."""
    entries = filter_entries(account_id=account_id, chosen=chosen)

    def read(last: LedgerEntry | None) -> list[LedgerEntry]:
        before = entries if last is None else entries.filter(sequence__lt=last.sequence)
        return list(before[:ENTRIES_A_READ])

    for piece in db.read_in_pieces(read, size=ENTRIES_A_READ):
        yield from piece


@dataclass(frozen=True, slots=True)
class DaySum:
    """What was added to and taken from an account's balance on a UTC day, in micro-credits."""

    day: date
    added: int
    taken: int


def sum_days(*, account_id: int, entries: Sequence[LedgerEntry]) -> list[DaySum]:
    """Return the complete sums of each day that the entries are from, newest first."""
    if not entries:
        return []
    days = [day_of(entry.created_at) for entry in entries]
    chosen = Filter(first_day=min(days), last_day=max(days))
    of_account = filter_entries(account_id=account_id, chosen=chosen).order_by()
    sums = of_account.values(day=TruncDate("created_at", tzinfo=UTC)).annotate(
        added=Sum("amount_microcredits", filter=Q(credit=Book.CUSTOMER), default=0),
        taken=Sum("amount_microcredits", filter=Q(debit=Book.CUSTOMER), default=0),
    )
    found = [DaySum(row["day"], row["added"], row["taken"]) for row in sums]
    return sorted((one for one in found if one.day in days), key=lambda one: one.day, reverse=True)


def signed_microcredits(entry: LedgerEntry) -> int:
    """Return an entry's effect on the customer's balance; 0 for the operator's losses."""
    if entry.credit == Book.CUSTOMER:
        return entry.amount_microcredits
    return -entry.amount_microcredits if entry.debit == Book.CUSTOMER else 0
