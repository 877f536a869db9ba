"""Grants that end, monthly grants of plans, and the order of spending."""

from __future__ import annotations

import random
import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing import grants, settlement
from billing.errors import CreditsExhausted
from billing.models import CreditAccount, CreditGrant, LedgerEntry
from billing.tests.test_settlement import balance, capture, differences, place, release
from channels.models import Plan
from channels.tests.factories import Site, make_site, set_prices
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db


def give(site: Site, amount: int, *, days: float | None = None) -> CreditGrant:
    entry, _ = grants.grant_credits(
        account=site.channel.account,
        amount_microcredits=amount,
        reason="a test",
        expires_at=timezone.now() + timedelta(days=days) if days else None,
    )
    return entry.grant


def spend(site: Site, amount: int) -> None:
    capture(place(site.caller(), amount), amount)


def remaining() -> list[int]:
    return list(CreditGrant.objects.order_by("id").values_list("remaining_microcredits", flat=True))


@pytest.fixture
def poor(clock: Any) -> Site:
    return make_site(credit_amount=0)


def test_the_soonest_to_end_is_spent_first(poor: Site, clock: Any) -> None:
    give(poor, 100)
    give(poor, 100, days=2)
    give(poor, 100, days=1)
    spend(poor, 130)
    clock.shift(timedelta(days=1))
    assert grants.expire_grants(account_id=poor.account_id, now=timezone.now())
    assert remaining() == [100, 70, 0]
    assert balance() == (170, 0)
    clock.shift(timedelta(days=1))
    assert grants.expire_grants(account_id=poor.account_id, now=timezone.now())
    assert remaining() == [100, 0, 0]
    assert balance() == (100, 0)
    entry = LedgerEntry.objects.latest("sequence")
    assert (entry.kind, entry.debit, entry.credit) == ("expiry", "customer", "issuance")
    assert not grants.expire_grants(account_id=poor.account_id, now=timezone.now())
    assert differences() == []


def test_an_ended_grant_cannot_be_spent_although_no_job_has_run(poor: Site, clock: Any) -> None:
    give(poor, 10)
    give(poor, 100, days=1)
    clock.shift(timedelta(days=1))
    with pytest.raises(CreditsExhausted):
        place(poor.caller(), 11)
    assert (
        settlement.get_available_microcredits(account_id=poor.account_id, now=timezone.now()) == 10
    )
    spend(poor, 10)
    assert balance() == (0, 0)
    assert differences() == []


def test_spending_before_a_grant_is_not_paid_by_it(poor: Site, clock: Any) -> None:
    give(poor, 100)
    spend(poor, 60)
    give(poor, 100, days=1)
    clock.shift(timedelta(days=1))
    grants.expire_grants(account_id=poor.account_id, now=timezone.now())
    assert balance() == (40, 0)
    assert differences() == []


def test_a_call_in_flight_keeps_what_it_holds_of_an_ended_grant(poor: Site, clock: Any) -> None:
    give(poor, 100, days=1)
    clock.shift(timedelta(days=1, seconds=-30))
    charged, released = place(poor.caller(), 30), place(poor.caller(), 20)
    clock.shift(30)
    assert grants.expire_grants(account_id=poor.account_id, now=timezone.now())
    assert balance() == (50, 50)
    capture(charged, 25)
    assert release(released)
    clock.shift(40)
    settlement.free_up(account_id=poor.account_id, now=timezone.now())
    assert balance() == (0, 0)
    assert differences() == []


def test_a_deduction_is_spent_like_a_charge(poor: Site, clock: Any) -> None:
    give(poor, 100)
    give(poor, 100, days=1)
    grants.adjust_credits(
        account=poor.channel.account, change_microcredits=-60, reason="r", actor="a"
    )
    clock.shift(timedelta(days=1))
    grants.expire_grants(account_id=poor.account_id, now=timezone.now())
    assert balance() == (100, 0)
    assert differences() == []


def test_a_grant_must_end_in_the_future(poor: Site) -> None:
    with pytest.raises(ValueError, match="future"):
        grants.grant_credits(
            account=poor.channel.account,
            amount_microcredits=1,
            reason="r",
            expires_at=timezone.now(),
        )


