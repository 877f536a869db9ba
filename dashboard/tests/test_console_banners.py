"""The banners on every page of the console: why nobody gets answers, and who answers."""

from __future__ import annotations

import re
from typing import Any

import pytest

from billing.models import CreditAccount
from channels.models import Account, Membership
from channels.tests.factories import Site, make_site
from tests.support.clients import ApiClient, member_client, owner_client, page_of, staff_guest

pytestmark = pytest.mark.django_db

PAGES = ["/", "/usage/", "/conversations/", "/credits/", "/team/", "/audit-log/", "/channels/new/"]
CHANNEL_PAGES = ["", "prompt/", "keys/", "own-answers/", "connect/", "playground/"]


def text_of(client: Any, path: str) -> str:
    response = client.get(path, follow=True)
    assert response.status_code == 200
    return re.sub(r"\s+", " ", response.content.decode())


@pytest.fixture
def connected(settings: Any) -> None:
    """An installation whose channels are answered by a provider."""
    settings.PROVIDER_BASE_URL = "http://llm.example/v1"


def all_pages(site: Site) -> list[str]:
    return PAGES + [page_of(site, rest) for rest in CHANNEL_PAGES]


def test_every_page_says_that_the_account_is_disabled(site: Site) -> None:
    client = owner_client(site)
    assert all("This account is disabled" not in text_of(client, page) for page in all_pages(site))
    Account.objects.update(is_enabled=False)
    for page in all_pages(site):
        assert text_of(client, page).count("This account is disabled") == 1, page


def test_every_page_says_that_the_credits_are_used_up(site: Site, connected: None) -> None:
    client = owner_client(site)
    CreditAccount.objects.update(balance_microcredits=999_999)
    for page in all_pages(site):
        text = text_of(client, page)
        assert text.count("The credits are used up: the remaining 0.999999") == 1, page
        assert "Redeem a code</a>" in text, page
        assert "ask for credits</a>" in text, page


def test_every_page_says_that_there_never_were_credits(connected: None) -> None:
    site = make_site(credit_amount=0)
    client = member_client(site, Membership.Role.VIEWER)
    for page in set(all_pages(site)) - {"/channels/new/"}:
        text = text_of(client, page)
        assert text.count("This account has no credits yet.") == 1, page
        assert "An owner of the account can redeem a code or ask for credits." in text, page


def test_staff_who_look_at_an_account_read_the_same(site: Site) -> None:
    Account.objects.update(is_enabled=False)
    assert "This account is disabled" in text_of(staff_guest(site), page_of(site, "prompt/"))


def test_a_strangers_empty_account_is_not_spoken_of(
    site: Site, stranger: Site, connected: None
) -> None:
    CreditAccount.objects.filter(account_id=stranger.account_id).update(balance_microcredits=0)
    Account.objects.filter(id=stranger.account_id).update(is_enabled=False)
    text = text_of(owner_client(site), "/usage/")
    assert "used up" not in text
    assert "account is disabled" not in text


def test_the_api_answers_as_before(site: Site, connected: None) -> None:
    CreditAccount.objects.update(balance_microcredits=0)
    assert ApiClient(site.api_key).chat().json()["code"] == "credits_exhausted"


def test_owners_read_who_answers_and_that_it_is_free(site: Site) -> None:
    client = owner_client(site)
    for page in all_pages(site):
        text = text_of(client, page)
        assert text.count("No AI provider is connected yet. Replies come") == 1
        assert "PROVIDER_BASE_URL" not in text, page
        assert "/admin/channels/provider/" not in text, page


def test_staff_are_led_to_where_a_provider_is_connected(site: Site) -> None:
    assert "/admin/channels/provider/" in text_of(staff_guest(site), "/")


def test_nothing_is_said_of_the_demo_once_a_provider_answers(site: Site, connected: None) -> None:
    client = owner_client(site)
    assert all("Replies come from the" not in text_of(client, page) for page in all_pages(site))
