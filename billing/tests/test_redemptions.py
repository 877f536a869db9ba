"""Redemption codes: once for each account, never more often than allowed, hard to guess."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from billing import redemptions
from billing.errors import CodeRefused
from billing.models import CreditAccount, RedemptionCode
from billing.tests.test_settlement import differences
from channels.audit import COMMAND_LINE, Actor
from channels.models import Account, AuditEntry
from channels.tests.factories import Site
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000


def make(count: int = 1, reference: str = "a test", **more: Any) -> list[RedemptionCode]:
    return redemptions.make_codes(
        reference=reference, count=count, amount_microcredits=CREDIT, actor=COMMAND_LINE, **more
    )


def redeem(account: Account, code: RedemptionCode | str, who: str = "") -> Any:
    """Redeem as a new person each time, because Redis counts attempts by person beyond a test."""
    text = code if isinstance(code, str) else code.code
    return redemptions.redeem(account=account, text=text, actor=Actor(who or str(uuid.uuid4())))


def refusal(account: Account, code: RedemptionCode | str, who: str = "") -> str:
    with pytest.raises(CodeRefused) as caught:
        redeem(account, code, who)
    return str(caught.value)


def test_codes_are_readable_and_all_different() -> None:
    codes = [code.code for code in make(200)]
    assert len(set(codes)) == 200
    for code in codes:
        assert len(code) == 19
        assert not set(code) & set("01O5S2Z8BUVIL")


def test_the_same_reference_makes_codes_once() -> None:
    assert [code.code for code in make(3)] == [code.code for code in make(3)]
    assert RedemptionCode.objects.count() == 3
    make(3, reference="another")
    assert RedemptionCode.objects.count() == 6
    assert AuditEntry.objects.filter(action="codes.made").count() == 2


def test_the_audit_log_never_holds_a_code(site: Site) -> None:
    (code,) = make(note="spring")
    redeem(site.channel.account, code)
    redemptions.set_enabled(code=code, is_enabled=False, actor=COMMAND_LINE)
    for entry in AuditEntry.objects.all():
        assert code.code not in f"{entry.target} {entry.changes}"


def test_a_code_grants_a_promotion_that_ends(site: Site) -> None:
    (code,) = make(credits_last_days=5)
    entry = redeem(site.channel.account, f"  {code.code.lower().replace('-', ' ')}")
    assert entry.reference == f"code:{code.id}"
    assert entry.grant.category == "promotion"
    left = entry.grant.expires_at - timezone.now()
    assert timedelta(days=4, hours=23) < left <= timedelta(days=5)
    assert not differences()


def test_each_account_redeems_a_code_once(site: Site, stranger: Site) -> None:
    (code,) = make(max_redemptions=5)
    redeem(site.channel.account, code)
    assert "already" in refusal(site.channel.account, code)
    redeem(stranger.channel.account, code)
    code.refresh_from_db()
    assert code.redeemed_count == 2


def test_what_cannot_be_redeemed_says_why(site: Site, stranger: Site) -> None:
    account = site.channel.account
    (used,) = make()
    redeem(stranger.channel.account, used)
    assert "no redemptions left" in refusal(account, used)
    (over,) = make(reference="over", valid_until=timezone.now() - timedelta(seconds=1))
    assert "This code expired at" in refusal(account, over)
    (off,) = make(reference="off")
    assert redemptions.set_enabled(code=off, is_enabled=False, actor=COMMAND_LINE)
    assert not redemptions.set_enabled(code=off, is_enabled=False, actor=COMMAND_LINE)
    assert "switched off" in refusal(account, off)
    assert "no such code" in refusal(account, "nope")
    assert CreditAccount.objects.get(account=account).balance_microcredits == 100 * CREDIT


def test_guessing_is_stopped(site: Site) -> None:
    (code,) = make()
    who = str(uuid.uuid4())
    for number in range(redemptions.ATTEMPTS_PER_MINUTE):
        assert "no such code" in refusal(site.channel.account, f"guess {number}", who)
    assert "Wait a minute" in refusal(site.channel.account, code, who)
    code.refresh_from_db()
    assert code.redeemed_count == 0


@pytest.mark.django_db(transaction=True)
def test_threads_of_many_accounts_never_redeem_more_than_allowed() -> None:
    accounts = [Account.objects.create(name=f"account {number}") for number in range(8)]
    (code,) = make(max_redemptions=3)

    def work(index: int) -> bool:
        try:
            redeem(accounts[index], code)
        except CodeRefused:
            return False
        return True

    assert sum(run_in_threads(work, 8)) == 3
    code.refresh_from_db()
    assert code.redeemed_count == 3
    assert CreditAccount.objects.filter(balance_microcredits=CREDIT).count() == 3
    assert not differences()


@pytest.mark.django_db(transaction=True)
def test_one_account_in_many_threads_redeems_once() -> None:
    account = Account.objects.create(name="one")
    (code,) = make(max_redemptions=50)

    def work(index: int) -> bool:
        try:
            redeem(account, code)
        except CodeRefused:
            return False
        return True

    assert sum(run_in_threads(work, 8)) == 1
    code.refresh_from_db()
    assert code.redeemed_count == 1
    assert CreditAccount.objects.get(account=account).balance_microcredits == CREDIT
