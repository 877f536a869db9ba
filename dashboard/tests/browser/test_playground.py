"""The playground in a browser: it fills the window, renders replies, and keeps the talk."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from channels.models import Channel
from channels.tests.factories import Site
from conversations.models import ChatSession
from dashboard.tests.browser.test_journeys import site_with_people
from dashboard.tests.browser.visitors import LOOKS, NewVisitor, serious_findings, shoot
from tests.support.clients import page_of
from tests.support.fake_provider import FakeProvider, reply

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("connected"),
]

ANSWER = """Yes, **gladly**:

1. by post
2. by courier, `express`

| To | Days |
|---|---|
| Oslo | 4 |"""
HOSTILE = "<img src=x onerror=alert(1)> <b>bold</b> [x](javascript:alert(1))"


@pytest.fixture
def site(transactional_db: None) -> Site:
    return site_with_people()


def ask(page: Page, message: str, answers: int) -> None:
    """Send a message, and wait until this many answers are complete."""
    page.get_by_label("Message", exact=True).fill(message)
    page.keyboard.press("Enter")
    expect(page.locator(".gw-playground-chat").get_by_text("tokens:")).to_have_count(answers)


def test_a_reload_keeps_the_talk(visitor: NewVisitor, site: Site, provider: FakeProvider) -> None:
    provider.script += [reply(ANSWER), reply(HOSTILE), reply("Third"), reply("Fourth")]
    watched = visitor(email="owner@example.com")
    page = watched.open(page_of(site, "playground/"))
    page.get_by_role("radio", name=re.compile("Paid")).check()
    ask(page, "Do you deliver?", 1)
    replies = page.locator(".gw-bubble-assistant")
    expect(replies.locator("strong")).to_have_text("gladly")
    ask(page, "<i>And</i>?", 2)
    expect(replies.last).to_contain_text("<b>bold</b>")
    assert replies.locator("img, b, a[href^=javascript]").count() == 0
    page.reload()
    expect(page.locator(".gw-bubble-user")).to_have_text(["Do you deliver?", "<i>And</i>?"])
    expect(replies.locator("strong")).to_have_text("gladly")
    expect(page.get_by_text("credits: 1 charged")).to_have_count(2)
    expect(page.get_by_role("radio", name=re.compile("Paid"))).to_be_checked()
    ask(page, "Third?", 3)
    assert ChatSession.objects.get().message_count == 6
    # Saving the draft keeps the talk too.
    page.get_by_label("System prompt").fill("Be brief.")
    expect(page.get_by_role("radio", name="Draft")).to_be_checked()
    page.get_by_role("button", name="Save as version 2").click()
    expect(page.get_by_text("Published: version 2")).to_be_visible()
    expect(replies).to_have_count(3)
    assert Channel.objects.get().system_prompt == "Be brief."
    page.get_by_role("button", name="New conversation").click()
    expect(replies).to_have_count(0)
    page.reload()
    expect(replies).to_have_count(0)
    watched.assert_clean()


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_it_fills_the_window(
    visitor: NewVisitor, site: Site, provider: FakeProvider, width: int, look: str
) -> None:
    provider.script += [reply(ANSWER)] * 3
    watched = visitor(width=width, look=look, email="owner@example.com")
    page = watched.open(page_of(site, "playground/"))
    expect(page.get_by_role("button", name="Send")).to_be_in_viewport(ratio=1)
    if width > 1024:  # nothing of it is below the window
        assert page.evaluate("document.documentElement.scrollHeight - innerHeight") <= 0
    page.get_by_role("radio", name=re.compile("Paid")).check()
    page.get_by_label("System prompt").fill("You sell tea.")
    for number in (1, 2, 3):
        ask(page, f"Do you deliver to Oslo, and how long does it take? ({number})", number)
    # The composer stays where it was, and the latest answer is in view.
    page.evaluate("window.scrollTo(0, 0)")
    expect(page.get_by_role("button", name="Send and pay")).to_be_in_viewport(ratio=1)
    expect(page.get_by_text("tokens:").last).to_be_in_viewport()
    assert serious_findings(page) == []
    shoot(watched, "playground-talk", width=width, look=look)
    watched.assert_clean()
