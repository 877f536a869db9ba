"""E-mail before the credits run out: once, and again only after a real top-up."""

from __future__ import annotations

from typing import Any

import pytest
from django.core import mail

from billing import grants, tasks, warnings
from billing.models import CreditAccount
from billing.tests.test_settlement import CREDIT, capture, place
from channels.models import Account, Membership, User
from channels.tests.factories import Site, make_site

pytestmark = pytest.mark.django_db


def spend(site: Site, amount: int) -> None:
    capture(place(site.caller(), amount * CREDIT), amount * CREDIT)


def give(site: Site, amount: int) -> None:
    grants.grant_credits(
        account=site.channel.account, amount_microcredits=amount * CREDIT, reason="r"
    )


def subjects() -> list[str]:
    return [message.subject.partition(":")[0] for message in mail.outbox]


def test_warns_once_at_low_and_once_at_empty(site: Site) -> None:
    assert tasks.warn_of_low_balances() == 0
    spend(site, 91)
    assert tasks.warn_of_low_balances() == 1
    assert tasks.warn_of_low_balances() == 0
    spend(site, 9)
    assert tasks.warn_of_low_balances() == 1
    assert tasks.warn_of_low_balances() == 0
    assert subjects() == ["Credits are running low", "Credits are used up"]
    assert mail.outbox[0].to == ["owner@example.com"]
    assert "9 credits left" in mail.outbox[0].body


def test_a_small_top_up_does_not_warn_again_and_a_real_one_does(site: Site) -> None:
    spend(site, 91)
    tasks.warn_of_low_balances()
    give(site, 2)  # 11: above the threshold of 10, but by less than a quarter
    spend(site, 2)
    assert tasks.warn_of_low_balances() == 0
    give(site, 4)  # 13
    spend(site, 4)
    assert tasks.warn_of_low_balances() == 1


def test_only_owners_are_written_to(site: Site) -> None:
    viewer = User.objects.create_user("viewer@example.com")
    Membership.objects.create(account=site.channel.account, user=viewer, role="viewer")
    spend(site, 95)
    tasks.warn_of_low_balances()
    assert mail.outbox[0].to == ["owner@example.com"]


def test_an_account_that_never_had_credits_is_left_alone(db: None) -> None:
    make_site(credit_amount=0)
    assert tasks.warn_of_low_balances() == 0


def test_a_lost_mail_server_is_tried_again(site: Site, monkeypatch: Any) -> None:
    spend(site, 95)

    def lost(*args: Any) -> None:
        raise ConnectionRefusedError("no mail server")

    with monkeypatch.context() as patch:
        patch.setattr(warnings, "send_mail", lost)
        assert tasks.warn_of_low_balances() == 0
    assert CreditAccount.objects.get().warned == 0
    assert tasks.warn_of_low_balances() == 1


def test_a_name_of_several_lines_stops_no_mail(site: Site) -> None:
    Account.objects.filter(id=site.account_id).update(name="Anna's\r\nBcc: x@example.com")
    spend(site, 95)
    assert tasks.warn_of_low_balances() == 1
    assert mail.outbox[0].subject == "Credits are running low: Anna's Bcc: x@example.com"
