"""Charges of a period or a week: exact, in two statements, however large the ledger."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing import charges
from billing.balance import DAY, get_balance, get_runway
from billing.models import Book, CreditAccount, LedgerEntry
from channels.tests.factories import make_site
from common.days import last_days

pytestmark = pytest.mark.django_db

SKEW = charges.SKEW
TICK = timedelta(microseconds=1)
WEEK = timedelta(days=7)
BEGINNING = datetime(2026, 4, 1, 23, 50, tzinfo=UTC)
# Possible pauses between two entries: bursts, quiet minutes, days without any.
PAUSES = [timedelta(0), TICK, timedelta(seconds=1), timedelta(minutes=3), SKEW, timedelta(days=1)]
BOOKS = {
    "grant": (Book.ISSUANCE, Book.CUSTOMER),
    "raised": (Book.ISSUANCE, Book.CUSTOMER),
    "lowered": (Book.CUSTOMER, Book.ISSUANCE),
    "expiry": (Book.CUSTOMER, Book.ISSUANCE),
    "charge": (Book.CUSTOMER, Book.REVENUE),
    "absorbed": (Book.ABSORBED, Book.REVENUE),
}


def write_ledger(
    account_id: int, chance: random.Random, *, size: int = 80, charges_to_others: int = 2
) -> list[LedgerEntry]:
    """Write random entries, nearly in the order of time, as captures and grants would.

    There are about `charges_to_others` times as many charges as other entries.
    """
    balance, clock, entries = 0, BEGINNING, []
    for sequence in range(1, size + 1):
        clock += chance.choices(PAUSES, [2, 2, 4, 4, 1, 1])[0]
        move = (
            chance.choices(list(BOOKS), [2, 1, 1, 1, 6 * charges_to_others, 1])[0]
            if balance
            else "grant"
        )
        debit, credit = BOOKS[move]
        amount = chance.randint(1, max(1, balance // 8) if debit == Book.CUSTOMER else 10**9)
        balance += amount * ((credit == Book.CUSTOMER) - (debit == Book.CUSTOMER))
        entries.append(
            LedgerEntry(
                credit_account_id=account_id,
                sequence=sequence,
                kind="adjustment" if move in ("raised", "lowered") else move,
                debit=debit,
                credit=credit,
                amount_microcredits=amount,
                balance_after_microcredits=balance,
                reason="test",
                created_at=clock
                - chance.choice([timedelta(0), TICK, SKEW, chance.random() * SKEW]),
            )
        )
    CreditAccount.objects.update_or_create(
        account_id=account_id,
        defaults={"balance_microcredits": balance, "entry_count": size},
    )
    return LedgerEntry.objects.bulk_create(entries)


def list_periods(
    entries: list[LedgerEntry], chance: random.Random
) -> Iterator[tuple[datetime, datetime]]:
    """Yield periods that begin and end before, at, between, and after entries and their bursts."""
    times = [entry.created_at for entry in entries]
    about = [timedelta(0), TICK, -TICK, SKEW, -SKEW, 2 * SKEW, timedelta(hours=7)]
    moments = [time + shift for time in times for shift in about]
    outside = [min(times) - DAY, min(times), max(times), max(times) + TICK, max(times) + DAY]
    for _ in range(100):
        first, second = sorted(chance.choices(moments, k=2))
        yield first, second
        yield first, first + TICK
        yield chance.choice(outside), second
        yield first, chance.choice(outside)
    yield times[0], times[0]
    yield from ((one, other) for one in outside for other in outside)


def add_up(entries: list[LedgerEntry], starts_at: datetime, ends_at: datetime | None = None) -> int:
    return sum(
        entry.amount_microcredits
        for entry in entries
        if entry.kind == "charge"
        and starts_at <= entry.created_at
        and (ends_at is None or entry.created_at < ends_at)
    )


@pytest.mark.parametrize("seed", range(6))
def test_every_period_of_any_ledger_is_summed_to_the_micro_credit(seed: int) -> None:
    chance = random.Random(seed)
    # Two accounts at the same time: neither counts the other's charges.
    owners = ("one@example.com", "other@example.com")
    accounts = [make_site(owner=owner, credit_amount=0).account_id for owner in owners]
    ledgers = {account_id: write_ledger(account_id, chance) for account_id in accounts}
    for account_id, entries in ledgers.items():
        for starts_at, ends_at in list_periods(entries, chance):
            charged = charges.sum_charges(
                account_id=account_id, starts_at=starts_at, ends_at=ends_at
            )
            assert charged == add_up(entries, starts_at, ends_at), (starts_at, ends_at)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_shortest_ledgers(size: int) -> None:
    chance = random.Random(size)
    account_id = make_site(credit_amount=0).account_id
    entries = write_ledger(account_id, chance, size=size)
    for starts_at, ends_at in list_periods(entries, chance):
        charged = charges.sum_charges(account_id=account_id, starts_at=starts_at, ends_at=ends_at)
        assert charged == add_up(entries, starts_at, ends_at)


@pytest.mark.parametrize("seed", range(3))
def test_the_pace_is_exact_from_the_first_day_on(seed: int) -> None:
    chance = random.Random(seed)
    account_id = make_site(credit_amount=0).account_id
    entries = write_ledger(account_id, chance)
    for starts_at, _ in list_periods(entries, chance):
        now = starts_at + WEEK
        first_day, _ = last_days(now)
        balance = get_balance(account_id=account_id, now=now)
        runway = get_runway(balance=balance, now=now)
        assert runway.spent_microcredits == add_up(entries, first_day)
        age = now - entries[0].created_at
        assert runway.span == min(now - first_day, max(DAY, age))


def test_without_credits_or_entries_nothing_was_charged() -> None:
    write_ledger(make_site(owner="rich@example.com", credit_amount=0).account_id, random.Random(1))
    site = make_site(credit_amount=0)
    period = {"starts_at": BEGINNING, "ends_at": BEGINNING + WEEK}
    assert charges.sum_charges(account_id=site.account_id, **period) == 0
    CreditAccount.objects.create(account_id=site.account_id)
    assert charges.sum_charges(account_id=site.account_id, **period) == 0
    balance = get_balance(account_id=site.account_id, now=BEGINNING)
    runway = get_runway(balance=balance, now=BEGINNING)
    assert (runway.spent_microcredits, runway.is_whole, runway.until) == (0, True, None)


def test_takes_one_statement_and_reads_no_charges_between() -> None:
    # Mostly charges, as in real ledgers. With fewer, a planner may well read all entries, because
    # tests that rolled theirs back leave the indexes larger than they need to be.
    account_id = make_site(owner="rich@example.com", credit_amount=0).account_id
    entries = write_ledger(account_id, random.Random(1), size=2_000, charges_to_others=200)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE billing_ledgerentry")
    with CaptureQueriesContext(connection) as captured:
        charges.sum_charges(
            account_id=account_id,
            starts_at=entries[500].created_at,
            ends_at=entries[1_500].created_at,
        )
    assert len(captured) == 1
    explain = "EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN "
    with connection.cursor() as cursor:
        cursor.execute(explain + captured[0]["sql"])
        plan = str(cursor.fetchall())
    assert "billing_ledgerentry_no_charges" in plan
    # PostgreSQL may read a small ledger whole to search it for the moments, never to add it up.
    assert "Seq Scan" not in plan.split("CTE bounds")[-1]
