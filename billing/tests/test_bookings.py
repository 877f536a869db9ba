"""The credits desk: previews, bookings that happen once, and refusals."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from billing import bookings, grants
from billing.bookings import Booking
from billing.errors import CreditsExhausted, ReferenceReused
from billing.models import CreditAccount, CreditGrant, LedgerEntry
from billing.tests.test_settlement import differences, place
from channels.audit import Actor
from channels.models import Account, AuditEntry, User
from channels.tests.factories import Site, make_site
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000
STAFF = Actor("staff@example.com")


def balance_of(account: Account) -> int:
    return CreditAccount.objects.get(account=account).balance_microcredits


def book(site: Site, booking: Booking, reference: str = "desk 1") -> bookings.Outcome:
    (outcome,) = bookings.book([site.channel.account], booking, reference=reference, actor=STAFF)
    return outcome


def test_a_preview_books_nothing_and_counts_what_is_held(site: Site) -> None:
    place(site.caller(), 30 * CREDIT)
    new = Account.objects.create(name="New")
    rows = bookings.preview([site.channel.account, new], Booking(-80 * CREDIT, "r"))
    assert [(row.balance, row.available, row.balance_after) for row in rows] == [
        (100 * CREDIT, 70 * CREDIT, 20 * CREDIT),
        (0, 0, -80 * CREDIT),
    ]
    assert "Only 70 credits are available" in rows[0].refusal
    assert rows[1].refusal
    assert LedgerEntry.objects.count() == 1


def test_a_booking_of_nothing_or_under_a_used_reference_says_why_not(site: Site) -> None:
    assert "must not be 0" in book(site, Booking(0, "r")).refusal
    assert book(site, Booking(CREDIT, "r")).is_new
    other = book(site, Booking(2 * CREDIT, "r"))
    assert (other.entry, other.is_new) == (None, False)
    assert other.refusal
    assert balance_of(site.channel.account) == 101 * CREDIT
    assert differences() == []


def test_a_booking_says_who_and_why_in_ledger_and_audit_log(site: Site) -> None:
    person = User.objects.create_user("staff@example.com")
    actor = Actor(person.email, person, "192.0.2.1")
    ends = timezone.now() + timedelta(days=3)
    booking = Booking(5 * CREDIT, "Welcome", CreditGrant.Category.PROMOTION, ends)
    (outcome,) = bookings.book([site.channel.account], booking, reference="desk 1", actor=actor)
    entry = outcome.entry
    assert entry is not None
    assert (entry.kind, entry.actor, entry.reason) == ("grant", "staff@example.com", "Welcome")
    assert entry.grant.expires_at == ends
    noted = AuditEntry.objects.get(action="credits.granted")
    assert (noted.account_id, noted.actor, noted.address) == (
        site.account_id,
        person,
        "192.0.2.1",
    )
    assert noted.changes == {"balance": ["100", "105"]}
    assert not differences()


@pytest.mark.parametrize("change", [5 * CREDIT, -5 * CREDIT, -100 * CREDIT])
def test_the_same_reference_books_once(site: Site, change: int) -> None:
    first, second = (book(site, Booking(change, "r")) for _ in range(2))
    assert first.entry is not None
    assert first.is_new
    assert second.entry == first.entry
    assert not second.is_new
    assert balance_of(site.channel.account) == 100 * CREDIT + change
    assert AuditEntry.objects.filter(action="credits.adjusted").count() == 1
    assert not differences()


def test_a_reference_is_not_taken_for_another_amount_or_direction(site: Site) -> None:
    book(site, Booking(-5 * CREDIT, "r"))
    for change in (5 * CREDIT, -6 * CREDIT, -500 * CREDIT):
        assert "another amount" in book(site, Booking(change, "r")).refusal
    again = Booking(5 * CREDIT, "r", CreditGrant.Category.PURCHASE)
    assert "another amount" in book(site, again).refusal
    with pytest.raises(ReferenceReused):
        grants.adjust_credits(
            account=site.channel.account,
            change_microcredits=1,
            reason="r",
            actor="a",
            reference="desk 1",
        )


def test_more_than_is_available_is_refused_with_what_is(site: Site) -> None:
    place(site.caller(), 30 * CREDIT)
    outcome = book(site, Booking(-71 * CREDIT, "r"))
    assert outcome.entry is None
    assert "Only 70 credits are available" in outcome.refusal
    with pytest.raises(CreditsExhausted):
        grants.adjust_credits(
            account=site.channel.account,
            change_microcredits=-71 * CREDIT,
            reason="r",
            actor="a",
            reference="other",
        )
    assert not AuditEntry.objects.filter(action__startswith="credits.").exists()


def test_one_refusal_stops_no_other_account(site: Site) -> None:
    rich = make_site(owner="rich@example.com", credit_amount=500)
    accounts = [site.channel.account, rich.channel.account]
    outcomes = bookings.book(accounts, Booking(-200 * CREDIT, "r"), reference="desk 2", actor=STAFF)
    assert [outcome.is_new for outcome in outcomes] == [False, True]
    assert balance_of(rich.channel.account) == 300 * CREDIT
    assert not differences()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("change", [7 * CREDIT, -60 * CREDIT, -100 * CREDIT])
def test_one_form_sent_by_eight_threads_books_once(site: Site, change: int) -> None:
    outcomes = run_in_threads(lambda _: book(site, Booking(change, "r")), 8)
    assert sum(outcome.is_new for outcome in outcomes) == 1
    assert len({outcome.entry.pk for outcome in outcomes}) == 1
    assert balance_of(site.channel.account) == 100 * CREDIT + change
    assert not differences()


@pytest.mark.django_db(transaction=True)
def test_different_deductions_at_once_never_take_more_than_there_is(site: Site) -> None:
    booking = Booking(-30 * CREDIT, "r")
    outcomes = run_in_threads(lambda index: book(site, booking, f"desk {index}"), 8)
    assert sum(outcome.is_new for outcome in outcomes) == 3
    assert balance_of(site.channel.account) == 10 * CREDIT
    assert not differences()
