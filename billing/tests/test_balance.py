"""The credits the console shows for an account, and how long they last."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from billing.balance import Balance, get_balance, get_runway
from billing.models import LedgerEntry
from billing.tests.test_grants import give, spend
from channels.models import Account
from channels.tests.factories import make_site

pytestmark = pytest.mark.django_db
CREDIT = 1_000_000


def test_an_account_that_never_had_credits_has_none() -> None:
    account = Account.objects.create(name="New")
    assert get_balance(account_id=account.id, now=timezone.now()) == Balance()


def test_a_grant_that_has_ended_is_taken_back_before_the_balance_is_told(clock: Any) -> None:
    site = make_site(credit_amount=3)
    give(site, 5 * CREDIT, days=1)
    assert get_balance(account_id=site.account_id, now=timezone.now()).available == 8 * CREDIT
    clock.shift(timedelta(days=1))
    balance = get_balance(account_id=site.account_id, now=timezone.now())
    assert (balance.balance, balance.available) == (3 * CREDIT, 3 * CREDIT)
    assert balance.next_expiry_at is None
    assert LedgerEntry.objects.filter(kind="expiry").count() == 1


@pytest.mark.parametrize(("spent", "days"), [(5 * CREDIT, 19), (1, None), (100 * CREDIT, None)])
def test_the_runway_is_a_date_within_five_years_or_none(
    clock: Any, spent: int, days: int | None
) -> None:
    """There is no such day if credits are used up or hardly used."""
    site = make_site(credit_amount=100)
    spend(site, spent)
    now = timezone.now()
    balance = get_balance(account_id=site.account_id, now=now)
    runway = get_runway(balance=balance, now=now)
    assert runway.spent_microcredits == spent
    assert runway.until == (None if days is None else (now + timedelta(days=days)).date())
