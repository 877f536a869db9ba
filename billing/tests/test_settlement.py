"""Money: holds, captures, releases, and grants, one at a time and many at once."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone

from billing import admission, grants, holds
from billing import settlement as services
from billing.balance import get_balance
from billing.errors import CreditsExhausted, DailyQuotaReached, HoldNotOpen, ReferenceReused
from billing.holds import PlacedHold
from billing.models import CreditAccount, DailyUsage, Hold, LedgerEntry
from billing.verification import find_differences
from channels.callers import Caller
from channels.tests.factories import Site, make_site
from common.days import day_of, end_of, seconds_until
from common.db.plans import snapshot
from common.money import MICROCREDITS_PER_CREDIT
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db
CREDIT = MICROCREDITS_PER_CREDIT


def place(caller: Caller, amount: int = CREDIT, *, lifetime: float = 70) -> PlacedHold:
    now = timezone.now()
    with transaction.atomic():
        return admission.place_hold(
            caller=caller,
            amount_microcredits=amount,
            now=now,
            expires_at=now + timedelta(seconds=lifetime),
            request_id="r1",
        )


def capture(hold: PlacedHold, charge: int = CREDIT) -> services.Settlement:
    with transaction.atomic():
        return services.capture_hold(
            hold=hold,
            charge_microcredits=charge,
            now=timezone.now(),
            reason="a test",
            request_id="r1",
        )


def release(hold: PlacedHold) -> bool:
    return holds.release_hold(hold=hold, now=timezone.now())


def balance() -> tuple[int, int]:
    account = CreditAccount.objects.get()
    return account.balance_microcredits, account.held_microcredits


def differences() -> list[str]:
    with snapshot():
        return list(find_differences())


# --- One at a time --------------------------------------------------------------------------------


def test_the_open_holds_are_those_that_make_up_what_is_held(site: Site, stranger: Site) -> None:
    first, second = place(site.caller(), 2 * CREDIT), place(site.caller(), CREDIT)
    place(site.caller(), 0)
    place(site.caller(), CREDIT, lifetime=-1)
    place(stranger.caller(), CREDIT)
    release(place(site.caller(), CREDIT))
    found = holds.list_open(account_id=site.account_id, now=timezone.now())
    assert [hold.id for hold in found] == [first.id, second.id]
    held = get_balance(account_id=site.account_id, now=timezone.now()).held
    assert sum(hold.amount_microcredits for hold in found) == held == 3 * CREDIT


def test_a_hold_sets_credits_aside_and_a_capture_charges_part_of_them(site: Site) -> None:
    hold = place(site.caller(), 5 * CREDIT)
    assert balance() == (100 * CREDIT, 5 * CREDIT)
    settlement = capture(hold, 2 * CREDIT)
    assert settlement.charged_microcredits == 2 * CREDIT
    assert settlement.available_microcredits == 98 * CREDIT
    assert balance() == (98 * CREDIT, 0)
    assert differences() == []


def test_a_charge_is_never_above_the_hold(site: Site) -> None:
    assert capture(place(site.caller(), 3), 10).charged_microcredits == 3
    assert differences() == []


def test_a_release_gives_credits_and_the_days_count_back(site: Site) -> None:
    hold = place(site.caller())
    assert DailyUsage.objects.get().message_count == 1
    assert release(hold)
    assert balance() == (100 * CREDIT, 0)
    assert DailyUsage.objects.get().message_count == 0
    assert differences() == []


def test_a_hold_is_resolved_once(site: Site) -> None:
    captured, released = place(site.caller()), place(site.caller())
    capture(captured)
    assert release(released)
    assert not release(captured)
    assert not release(released)
    for hold in (captured, released):
        with pytest.raises(HoldNotOpen):
            capture(hold)
    assert balance() == (99 * CREDIT, 0)
    assert differences() == []


def test_a_late_capture_is_refused_and_an_expired_hold_is_spendable_at_once(clock: Any) -> None:
    site = make_site(credit_amount=1, daily_quota=1)
    hold = place(site.caller(), lifetime=10)
    clock.shift(10)
    with pytest.raises(HoldNotOpen):
        capture(hold)
    available = services.get_available_microcredits(account_id=site.account_id, now=timezone.now())
    assert available == CREDIT
    assert holds.expire_holds(account_id=site.account_id, now=timezone.now()) == 1
    assert holds.expire_holds(account_id=site.account_id, now=timezone.now()) == 0
    capture(place(site.caller()))
    assert differences() == []


def test_expiry_leaves_living_holds_and_other_accounts_alone(
    site: Site, stranger: Site, clock: Any
) -> None:
    place(site.caller(), lifetime=10)
    place(site.caller(), lifetime=11)
    place(stranger.caller(), lifetime=10)
    clock.shift(10)
    assert holds.expire_holds(account_id=site.account_id, now=timezone.now()) == 1
    assert holds.expire_holds(now=timezone.now()) == 1
    assert Hold.objects.filter(state="held").count() == 1


def test_refuses_what_the_balance_cannot_pay_to_the_micro_credit(site: Site) -> None:
    place(site.caller(), 100 * CREDIT - 1)
    with pytest.raises(CreditsExhausted):
        place(site.caller(), 2)
    place(site.caller(), 1)
    assert balance() == (100 * CREDIT, 100 * CREDIT)
    assert DailyUsage.objects.get().message_count == 2


def test_an_account_without_any_grant_has_nothing_to_spend(db: None) -> None:
    site = make_site(credit_amount=0)
    with pytest.raises(CreditsExhausted):
        place(site.caller())
    assert not Hold.objects.exists()


def test_counts_by_utc_day_whatever_the_local_zone(clock: Any, settings: Any) -> None:
    settings.TIME_ZONE = "Pacific/Auckland"
    site = make_site(daily_quota=1)
    clock.move_to("2026-04-05T23:59:59.999Z")
    place(site.caller())
    with pytest.raises(DailyQuotaReached) as refusal:
        place(site.caller())
    assert refusal.value.retry_after == 1
    clock.move_to("2026-04-06T00:00:00Z")
    place(site.caller())
    assert [str(u.day) for u in DailyUsage.objects.order_by("day")] == ["2026-04-05", "2026-04-06"]


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        ("2026-04-05T00:00:00", 86400),
        ("2026-04-05T23:59:59.2", 1),
        ("2026-04-05T12:00:00.5", 43200),
    ],
)
def test_seconds_to_the_next_day_are_rounded_up(moment: str, seconds: int) -> None:
    aware = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert seconds_until(end_of(day_of(aware)), aware) == seconds


def test_grants_and_adjustments_are_numbered_entries(site: Site) -> None:
    account = site.channel.account
    grants.adjust_credits(
        account=account, change_microcredits=-CREDIT, reason="a mistake", actor="staff@x"
    )
    grants.adjust_credits(account=account, change_microcredits=5, reason="sorry", actor="staff@x")
    entries = LedgerEntry.objects.order_by("sequence").values_list(
        "sequence", "kind", "debit", "credit", "amount_microcredits", "balance_after_microcredits"
    )
    assert list(entries) == [
        (1, "grant", "issuance", "customer", 100 * CREDIT, 100 * CREDIT),
        (2, "adjustment", "customer", "issuance", CREDIT, 99 * CREDIT),
        (3, "adjustment", "issuance", "customer", 5, 99 * CREDIT + 5),
    ]
    assert differences() == []


def test_an_adjustment_cannot_take_what_is_held(site: Site) -> None:
    place(site.caller(), 60 * CREDIT)
    with pytest.raises(CreditsExhausted):
        grants.adjust_credits(
            account=site.channel.account, change_microcredits=-41 * CREDIT, reason="r", actor="a"
        )
    assert balance() == (100 * CREDIT, 60 * CREDIT)


def test_the_same_reference_grants_once(site: Site, stranger: Site) -> None:
    def grant(to: Site, amount: int = 5) -> tuple[LedgerEntry, bool]:
        return grants.grant_credits(
            account=to.channel.account,
            amount_microcredits=amount,
            reason="bought",
            reference="inv-1",
        )

    first, is_new = grant(site)
    again, is_new_again = grant(site)
    assert (is_new, is_new_again, again.id) == (True, False, first.id)
    with pytest.raises(ReferenceReused):
        grant(site, 6)
    assert grant(stranger)[1]
    assert differences() == []


@pytest.mark.parametrize("amount", [0, -1])
def test_a_grant_is_more_than_nothing(site: Site, amount: int) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        grants.grant_credits(account=site.channel.account, amount_microcredits=amount, reason="r")


# --- The database itself --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE billing_ledgerentry SET amount_microcredits = 1",
        "UPDATE billing_ledgerentry SET reason = 'x'",
        "DELETE FROM billing_ledgerentry",
    ],
)
def test_the_database_refuses_to_change_the_ledger(site: Site, statement: str) -> None:
    with (
        pytest.raises(DatabaseError, match="never"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
    assert LedgerEntry.objects.get().amount_microcredits == 100 * CREDIT


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL has no REPLACE")
@pytest.mark.parametrize("verb", ["REPLACE", "INSERT OR REPLACE"])
@pytest.mark.parametrize("displaced_by", ["id", "sequence", "reference", "hold_id"])
def test_the_database_refuses_to_replace_a_ledger_entry(
    site: Site, verb: str, displaced_by: str
) -> None:
    grants.grant_credits(
        account=site.channel.account, amount_microcredits=1, reason="x", actor="x", reference="r"
    )
    capture(place(site.caller()))
    before: list[dict[str, Any]] = [*map(dict, LedgerEntry.objects.order_by("id").values())]
    victim = next(entry for entry in before if entry[displaced_by])
    # A new row that collides with the old one in this column only.
    free = {"id": 10**9, "sequence": 10**9, "reference": None, "hold_id": None}
    row = victim | free | {displaced_by: victim[displaced_by], "amount_microcredits": 7}
    values = [getattr(value, "hex", value) for value in row.values()]
    statement = (
        f"{verb} INTO billing_ledgerentry ({', '.join(row)}) "
        f"VALUES ({', '.join(['%s'] * len(row))})"
    )
    with (
        pytest.raises(DatabaseError, match="never replaced"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement, values)
    assert [*map(dict, LedgerEntry.objects.order_by("id").values())] == before


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no TRUNCATE")
def test_the_database_refuses_to_truncate_the_ledger(site: Site) -> None:
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("TRUNCATE billing_ledgerentry CASCADE")


@pytest.mark.parametrize(
    "change",
    [
        {"balance_microcredits": -1},
        {"held_microcredits": -1},
        {"held_microcredits": 100 * CREDIT + 1},
    ],
)
def test_the_database_refuses_an_impossible_balance(site: Site, change: dict[str, int]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        CreditAccount.objects.update(**change)


# --- All at once ----------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_many_at_once_never_oversell(clock: Any) -> None:
    site = make_site(credit_amount=20, daily_quota=1000)
    caller = site.caller()

    def work(index: int) -> int:
        paid = 0
        for _ in range(8):
            try:
                hold = place(caller)
            except CreditsExhausted:
                continue
            capture(hold)
            paid += 1
        return paid

    assert sum(run_in_threads(work, 8)) == 20
    assert balance() == (0, 0)
    assert differences() == []


@pytest.mark.django_db(transaction=True)
def test_many_at_once_never_pass_the_quota(clock: Any) -> None:
    caller = make_site(daily_quota=13).caller()

    def work(index: int) -> int:
        admitted = 0
        for _ in range(5):
            try:
                place(caller)
            except DailyQuotaReached:
                continue
            admitted += 1
        return admitted

    assert sum(run_in_threads(work, 8)) == 13


@pytest.mark.django_db(transaction=True)
def test_one_hold_is_captured_or_released_by_one_of_many(clock: Any) -> None:
    site = make_site()
    holds = [place(site.caller()) for _ in range(10)]

    def work(index: int) -> int:
        captured = 0
        for hold in random.Random(index).sample(holds, len(holds)):
            if index % 2:
                release(hold)
                continue
            try:
                capture(hold)
            except HoldNotOpen:
                continue
            captured += 1
        return captured

    captured = sum(run_in_threads(work, 6))
    assert balance() == ((100 - captured) * CREDIT, 0)
    assert differences() == []


@pytest.mark.django_db(transaction=True)
def test_one_reference_grants_once_of_many_at_once() -> None:
    account = make_site(credit_amount=0).channel.account

    def work(index: int) -> bool:
        return grants.grant_credits(
            account=account, amount_microcredits=7, reason="bought", reference="inv-1"
        )[1]

    assert sum(run_in_threads(work, 8)) == 1
    assert balance() == (7, 0)
    assert differences() == []