def test_any_mixture_balances(poor: Site, clock: Any) -> None:
    """Compares with a plain model: each charge takes from the valid grant that ends soonest."""
    dice = random.Random(7)
    model: list[list[Any]] = []  # [ends_at, left]
    for _ in range(120):
        now = timezone.now()
        model = [grant for grant in model if grant[0] is None or grant[0] > now]
        step = dice.random()
        if step < 0.3:
            days = dice.choice([None, 1, 2, 3])
            amount = dice.randint(1, 50)
            give(poor, amount, days=days)
            model.append([now + timedelta(days=days) if days else None, amount])
        elif step < 0.8:
            wanted = dice.randint(1, 30)
            left = sum(grant[1] for grant in model)
            settlement.free_up(account_id=poor.account_id, now=now)
            if wanted > left:
                with pytest.raises(CreditsExhausted):
                    place(poor.caller(), wanted)
                continue
            spend(poor, wanted)
            for grant in sorted(model, key=lambda g: (g[0] is None, g[0] or now)):
                part = min(wanted, grant[1])
                grant[1] -= part
                wanted -= part
        else:
            clock.shift(timedelta(hours=dice.randint(1, 30)))
            continue
        assert settlement.get_available_microcredits(account_id=poor.account_id, now=now) == sum(
            grant[1] for grant in model
        )
    assert differences() == []


# --- Plans ----------------------------------------------------------------------------------------


def test_a_plan_grants_once_a_month_until_its_end(clock: Any) -> None:
    site = make_site(credit_amount=0)
    site.channel.account.plan = Plan.objects.create(name="Starter", monthly_grant_microcredits=500)
    site.channel.account.save()
    assert grants.grant_monthly_credits(now=timezone.now()) == 1
    assert grants.grant_monthly_credits(now=timezone.now()) == 0
    assert balance() == (500, 0)
    clock.move_to("2026-05-01T00:00:00Z")
    assert grants.grant_monthly_credits(now=timezone.now()) == 1
    assert (
        settlement.get_available_microcredits(account_id=site.account_id, now=timezone.now()) == 500
    )
    references = LedgerEntry.objects.filter(kind="grant").values_list("reference", flat=True)
    assert sorted(map(str, references)) == ["plan 2026-04", "plan 2026-05"]
    assert differences() == []


def test_a_plan_changed_in_mid_month_does_not_grant_again(clock: Any) -> None:
    site = make_site(credit_amount=0)
    plan = Plan.objects.create(name="Starter", monthly_grant_microcredits=500)
    site.channel.account.plan = plan
    site.channel.account.save()
    grants.grant_monthly_credits(now=timezone.now())
    plan.monthly_grant_microcredits = 900
    plan.save()
    assert grants.grant_monthly_credits(now=timezone.now()) == 0
    assert CreditAccount.objects.get().balance_microcredits == 500


def test_a_later_hold_never_makes_the_end_of_a_grant_fail(poor: Site, clock: Any) -> None:
    give(poor, 10, days=1)
    clock.shift(timedelta(days=1, seconds=-1))
    earlier = place(poor.caller(), 10)
    clock.shift(2)
    settlement.free_up(account_id=poor.account_id, now=timezone.now())
    assert release(earlier)
    clock.shift(58)
    later = place(poor.caller(), 10, lifetime=70)
    clock.shift(10)
    assert (
        settlement.get_available_microcredits(account_id=poor.account_id, now=timezone.now()) == 0
    )
    assert release(later)
    clock.shift(61)
    settlement.free_up(account_id=poor.account_id, now=timezone.now())
    with pytest.raises(CreditsExhausted):
        place(poor.caller(), 1)
    assert balance() == (0, 0)
    assert differences() == []


def test_a_deduction_does_not_depend_on_who_noticed_an_end_first(poor: Site, clock: Any) -> None:
    give(poor, 100)
    give(poor, 10, days=1)
    clock.shift(timedelta(days=1))
    grants.adjust_credits(
        account=poor.channel.account, change_microcredits=-10, reason="r", actor="a"
    )
    assert balance() == (90, 0)
    assert differences() == []


def test_admission_locks_the_account_last_also_when_a_grant_has_just_ended(
    clock: Any, provider: FakeProvider
) -> None:
    """If the account were locked before the day's row, two requests could wait for each other."""
    set_prices(price_per_1k_output_tokens_microcredits=1_000_000)
    site = make_site(credit_amount=50)
    give(site, 100, days=1)
    clock.shift(timedelta(days=1))
    with CaptureQueriesContext(connection) as captured:
        assert ApiClient(site.api_key).chat().status_code == 200
    admissions: list[list[str]] = []
    for query in captured:
        statement = " ".join(query["sql"].replace('"', "").split())
        if "INSERT INTO conversations_chatsession" in statement:
            admissions.append([])
        if admissions:
            shared_rows = r"(?:INSERT INTO|UPDATE) (billing_(?:dailyusage|creditaccount)) "
            admissions[-1] += re.findall(shared_rows, statement)
    assert len(admissions) == 2  # refused because of the ended grant, then admitted
    for locked in admissions:
        assert locked[:2] == ["billing_dailyusage", "billing_creditaccount"]
    assert differences() == []
