"""The frame of the console: where one is, what the account has, and the list of channels."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.urls import reverse

from billing.models import CreditAccount
from channels import channel_changes
from channels.models import Account, Membership
from channels.tests.factories import Site, make_site
from tests.support.clients import (
    ApiClient,
    account_page,
    member_client,
    owner_client,
    page_of,
    staff_guest,
    text_of,
)
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 8, 20, 12, tzinfo=UTC)
ACCOUNT_PAGES = ["", "channels/", "usage/", "requests/", "conversations/", "credits/", "team/"]
CHANNEL_PAGES = ["", "prompt/", "keys/", "own-answers/", "spend-caps/", "connect/", "playground/"]


def part(text: str, start: str, end: str) -> str:
    """Return the one part of a page between two marks."""
    (found,) = re.findall(re.escape(start) + "(.*?)" + re.escape(end), text)
    return str(found)


def where(text: str) -> str:
    """Return the words of the trail at the top."""
    trail = part(text, 'aria-label="Where you are">', "</nav>")
    return " ".join(
        re.sub(r"<[^>]+>", " ", re.sub(r"<span class=\"mat.*?</span>", "", trail)).split()
    )


def card(text: str) -> str:
    return part(text, 'class="gw-credits"', "</a>")


# --- Where one is ---------------------------------------------------------------------------------


def test_every_page_says_which_account_and_channel_it_is_of(site: Site) -> None:
    client = owner_client(site)
    Account.objects.update(name="Anna's shops")
    for rest in ACCOUNT_PAGES:
        assert where(text_of(client.get(account_page(site, rest)))) == "Anna&#x27;s shops", rest
    for rest in CHANNEL_PAGES:
        text = text_of(client.get(page_of(site, rest)))
        assert where(text) == f"Anna&#x27;s shops / {site.channel.name}", rest
        assert part(text, "<h1", "</h1>").endswith(f">{site.channel.name}"), rest


def test_a_page_has_one_heading_of_the_first_level(site: Site) -> None:
    client = owner_client(site)
    paths = [account_page(site, rest) for rest in ACCOUNT_PAGES]
    for path in paths + [page_of(site, rest) for rest in CHANNEL_PAGES]:
        assert text_of(client.get(path)).count("<h1") == 1, path


def test_a_channels_head_has_its_switch_and_leads_to_connect(site: Site) -> None:
    switch = f'action="{reverse("console:switch_channel", args=[site.channel.id])}" data-switch'
    text = text_of(owner_client(site).get(page_of(site, "prompt/")))
    assert switch in text
    connect = f'class="gw-btn gw-btn-primary" href="{page_of(site, "connect/")}"'
    # It is a button only, not a tab as well.
    assert text.count(f'href="{page_of(site, "connect/")}"') == text.count(connect) == 1
    there = text_of(owner_client(site).get(page_of(site, "connect/")))
    assert f'{connect} aria-current="page"' in there
    assert 'class="gw-tab" aria-current' not in there
    viewer = member_client(site, Membership.Role.VIEWER)
    assert switch not in text_of(viewer.get(page_of(site, "prompt/")))
    assert switch not in text_of(staff_guest(site).get(page_of(site, "prompt/")))


# --- Channels -------------------------------------------------------------------------------------


def test_channels_are_a_page_of_their_own(site: Site, stranger: Site) -> None:
    channel_changes.create_channel(
        account=site.channel.account, name="Second shop", model_id=site.channel.model.model_id
    )
    client = owner_client(site)
    path = account_page(site, "channels/")
    text = text_of(client.get(path))
    assert f'href="{path}" aria-current="page"' in text
    assert f'href="{page_of(site)}"' in text
    assert "Second shop" in text
    assert str(stranger.channel.id) not in text
    found = text_of(client.get(f"{path}?q=second"))
    assert "Second shop" in found
    assert f'href="{page_of(site)}"' not in found
    assert client.get("/channels/", follow=True).redirect_chain == [(path, 302)]
    assert client.get(account_page(stranger, "channels/")).status_code == 404


def test_a_channels_pages_belong_to_channels_in_the_menu(site: Site) -> None:
    client = owner_client(site)
    marked = f'href="{account_page(site, "channels/")}" aria-current="page"'
    for path in (page_of(site, "keys/"), account_page(site, "channels/new/")):
        text = text_of(client.get(path))
        assert marked in text, path
        assert f'href="{account_page(site)}" aria-current="page"' not in text, path


# --- Credits at the foot of the menu --------------------------------------------------------------


@time_machine.travel(NOON, tick=False)
def test_the_card_says_how_long_the_credits_last(provider: FakeProvider) -> None:
    site = make_site(credit_amount=8)
    client = owner_client(site)
    assert "8 " in card(text_of(client.get(account_page(site, "team/"))))
    assert "No use in 7 days" in card(text_of(client.get(account_page(site, "team/"))))
    ApiClient(site.api_key).chat("one")
    text = card(text_of(client.get(account_page(site, "team/"))))
    assert f'href="{account_page(site, "credits/")}"' in text
    assert "7 " in text
    assert "Lasts until 27 Aug" in text
    assert 'aria-valuenow="7"' in text


def test_the_card_says_when_nothing_is_left(site: Site) -> None:
    CreditAccount.objects.update(balance_microcredits=0)
    text = card(text_of(owner_client(site).get(account_page(site, "usage/"))))
    assert "Used up" in text
    assert 'aria-valuenow="0"' in text


def test_a_strangers_credits_are_not_in_the_card(site: Site, stranger: Site) -> None:
    CreditAccount.objects.filter(account_id=stranger.account_id).update(
        balance_microcredits=777_000_000
    )
    for client in (owner_client(site), staff_guest(site)):
        assert "777" not in card(text_of(client.get(account_page(site, "usage/"))))


# --- The frame stays cheap ------------------------------------------------------------------------


def test_no_page_of_the_console_takes_many_statements(
    site: Site, provider: FakeProvider, django_assert_max_num_queries: Any
) -> None:
    for number in range(40):
        channel_changes.create_channel(
            account=site.channel.account,
            name=f"Shop {number}",
            model_id=site.channel.model.model_id,
        )
    ApiClient(site.api_key).chat("one")
    client: Client = owner_client(site)
    # Requests and usage have tests of their own with real transactions, where they take 15. In a
    # test's transaction they look for a provider once more (channels/routes.py).
    own = ("requests/", "usage/")
    paths = [account_page(site, rest) for rest in ACCOUNT_PAGES if rest not in own]
    for path in paths + [page_of(site, rest) for rest in CHANNEL_PAGES]:
        client.get(path)
        with django_assert_max_num_queries(15):
            assert client.get(path).status_code == 200, path
