"""The overview: figures that match the ledger, few queries, switches, the checklist."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db.models import Sum
from django.utils import timezone

from billing import grants
from billing.balance import get_balance, get_runway
from billing.models import CreditAccount, Hold, LedgerEntry
from channels import accounts, api_keys, channel_changes, key_uses
from channels.audit import COMMAND_LINE
from channels.models import Account, AuditEntry, Channel, User
from channels.tests.factories import Site, make_site
from conversations.models import FailedRequest, Message
from conversations.usage.activity import list_activity
from tests.support.clients import (
    UNKNOWN,
    ApiClient,
    account_page,
    assert_same_404,
    log_in,
    member_client,
    owner_client,
    page_of,
    staff_guest,
)
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db


def text_of(client: Any, path: str = "/") -> str:
    response = client.get(path)
    assert response.status_code == 200
    return re.sub(r"\s+", " ", response.content.decode())


def without_links(client: Any) -> str:
    return re.sub(r"</?a\b[^>]*>", "", text_of(client))


def fail(site: Site, *, is_test: bool = False, days_ago: int = 0) -> None:
    FailedRequest.objects.create(
        channel=site.channel,
        is_test=is_test,
        error_code="provider_error",
        created_at=timezone.now() - timedelta(days=days_ago),
    )


# --- Figures --------------------------------------------------------------------------------------


def test_a_cards_figures_equal_the_ledger(
    site: Site, stranger: Site, provider: FakeProvider, clock: time_machine.Traveller
) -> None:
    api, theirs = ApiClient(site.api_key), ApiClient(stranger.api_key)
    api.chat(session_id="yesterday")
    clock.shift(timedelta(days=1))
    for number in range(3):
        assert api.chat(session_id=f"s{number}").status_code == 200
    ApiClient(site.test_key).chat()
    theirs.chat()
    now = timezone.now()
    activity = list_activity(channel_ids=[site.channel.id], now=now)[site.channel.id]
    today = LedgerEntry.objects.filter(
        credit_account_id=site.account_id, kind="charge", created_at__date=now.date()
    )
    assert (
        activity.charged_today_microcredits
        == today.aggregate(sum=Sum("amount_microcredits"))["sum"]
    )
    assert activity.requests_by_day == (0, 0, 0, 0, 0, 1, 3)
    page = without_links(owner_client(site))
    assert "<dt>Answered today</dt><dd>3</dd>" in page
    assert "<dt>Credits today</dt><dd>3</dd>" in page
    assert "0, 0, 0, 0, 0, 1, 3" in page
    assert "last used" in page


def test_days_are_those_of_utc_to_the_microsecond(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    for moment in ("2026-04-04T23:59:59.999999Z", "2026-04-05T00:00:00Z"):
        with time_machine.travel(moment, tick=False):
            assert api.chat(session_id=moment).status_code == 200
    now = datetime(2026, 4, 5, 12, tzinfo=UTC)
    activity = list_activity(channel_ids=[site.channel.id], now=now)[site.channel.id]
    assert activity.requests_by_day[-2:] == (1, 1)


def test_errors_of_today_are_those_of_live_traffic(site: Site) -> None:
    fail(site)
    fail(site)
    fail(site, is_test=True)
    fail(site, days_ago=1)
    assert "<dt>Errors today</dt><dd>2</dd>" in without_links(owner_client(site))


def test_a_page_of_many_channels_takes_few_queries(
    site: Site, provider: FakeProvider, django_assert_max_num_queries: Any
) -> None:
    client = owner_client(site)
    account = Account.objects.get(id=site.account_id)
    for number in range(30):
        channel = channel_changes.create_channel(account=account, name=f"Shop {number:02}")
        api_keys.issue_api_key(channel=channel, is_test=False)
    ApiClient(site.api_key).chat()
    client.get("/")
    for query in ("", "?sort=name&page=2", "?q=shop"):
        with django_assert_max_num_queries(15):
            assert client.get(account_page(site, query)).status_code == 200


def test_channels_are_paginated_searched_and_sorted(site: Site, provider: FakeProvider) -> None:
    account = Account.objects.get(id=site.account_id)
    for number in range(25):
        channel_changes.create_channel(account=account, name=f"Blog {number:02}")
    client = owner_client(site)
    ApiClient(site.api_key).chat()
    shown = re.findall(r'<button class="gw-switch" role="switch"', text_of(client))
    assert len(shown) == 24
    assert text_of(client).index(">Shop<") < text_of(client).index(">Blog 24<")
    assert ">Blog 00<" in text_of(client, "/?sort=name")
    assert ">Shop<" not in text_of(client, "/?sort=name")
    assert ">Shop<" in text_of(client, "/?sort=name&page=2")
    found = text_of(client, "/?q=SHO")
    assert ">Shop<" in found
    assert ">Blog" not in found
    assert "No channel has “&lt;b&gt;”" in text_of(client, "/?q=<b>")
    for odd in ("/?page=x", "/?page=-1", "/?page=9999", "/?sort=evil", "/?q=%00"):
        assert client.get(odd).status_code in (200, 400), odd


def test_a_stranger_sees_none_of_it(site: Site, stranger: Site) -> None:
    page = text_of(owner_client(stranger))
    assert str(site.channel.id) not in page
    assert ">Shop<" not in page


# --- Balance --------------------------------------------------------------------------------------


def charge(site: Site, *, amount: int, days_ago: float) -> None:
    """Write a charge to the ledger as a capture would."""
    row = CreditAccount.objects.get(account_id=site.account_id)
    row.balance_microcredits -= amount * 10**6
    row.spent_microcredits += amount * 10**6
    row.entry_count += 1
    row.save()
    LedgerEntry.objects.create(
        credit_account=row,
        sequence=row.entry_count,
        kind="charge",
        debit="customer",
        credit="revenue",
        amount_microcredits=amount * 10**6,
        balance_after_microcredits=row.balance_microcredits,
        reason="test",
        created_at=timezone.now() - timedelta(days=days_ago),
    )


@pytest.fixture
def old_site(clock: time_machine.Traveller, db: None) -> Site:
    """A site that was granted its first 100 credits a month ago."""
    site = make_site()
    clock.shift(timedelta(days=30))
    return site


def test_the_runway_is_that_of_the_last_seven_days(old_site: Site) -> None:
    # Before the first of the seven UTC days, and on that day, because it is noon now.
    charge(old_site, amount=10, days_ago=6.6)
    charge(old_site, amount=14, days_ago=6.4)
    # 76 credits, spent at 14 in six and a half days, last for 35 days from 5 May.
    page = text_of(owner_client(old_site))
    assert "Lasts until about 9 June at the pace of the last 7 days." in page
    assert '">76</a></span>' in page


@pytest.mark.parametrize(
    ("spent", "words"),
    [
        ([], "Nothing was spent in the last 7 days."),
        ([(1, 6)], "Lasts until about February 2028 at the pace of the last 7 days."),
        ([(95, 1)], "Lasts until later today at the pace of the last 7 days."),
        ([(100, 1)], "Used up: channels answer “credits_exhausted” until credits are added."),
    ],
)
def test_sensible_words_for_every_pace(
    old_site: Site, spent: list[tuple[int, int]], words: str
) -> None:
    for amount, days_ago in spent:
        charge(old_site, amount=amount, days_ago=days_ago)
    assert words in text_of(owner_client(old_site))


def test_the_last_seven_days_are_those_of_the_page_usage(
    old_site: Site, provider: FakeProvider, clock: time_machine.Traveller
) -> None:
    now = timezone.now()
    for hours in (169, 167, 6.5 * 24 + 1, 6.5 * 24, 6.5 * 24 - 1, 1):
        clock.move_to(now - timedelta(hours=hours))
        assert ApiClient(old_site.api_key).chat(session_id=str(hours)).status_code == 200
    clock.move_to(now)
    client = owner_client(old_site)
    overview, usage = client.get("/"), client.get("/usage/?range=7d")
    assert overview.context["spent"] == usage.context["report"].total.credits == "3"
    days = usage.context["report"].times
    (card,) = overview.context["cards"]
    assert card.activity.requests_by_day == tuple(line.reply_count for line in days)
    assert "UTC days, including today." in overview.content.decode()


def test_a_very_long_runway_names_no_date(old_site: Site) -> None:
    account = Account.objects.get(id=old_site.account_id)
    grants.grant_credits(account=account, amount_microcredits=10**12, reason="much")
    charge(old_site, amount=1, days_ago=1)
    assert "Lasts for more than two years at the pace of the last 7 days." in text_of(
        owner_client(old_site)
    )


def test_a_new_account_is_judged_by_its_own_days(clock: time_machine.Traveller, site: Site) -> None:
    clock.shift(timedelta(days=2))
    charge(site, amount=20, days_ago=1)
    assert "Lasts until about 15 April at the pace of the last 2 days." in text_of(
        owner_client(site)
    )


def test_a_very_new_account_is_judged_by_a_day(clock: time_machine.Traveller, site: Site) -> None:
    clock.shift(timedelta(hours=2))
    charge(site, amount=30, days_ago=0)
    now = timezone.now()
    balance = get_balance(account_id=site.account_id, now=now)
    runway = get_runway(balance=balance, now=now)
    assert (runway.spent_microcredits, runway.span) == (30_000_000, timedelta(days=1))
    # 70 credits, spent at 30 a day, last for two and a third days.
    assert "Lasts until about 7 April at the pace of the last 24 hours." in text_of(
        owner_client(site)
    )


def test_an_account_without_credits_is_told_so() -> None:
    site = make_site(credit_amount=0)
    client = owner_client(site)
    page = text_of(client)
    assert "No credits have been granted yet." in page
    assert "This account has no credits yet" in page
    assert "Redeem a code" in page


def test_warnings_stand_above(site: Site) -> None:
    client = owner_client(site)
    assert "running low" not in text_of(client)
    CreditAccount.objects.update(low_balance_microcredits=101_000_000)
    assert "100 left, below your warning threshold of 101" in text_of(client)
    channel_changes.update_channel(channel_id=str(site.channel.id), is_enabled=False)
    assert "1 channel is switched off and answers “site_disabled”" in text_of(client)
    Account.objects.update(is_enabled=False)
    assert "This account is disabled" in text_of(client)
    CreditAccount.objects.update(balance_microcredits=999_999)
    assert "The credits are used up" in text_of(client)


def test_requests_over_the_limit_are_told(site: Site, provider: FakeProvider) -> None:
    Channel.objects.filter(id=site.channel.id).update(requests_per_minute=1)
    statuses = [ApiClient(site.api_key).chat().status_code for _ in range(3)]
    assert statuses == [200, 429, 429]
    key_uses.write_all()
    page = without_links(owner_client(site))
    words = f"2 requests to {site.channel.name} were refused in the last 24 hours"
    assert f"{words}: they were over the limit of 1 a minute. Change the limit" in page
    viewer = without_links(member_client(site, "viewer"))
    assert words in viewer
    assert "Change the limit" not in viewer


def test_what_calls_in_flight_hold_is_shown_until_it_has_expired(site: Site) -> None:
    now = timezone.now()
    CreditAccount.objects.update(held_microcredits=3_000_000)
    for amount, ends_in in ((1_000_000, 60), (2_000_000, -1)):
        Hold.objects.create(
            account_id=site.account_id,
            channel=site.channel,
            is_test=False,
            day=now.date(),
            amount_microcredits=amount,
            created_at=now,
            expires_at=now + timedelta(seconds=ends_in),
        )
    balance = get_balance(account_id=site.account_id, now=now)
    assert (balance.available, balance.held) == (99_000_000, 1_000_000)


def test_credits_that_have_ended_are_not_shown(site: Site, clock: time_machine.Traveller) -> None:
    account = Account.objects.get(id=site.account_id)
    grants.grant_credits(
        account=account,
        amount_microcredits=5_000_000,
        reason="promotion",
        expires_at=timezone.now() + timedelta(days=3),
    )
    client = owner_client(site)
    assert "Some of them end on 8 Apr 2026 (UTC)." in text_of(client)
    clock.shift(timedelta(days=4))
    page = text_of(owner_client(site))
    assert '">100</a></span>' in page
    assert "Some of them end" not in page


# --- Switch ---------------------------------------------------------------------------------------


def test_the_switch_works_at_once_and_is_audited(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    client = owner_client(site)
    for _ in range(2):  # sent twice, it stays off
        answer = client.post(
            page_of(site, "switch/"), {"is_enabled": "off"}, headers={"accept": "application/json"}
        )
        assert answer.json() == {"is_enabled": False}
    assert api.chat().json()["code"] == "site_disabled"
    assert AuditEntry.objects.filter(action="channel.updated").count() == 1
    response = client.post(page_of(site, "switch/"), {"is_enabled": "on"})
    assert response["Location"] == account_page(site)
    response = client.post(page_of(site, "switch/"), {"is_enabled": "on", "settings": "1"})
    assert response["Location"] == page_of(site)
    assert api.chat().status_code == 200
    assert client.post(page_of(site, "switch/"), {"is_enabled": "maybe"}).status_code == 400
    assert client.get(page_of(site, "switch/"))["Location"] == page_of(site)


def test_who_may_not_edit_has_no_switch(site: Site, stranger: Site) -> None:
    for client in (member_client(site, "viewer"), staff_guest(site)):
        page = text_of(client)
        assert 'role="switch"' not in page
        assert "data-key-copy" not in page
        assert "Hide this list" not in page
        assert client.post(page_of(site, "switch/"), {"is_enabled": "off"}).status_code == 403
        assert client.post("/checklist/dismiss/").status_code == 403
    assert_same_404(
        owner_client(stranger),
        "switch",
        page_of(site, "switch/"),
        f"/channels/{UNKNOWN}/switch/",
        is_enabled="off",
    )
    assert Channel.objects.get(id=site.channel.id).is_enabled


# --- Checklist ------------------------------------------------------------------------------------


def done_in(page: str) -> list[str]:
    return re.findall(
        r"(?:Create a channel|Copy its key|Make the first call)<span[^>]*> \(done\)", page
    )


def test_the_checklist_ticks_itself_and_goes_away(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    Channel.objects.filter(id=site.channel.id).update(name="First")
    client = owner_client(site)
    page = text_of(client)
    assert len(done_in(page)) == 1
    # The next step is a button, the one after it a link, both to the page with key and command.
    assert page.count(f'href="{page_of(site, "start/")}"') == 2
    assert page.index("Getting started") < page.index("Needs attention")
    key = site.channel.api_keys.get(mode="live")
    client.post(page_of(site, f"keys/{key.id}/show/"), {"copy": "1"})
    assert len(done_in(text_of(client))) == 2
    api.chat()
    assert "Getting started" not in text_of(client)


def test_the_checklist_can_be_hidden_once_for_all(site: Site) -> None:
    client = owner_client(site)
    assert "Getting started" in text_of(client)
    for _ in range(2):
        assert client.post("/checklist/dismiss/")["Location"] == account_page(site)
    assert "Getting started" not in text_of(client)
    assert AuditEntry.objects.filter(action="checklist.dismissed").count() == 1


def test_an_account_without_channels_is_led_to_its_first() -> None:
    account = accounts.ensure_account(owner_email="new@example.com")
    client = log_in(User.objects.get(email="new@example.com"))
    page = text_of(client)
    assert page.count(f'href="/a/{account.id}/channels/new/"') == 1
    assert done_in(page) == []
    # Nothing has happened, so there is nothing else to read.
    for heading in ("Needs attention", "Held for calls in progress", "No channel yet"):
        assert heading not in page
    viewer = User.objects.create_user("viewer@example.com")
    account.memberships.create(user=viewer, role="viewer")
    page = text_of(log_in(viewer))
    assert "No channel yet" in page
    assert "/channels/new/" not in page
    client.post("/checklist/dismiss/")
    page = text_of(client)
    assert "No channel yet" in page
    assert f'href="/a/{account.id}/channels/new/"' in page
    assert Message.objects.count() == 0


def test_the_key_on_the_card_is_masked_and_the_newest(site: Site) -> None:
    key = site.channel.api_keys.get(mode="live")
    issued = api_keys.rotate_api_key(api_key=key, overlap=timedelta(hours=1), actor=COMMAND_LINE)
    page = text_of(owner_client(site))
    assert issued.record.masked in page
    assert site.api_key not in page
    assert issued.clear not in page
    api_keys.revoke_api_key(api_key=issued.record)
    assert key.masked in text_of(owner_client(site))


def test_small_charts_of_channels_share_one_scale(site: Site, api: ApiClient) -> None:
    for number in range(4):
        api.chat(session_id=f"s{number}")
    quiet = make_site(name="Quiet")
    ApiClient(quiet.api_key).chat()
    cards = owner_client(site).get(account_page(site)).context["cards"]
    heights = {
        card.channel.name: max(
            float(found) for found in re.findall(r'height="([\d.]+)"', str(card.chart))
        )
        for card in cards
    }
    assert heights["Shop"] == 4 * heights["Quiet"]
