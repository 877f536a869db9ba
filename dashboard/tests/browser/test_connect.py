"""Connect, Playground, and API reference in a real browser: what only scripts can do."""

from __future__ import annotations

from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.urls import reverse
from playwright.sync_api import expect

from channels.models import ApiKey, User
from channels.tests.factories import Site, make_site
from conversations.models import ChatSession
from dashboard.tests.browser.visitors import LOOKS, PASSWORD, NewVisitor, Watched, shoot
from tests.support.fake_provider import FakeProvider

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def shop() -> Site:
    site = make_site()
    owner = User.objects.get(email="owner@example.com")
    owner.set_password(PASSWORD)
    owner.save()
    EmailAddress.objects.update_or_create(
        user=owner, email=owner.email, defaults={"verified": True, "primary": True}
    )
    return site


@pytest.fixture
def owner(visitor: NewVisitor, shop: Site) -> Watched:
    return visitor(email="owner@example.com")


def path_to(name: str, site: Site) -> str:
    return reverse(f"console:{name}", args=(site.channel.id,))


def test_a_free_conversation_streams_and_says_what_it_took(owner: Watched, shop: Site) -> None:
    page = owner.open(path_to("playground", shop))
    page.fill("#message", "Hello! What can you do?")
    page.press("#message", "Enter")
    took = page.locator(".gw-bubble-meta").first
    expect(took).to_contain_text("credits: 0 charged, 100 left")
    expect(took).to_contain_text("by demo")
    expect(page.locator(".gw-bubble-assistant")).to_contain_text("message 1 of this conversation")
    page.fill("#message", "And then?")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".gw-bubble-assistant").last).to_contain_text("message 2 of this")
    session = ChatSession.objects.get()
    assert page.locator("[data-session]").inner_text() == session.session_id
    page.get_by_text("As cURL").first.click()
    expect(page.locator(".gw-chat pre").first).to_contain_text("YOUR_TEST_KEY")
    owner.assert_clean()


@pytest.mark.usefixtures("connected")
def test_the_paid_mode_is_chosen_and_named(
    owner: Watched, shop: Site, provider: FakeProvider
) -> None:
    page = owner.open(path_to("playground", shop))
    before = page.locator("[data-session]").inner_text()
    page.get_by_role("radio", name="Paid").check()
    assert page.locator("[data-session]").inner_text() != before
    expect(page.locator("#simulate")).to_be_hidden()
    page.fill("#message", "Hello!")
    page.get_by_role("button", name="Send and pay").click()
    expect(page.locator(".gw-bubble-meta")).to_contain_text("credits: 1 charged, 99 left")
    owner.assert_clean()


def test_a_broken_stream_and_a_refusal_are_told_in_words(owner: Watched, shop: Site) -> None:
    page = owner.open(path_to("playground", shop))
    page.select_option("#simulate", "midstream_error")
    page.fill("#message", "Hello!")
    page.press("#message", "Enter")
    expect(page.locator(".gw-bubble-bad")).to_contain_text("broke off its answer")
    page.select_option("#simulate", "rate_limited")
    page.fill("#message", "Hello!")
    page.press("#message", "Enter")
    expect(page.locator(".gw-bubble-meta").last).to_contain_text("try again in 30 s")
    owner.expect_error("429")


@pytest.mark.usefixtures("connected")
def test_keys_are_tried_with_one_click_or_two(
    owner: Watched, shop: Site, provider: FakeProvider
) -> None:
    page = owner.open(path_to("connect", shop))
    page.get_by_role("button", name="Test this key (free)").click()
    expect(page.locator(".gw-test-result .gw-alert")).to_contain_text("0 charged, 100 left")
    live = ApiKey.objects.get(mode="live")
    page.locator(f"[data-dialog='#test-{live.id}']").click()
    expect(page.get_by_role("dialog")).to_contain_text("1 credit per reply")
    page.get_by_role("button", name="Send paid message").click()
    expect(page.locator(f"#test-{live.id}-result")).to_contain_text("1 charged, 99 left")
    owner.assert_clean()


def test_a_revealed_key_is_in_all_the_code_at_once(owner: Watched, shop: Site) -> None:
    page = owner.open(path_to("connect", shop))
    page.locator("[data-reveal]").first.click()
    expect(page.locator("[data-api-key]").first).to_have_text(shop.api_key)
    assert set(page.locator("[data-api-key]").all_inner_texts()) <= {shop.api_key, ""}
    page.get_by_role("tab", name="PHP").click()
    page.locator("#connect-php .gw-copy").first.click()
    copied: Any = page.evaluate("navigator.clipboard.readText()")
    assert f"const API_KEY = '{shop.api_key}';" in copied
    page.locator("[data-reveal]").first.click()
    expect(page.locator("[data-api-key]").first).to_have_text("YOUR_API_KEY")
    owner.assert_clean()


def test_tabs_are_reached_with_the_keyboard(owner: Watched, shop: Site) -> None:
    page = owner.open(path_to("connect", shop))
    page.get_by_role("tab", name="cURL").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="JavaScript")).to_be_focused()
    expect(page.locator("#connect-javascript")).to_be_visible()
    expect(page.locator("#connect-curl")).to_be_hidden()


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_it_looks_right(visitor: NewVisitor, shop: Site, width: int, look: str) -> None:
    watched = visitor(width=width, look=look, email="owner@example.com")
    for name in ("connect", "playground"):
        watched.open(path_to(name, shop))
        shoot(watched, name, width=width, look=look)
    watched.open("/docs/")
    shoot(watched, "docs", width=width, look=look)
    watched.assert_clean()
