"""Another request acts at the worst moment between two steps of one about money or limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import timezone

from billing import grants, holds, redemptions, settlement, throttling
from billing.errors import CodeRefused
from billing.models import CreditAccount, LedgerEntry, RateWindow, RedemptionCode
from billing.tests.test_grants import give
from billing.tests.test_redemptions import make, redeem
from billing.tests.test_settlement import balance, differences, place, release
from billing.tests.test_throttling import admitted
from channels.models import Plan
from channels.tests.factories import Site, make_site
from common.errors import RateLimited

pytestmark = pytest.mark.django_db
CREDIT = 1_000_000


@contextmanager
def first(owner: Any, name: str, rival: Callable[[], Any]) -> Iterator[None]:
    """Let a rival act once, right before `owner.name` is called."""
    original = getattr(owner, name)

    def overtaken(*args: Any, **kwargs: Any) -> Any:
        setattr(owner, name, original)
        rival()
        return original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(owner, name, overtaken)
        yield


def test_a_grant_that_another_request_takes_back_is_taken_back_once(clock: Any) -> None:
    site = make_site(credit_amount=3)
    give(site, 5 * CREDIT, days=1)
    clock.shift(timedelta(days=1))

    def expire() -> bool:
        return grants.expire_grants(account_id=site.account_id, now=timezone.now())

    with first(grants, "_expire_due", expire):
        assert not expire()
    assert balance() == (3 * CREDIT, 0)
    assert LedgerEntry.objects.filter(kind="expiry").count() == 1
    assert differences() == []


def test_a_month_that_another_machine_grants_under_another_plan_is_granted_once(
    clock: Any,
) -> None:
    site = make_site(credit_amount=0)
    account = site.channel.account
    account.plan = plan = Plan.objects.create(name="Starter", monthly_grant_microcredits=500)
    account.save()

    def change_and_grant() -> None:
        Plan.objects.filter(id=plan.id).update(monthly_grant_microcredits=900)
        assert grants.grant_monthly_credits(now=timezone.now()) == 1

    with first(grants, "grant_credits", change_and_grant):
        assert grants.grant_monthly_credits(now=timezone.now()) == 0
    assert balance() == (900, 0)
    assert differences() == []


@pytest.mark.parametrize("amount", [CREDIT, 7])
def test_a_code_that_the_same_account_redeems_meanwhile_is_used(site: Site, amount: int) -> None:
    """Nothing is granted twice, even if the rival's entry for that reference differs."""
    (code,) = make(max_redemptions=5)
    account = site.channel.account

    def grant_first() -> None:
        grants.grant_credits(
            account=account, amount_microcredits=amount, reason="r", reference=f"code:{code.id}"
        )

    with first(grants, "grant_credits", grant_first), pytest.raises(CodeRefused, match="already"):
        redeem(account, code)
    assert differences() == []


def test_codes_that_the_same_form_makes_meanwhile_are_made_once() -> None:
    made: list[RedemptionCode] = []
    with first(redemptions, "show_credits", lambda: made.extend(make(3))):
        assert [code.code for code in make(3)] == [code.code for code in made]
    assert RedemptionCode.objects.count() == 3


def test_all_ended_holds_are_freed_however_many_there_are(
    clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(credit_amount=5)
    for _ in range(5):
        place(site.caller(), lifetime=10)
    clock.shift(10)
    monkeypatch.setattr(holds, "EXPIRE_BATCH", 2)
    settlement.free_up(account_id=site.account_id, now=timezone.now())
    assert balance() == (5 * CREDIT, 0)
    assert differences() == []


def test_a_loss_is_absorbed_once(site: Site) -> None:
    hold = place(site.caller())

    def absorb() -> bool:
        return settlement.absorb_loss(hold=hold, loss_microcredits=CREDIT, now=timezone.now())

    assert absorb()
    assert not absorb()
    assert not release(hold)
    assert LedgerEntry.objects.filter(kind="absorbed").count() == 1
    assert CreditAccount.objects.get().held_microcredits == 0
    assert differences() == []


@pytest.mark.parametrize("is_taken", [False, True])
def test_a_place_that_comes_free_at_the_second_look_is_the_first_comers(
    site: Site, monkeypatch: pytest.MonkeyPatch, is_taken: bool
) -> None:
    now = 1_775_390_400.0
    monkeypatch.setattr(throttling, "time", SimpleNamespace(time=lambda: now))

    def admit() -> throttling.RateState:
        return throttling.admit(channel_id=site.channel.id, bucket="chat", limit=1)

    def wait_a_minute() -> None:
        nonlocal now
        now += 61

    def look_and_be_late(**asked: Any) -> throttling.RateState:
        state = peek(**asked)
        assert admit().is_admitted
        return state

    peek = throttling.peek
    admit()
    with first(throttling, "_look_again", wait_a_minute):
        if is_taken:
            monkeypatch.setattr(throttling, "peek", look_and_be_late)
            with pytest.raises(RateLimited, match=r"Try again in \d+ s"):
                admit()
        else:
            assert admit().is_admitted
    assert RateWindow.objects.get().total == 2


def test_only_so_many_refusals_are_remembered(
    site: Site, monkeypatch: pytest.MonkeyPatch, clock: Any
) -> None:
    monkeypatch.setattr(throttling, "_REFUSALS_REMEMBERED", 2)
    for bucket in ("one", "two", "three"):
        assert admitted(site.channel.id, 1, bucket)
        assert not admitted(site.channel.id, 1, bucket)
    assert [bucket for _, bucket in throttling._refused] == ["two", "three"]


def test_a_try_in_the_dashboard_counts_in_the_channels_own_minute() -> None:
    site = make_site(requests_per_minute=1)
    assert throttling.ChatThrottle().admit(site.caller()).is_admitted
    _, state = throttling.find_and_count(key=site.api_key, bucket="chat", factor=1)
    assert state
    assert not state.is_admitted
