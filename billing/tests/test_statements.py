"""Monthly statements add up to the micro-credit, whatever the ledger, and cost the same."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing import grants, statements
from billing.account_statement import signed_microcredits
from billing.balance import get_balance
from billing.models import CreditAccount, LedgerEntry
from billing.months import Month, bounds_of, month_of, parse_month
from billing.statements import Statement, Sums
from billing.tests.test_charges import BEGINNING, list_periods, write_ledger
from billing.tests.test_settlement import capture, place
from billing.verification import find_differences
from channels.tests.factories import Site, make_site
from common.db.plans import snapshot

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000
LATE = Month(2999, 12)


def add_up(entries: list[LedgerEntry], starts_at: datetime, ends_at: datetime) -> dict[str, int]:
    """Return what the sums of a period should be, from the entries one by one."""
    found = dict.fromkeys(("opening", "grant", "adjustment", "expiry", "charge", "closing"), 0)
    for entry in entries:
        change = signed_microcredits(entry)
        if entry.created_at < starts_at:
            found["opening"] += change
        elif entry.created_at < ends_at and entry.kind in found:
            found[entry.kind] += change
        if entry.created_at < ends_at:
            found["closing"] += change
    return found


def as_found(sums: Sums) -> dict[str, int]:
    return {
        "opening": sums.opening,
        "grant": sums.granted,
        "adjustment": sums.adjusted,
        "expiry": -sums.expired,
        "charge": -sums.charged,
        "closing": sums.closing,
    }


def read_all(account_id: int, now: datetime) -> list[Statement]:
    balance = get_balance(account_id=account_id, now=now)
    found: list[Statement] = []
    newest: Month | None = LATE
    while newest:
        page = statements.list_statements(
            account_id=account_id, balance=balance, now=now, newest=newest
        )
        found += page.statements
        newest = page.next_month
    return found


@pytest.mark.parametrize("seed", range(4))
def test_every_period_of_any_ledger_adds_up(seed: int) -> None:
    chance = random.Random(seed)
    owners = ("one@example.com", "other@example.com")
    accounts = [make_site(owner=owner, credit_amount=0).account_id for owner in owners]
    ledgers = {account_id: write_ledger(account_id, chance) for account_id in accounts}
    for account_id, entries in ledgers.items():
        for starts_at, ends_at in list_periods(entries, chance):
            if starts_at > ends_at:
                continue
            (sums,) = statements.sum_periods(account_id=account_id, moments=[starts_at, ends_at])
            assert as_found(sums) == add_up(entries, starts_at, ends_at), (starts_at, ends_at)


@pytest.mark.parametrize("seed", range(6))
def test_the_months_of_any_ledger_sum_up_to_its_balance(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "MONTHS_A_PAGE", 2)
    chance = random.Random(seed)
    account_id = make_site(credit_amount=0).account_id
    entries = write_ledger(account_id, chance, size=900)
    found = read_all(account_id, BEGINNING + timedelta(days=chance.choice([0, 40, 200])))
    assert len(found) >= 2
    for older, newer in zip(found[1:], found, strict=False):
        assert newer.month == older.month.plus(1)
        assert newer.sums.opening == older.sums.closing
    for one in found:
        assert as_found(one.sums) == add_up(entries, *bounds_of(one.month))
    assert found[-1].sums.opening == 0
    balance = CreditAccount.objects.get(account_id=account_id).balance_microcredits
    assert found[0].sums.closing == balance
    moved = [
        one.sums.granted + one.sums.adjusted - one.sums.expired - one.sums.charged for one in found
    ]
    assert sum(moved) == balance


@pytest.mark.parametrize("seed", range(3))
def test_movements_are_all_entries_but_charges_in_pieces(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "MOVEMENTS_A_READ", 3)
    account_id = make_site(credit_amount=0).account_id
    entries = write_ledger(account_id, random.Random(seed), size=300)
    for one in read_all(account_id, BEGINNING):
        starts_at, ends_at = bounds_of(one.month)
        found = list(statements.iterate_movements(account_id=account_id, statement=one))
        wanted = [
            (entry.sequence, signed_microcredits(entry))
            for entry in entries
            if entry.kind not in ("charge", "absorbed") and starts_at <= entry.created_at < ends_at
        ]
        assert [(movement.sequence, movement.change) for movement in found] == wanted
        sums = one.sums
        assert sum(movement.change for movement in found) == (
            sums.granted + sums.adjusted - sums.expired
        )


def test_a_real_ledger_equals_the_verified_books(clock: Any, site: Site) -> None:
    account = site.channel.account
    started = datetime(2026, 4, 5, 12, tzinfo=UTC)
    capture(place(site.caller(), 30 * CREDIT), 30 * CREDIT)
    grants.grant_credits(
        account=account,
        amount_microcredits=8 * CREDIT,
        reason="April only",
        reference="promo",
        category="promotion",
        expires_at=datetime(2026, 5, 1, tzinfo=UTC),
    )
    grants.adjust_credits(
        account=account, change_microcredits=-2 * CREDIT, reason="counted twice", actor="staff"
    )
    clock.move_to("2026-05-20T00:00:00Z")
    now = started + timedelta(days=45)
    get_balance(account_id=account.id, now=now)  # expires what has ended
    capture(place(site.caller(), 5 * CREDIT), 5 * CREDIT)
    assert not list(find_differences())
    may, april = read_all(account.id, now)
    assert (may.month, april.month) == (Month(2026, 5), Month(2026, 4))
    assert (may.is_open, april.is_open) == (True, False)
    assert as_found(april.sums) == {
        "opening": 0,
        "grant": 108 * CREDIT,
        "adjustment": -2 * CREDIT,
        "expiry": 0,
        "charge": -30 * CREDIT,
        "closing": 76 * CREDIT,
    }
    expired = may.sums.expired
    assert may.sums.opening == 76 * CREDIT
    assert may.sums.charged == 5 * CREDIT
    balance = CreditAccount.objects.get(account=account).balance_microcredits
    assert may.sums.closing == balance == 71 * CREDIT - expired
    lines = list(statements.iterate_movements(account_id=account.id, statement=april))
    assert [(one.kind, one.reason, one.reference, one.category) for one in lines] == [
        ("grant", "for a test", "", "purchase"),
        ("grant", "April only", "promo", "promotion"),
        ("adjustment", "counted twice", "", ""),
    ]
    assert [(one.kind_label, one.category_label) for one in lines] == [
        ("Grant", "Purchase"),
        ("Grant", "Promotion"),
        ("Adjustment", ""),
    ]
    assert lines[1].expires_at == datetime(2026, 5, 1, tzinfo=UTC)


def test_an_account_without_entries_has_no_statement(db: None) -> None:
    site = make_site(credit_amount=0)
    assert read_all(site.account_id, BEGINNING) == []
    CreditAccount.objects.create(account_id=site.account_id)
    assert read_all(site.account_id, BEGINNING) == []


def test_a_month_without_movement_keeps_the_balance(clock: Any, site: Site) -> None:
    clock.move_to("2026-07-01T00:00:00Z")
    found = read_all(site.account_id, datetime(2026, 7, 1, tzinfo=UTC))
    assert [str(one.month) for one in found] == ["2026-07", "2026-06", "2026-05", "2026-04"]
    assert [one.sums.closing for one in found] == [100 * CREDIT] * 4
    assert [one.sums.is_still for one in found] == [True, True, True, False]


def test_only_months_with_a_statement_are_found(clock: Any, site: Site) -> None:
    now = datetime(2026, 4, 5, 12, tzinfo=UTC)
    balance = get_balance(account_id=site.account_id, now=now)

    def find(text: str) -> Statement | None:
        month = parse_month(text)
        assert month is not None
        return statements.find_statement(
            account_id=site.account_id, balance=balance, now=now, month=month
        )

    assert find("2026-04") is not None
    for text in ("2026-03", "2026-05", "2999-12", "2000-01"):
        assert find(text) is None, text


def test_takes_few_statements_and_reads_no_charges_between() -> None:
    account_id = make_site(owner="rich@example.com", credit_amount=0).account_id
    write_ledger(account_id, random.Random(1), size=3_000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE billing_ledgerentry")
    moments = [BEGINNING + timedelta(days=30 * number) for number in range(7)]
    with CaptureQueriesContext(connection) as captured, snapshot():
        statements.sum_periods(account_id=account_id, moments=moments)
    selects = [one["sql"] for one in captured if "billing_ledgerentry" in one["sql"]]
    assert len(selects) == 2
    explain = "EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN "
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # A third of this small ledger is not charges, so reading all of it would be cheaper.
            cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(explain + selects[1])
        plan = str(cursor.fetchall())
    assert "Seq Scan on billing_ledgerentry" not in plan
    assert "SCAN e" not in plan
    assert "billing_ledgerentry_no_charges" in plan


# --- Months ---------------------------------------------------------------------------------------


def test_months_follow_each_other_without_a_gap() -> None:
    month = Month(2025, 11)
    for _ in range(30):
        starts_at, ends_at = bounds_of(month)
        assert month_of(starts_at) == month == month_of(ends_at - timedelta(microseconds=1))
        assert bounds_of(month.plus(1))[0] == ends_at
        assert month.plus(1).plus(-1) == month
        assert month.plus(1).since(month) == 1
        month = month.plus(1)


@pytest.mark.parametrize("text", ["", "2026", "2026-0", "2026-00", "2026-13", "1999-12", "٢٠٢٦-٠٤"])
def test_what_is_no_month(text: str) -> None:
    assert parse_month(text) is None


def test_a_month_is_written_as_it_is_read() -> None:
    assert str(parse_month("2026-04")) == "2026-04"


def test_a_month_has_a_name() -> None:
    assert Month(2026, 4).name == "April 2026"
