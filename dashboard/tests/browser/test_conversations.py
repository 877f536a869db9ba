"""Conversations in a browser: two panes, the keyboard, thumbs, and a phone."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.utils import timezone
from playwright.sync_api import Page, expect

from channels.tests.factories import Site
from conversations.models import ChatSession, Feedback, Message
from dashboard.tests.browser.test_journeys import site_with_people
from dashboard.tests.browser.visitors import LOOKS, NewVisitor, serious_findings, shoot
from tests.support.clients import ApiClient, account_page
from tests.support.fake_provider import FakeProvider, reply

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

QUESTIONS = ("Where is my parcel?", "Do you deliver to Norway?", "Can I pay by invoice?")
ANSWER = """Yes. Three things matter:

- the **weight**, up to `30 kg`
- the address

### Prices

| Country | Days |
|---|---|
| Norway | 4 |

Anything else?"""


@pytest.fixture
def site(transactional_db: None, provider: FakeProvider) -> Site:
    """Return a site with three conversations, the first question's latest."""
    made = site_with_people()
    for number, question in enumerate(reversed(QUESTIONS)):
        provider.script.append(reply(ANSWER))
        metadata = {"url": "https://shop.example/orders"}
        ApiClient(made.api_key).chat(question, session_id=f"s{number}", metadata=metadata)
    for age, session in enumerate(ChatSession.objects.order_by("-id")):
        earlier = timedelta(hours=50 * age)
        ChatSession.objects.filter(pk=session.pk).update(
            last_message_at=F("last_message_at") - earlier
        )
    return made


def title(page: Page) -> Any:
    return page.locator("#transcript").get_by_role("heading", level=2)


def link(page: Page, question: str) -> Any:
    return page.locator("#talks").get_by_role("link", name=question)


def test_two_panes_share_the_address_and_the_keyboard(visitor: NewVisitor, site: Site) -> None:
    watched = visitor(email="owner@example.com")
    filters = "?text=pa"  # matches “parcel” and “pay”
    page = watched.open(account_page(site, f"conversations/{filters}"))
    expect(page.locator("#transcript")).to_contain_text("Choose a conversation")
    page.keyboard.press("j")
    expect(link(page, "parcel")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(link(page, "invoice")).to_be_focused()
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(title(page)).to_have_text("Where is my parcel?")
    session = Message.objects.get(content="Where is my parcel?").session_id
    expect(page).to_have_url(re.compile(rf"/conversations/{session}/\?text=pa$"))
    expect(link(page, "parcel")).to_have_attribute("aria-current", "true")
    # The list stays, and the keys go on from where they were.
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(title(page)).to_have_text("Can I pay by invoice?")
    page.go_back()
    expect(title(page)).to_have_text("Where is my parcel?")
    # The address alone brings both panes back.
    page.reload()
    expect(title(page)).to_have_text("Where is my parcel?")
    expect(link(page, "parcel")).to_have_attribute("aria-current", "true")
    expect(page.locator("[data-talk]")).to_have_count(2)
    # Somebody who types is left alone.
    page.get_by_role("searchbox", name="Search").press_sequentially("jk")
    expect(page.get_by_role("searchbox", name="Search")).to_have_value("jkpa")
    watched.assert_clean()


def test_a_thumb_takes_one_click_and_a_note_comes_after(visitor: NewVisitor, site: Site) -> None:
    watched = visitor(email="owner@example.com")
    page = watched.open(account_page(site, "conversations/"))
    link(page, "Norway").click()
    like, dislike = (
        page.get_by_role("button", name=f"{word} this reply", exact=True)
        for word in ("Like", "Dislike")
    )
    like.click()
    expect(like).to_have_attribute("aria-pressed", "true")
    assert Feedback.objects.get().rating == 1
    dislike.click()
    expect(dislike).to_have_attribute("aria-pressed", "true")
    expect(like).to_have_attribute("aria-pressed", "false")
    page.get_by_text("Add a note").click()
    page.get_by_label("Note for your team").fill("Too long")
    page.get_by_role("button", name="Save note").click()
    expect(page.get_by_text("Saved your feedback")).to_be_visible()
    assert (Feedback.objects.get().rating, Feedback.objects.get().note) == (-1, "Too long")
    expect(page.locator(".gw-note")).to_have_text("Too long")
    page.get_by_role("button", name="Dislike this reply").click()
    expect(page.get_by_role("button", name="Dislike this reply")).to_have_attribute(
        "aria-pressed", "false"
    )
    assert Feedback.objects.get().rating == 0
    watched.assert_clean()


def test_a_phone_shows_the_list_then_the_transcript(visitor: NewVisitor, site: Site) -> None:
    watched = visitor(width=390, email="owner@example.com")
    page = watched.open(account_page(site, "conversations/?text=pa"))
    expect(page.locator("#transcript")).to_be_hidden()
    link(page, "invoice").click()
    expect(title(page)).to_have_text("Can I pay by invoice?")
    expect(page.locator("#talks")).to_be_hidden()
    # The page's own title is only for those who cannot see.
    head = page.locator(".gw-page-head")
    assert head.evaluate("head => head.offsetHeight + head.offsetWidth") <= 2
    page.get_by_role("link", name="All conversations").click()
    expect(page.locator("[data-talk]")).to_have_count(2)
    expect(page.get_by_role("searchbox", name="Search")).to_have_value("pa")
    watched.assert_clean()


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_they_look_right(visitor: NewVisitor, site: Site, width: int, look: str) -> None:
    reply_of = Message.objects.filter(role="assistant").latest("created_at")
    Feedback.objects.create(message=reply_of, rating=1, note="Good", updated_at=timezone.now())
    watched = visitor(width=width, look=look, email="owner@example.com")
    page = watched.open(account_page(site, "conversations/"))
    expect(link(page, "parcel")).to_be_visible()
    shoot(watched, "talks", width=width, look=look)
    assert serious_findings(page) == []
    link(page, "parcel").click()
    expect(title(page)).to_have_text("Where is my parcel?")
    shoot(watched, "talk", width=width, look=look)
    assert serious_findings(page) == []
    watched.assert_clean()
