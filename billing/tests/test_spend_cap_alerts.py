"""Alerts at 50, 80, and 100 % of a spend cap: each once in its day or month, to the owners."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core import mail

from billing import spend_cap_alerts, spend_caps
from billing.models import SpendCap
from billing.tests.test_settlement import CREDIT
from billing.tests.test_spend_caps import NOON, cap, capture, place
from channels.models import Membership, User
from channels.tests.factories import Site

pytestmark = pytest.mark.django_db


def spend(site: Site, amount: int, *, now: datetime = NOON) -> None:
    capture(place(site.caller(), amount * CREDIT, now=now), amount * CREDIT, now=now)


def alerts(*, now: datetime = NOON) -> list[str]:
    """Send what is due, and return the subjects."""
    mail.outbox.clear()
    spend_cap_alerts.alert_of_spend_caps(now=now)
    assert spend_cap_alerts.alert_of_spend_caps(now=now) == 0
    return [str(message.subject) for message in mail.outbox]


def test_tells_of_each_level_once_and_of_the_highest_only(site: Site) -> None:
    cap(site, day=10, month=40)
    spend(site, 4)
    assert alerts() == []
    spend(site, 1)
    assert alerts() == ["50 % of a spend cap is used up: Shop"]
    assert mail.outbox[0].to == ["owner@example.com"]
    assert "has spent 5 of its 10 credits a day" in mail.outbox[0].body
    assert "ends at 00:00 UTC on 15 August" in mail.outbox[0].body
    spend(site, 5)
    assert alerts() == ["100 % of a spend cap is used up: Shop"]
    assert "It answers “spend_cap_reached” until then." in mail.outbox[0].body


def test_a_new_day_tells_again_and_the_month_on_its_own(site: Site) -> None:
    cap(site, day=10, month=20)
    spend(site, 9)
    assert alerts() == ["80 % of a spend cap is used up: Shop"]
    tomorrow = NOON + timedelta(days=1)
    assert alerts(now=tomorrow) == []
    spend(site, 8, now=tomorrow)
    assert sorted(alerts(now=tomorrow)) == ["80 % of a spend cap is used up: Shop"] * 2


def test_names_the_key_of_a_keys_cap_and_writes_to_owners_only(site: Site) -> None:
    viewer = User.objects.create_user("viewer@example.com")
    Membership.objects.create(account=site.channel.account, user=viewer, role="viewer")
    cap(site, day=1, of_key=True)
    spend(site, 1)
    assert len(alerts()) == 1
    assert mail.outbox[0].to == ["owner@example.com"]
    assert f"The key amgai_…{site.api_key[-4:]} of the channel “Shop”" in mail.outbox[0].body


def test_a_cap_of_nothing_is_no_news(site: Site) -> None:
    cap(site, day=0)
    assert alerts() == []


def test_a_raised_cap_tells_again_when_it_is_used(site: Site) -> None:
    cap(site, day=2)
    spend(site, 2)
    assert len(alerts()) == 1
    cap(site, day=10)
    assert alerts() == []
    spend(site, 3)
    assert alerts() == ["50 % of a spend cap is used up: Shop"]


def test_a_lost_mail_server_is_tried_again(site: Site, monkeypatch: Any) -> None:
    cap(site, day=1)
    spend(site, 1)

    def lost(*args: Any) -> None:
        raise ConnectionRefusedError("no mail server")

    with monkeypatch.context() as patch:
        patch.setattr(spend_cap_alerts, "send_mail", lost)
        assert spend_cap_alerts.alert_of_spend_caps(now=NOON) == 0
    assert SpendCap.objects.get().day_alerted == 0
    assert len(alerts()) == 1


def test_of_two_tasks_at_once_one_tells(site: Site, monkeypatch: Any) -> None:
    cap(site, day=1)
    spend(site, 1)
    stale = spend_cap_alerts._caps_due()
    monkeypatch.setattr(spend_cap_alerts, "_caps_due", lambda: stale)
    sent = [spend_cap_alerts.alert_of_spend_caps(now=NOON) for _ in range(2)]
    assert sent == [1, 0]


def test_lists_what_is_half_used_and_the_fullest_first(site: Site, stranger: Site) -> None:
    cap(site, day=10, month=16)
    spend(site, 4)
    assert spend_caps.list_half_used(account_id=site.account_id, now=NOON) == []
    spend(site, 4)
    found = spend_caps.list_half_used(account_id=site.account_id, now=NOON)
    assert [(spending.period, spending.percent) for _, spending in found] == [
        ("day", 80),
        ("month", 50),
    ]
    assert spend_caps.list_half_used(account_id=stranger.account_id, now=NOON) == []
