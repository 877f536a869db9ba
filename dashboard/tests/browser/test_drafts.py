"""Drafts in a browser: compare, publish, discard, rehearse. Wide and narrow, light and dark."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from channels.models import Channel
from channels.tests.factories import Site, make_site
from conversations.models import DraftReply, Message
from dashboard.tests.browser.test_channel_pages import enter
from dashboard.tests.browser.visitors import LOOKS, NewVisitor, serious_findings, shoot
from tests.support.clients import ApiClient, page_of
from tests.support.fake_provider import FakeProvider

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("connected"),
]


@pytest.fixture
def open_site(transactional_db: None) -> Site:
    return make_site()


def test_a_draft_answers_beside_what_is_published_and_is_published(
    open_site: Site, visitor: NewVisitor, provider: FakeProvider
) -> None:
    watched = enter(visitor, open_site)
    page = watched.open(page_of(open_site, "playground/"))
    page.get_by_label("System prompt").fill("You are terse.")
    page.get_by_role("radio", name=re.compile("Paid")).check()
    page.get_by_role("radio", name="Both").check()
    for number in (1, 2):
        page.get_by_label("Message", exact=True).fill(f"Hello {number}?")
        page.get_by_role("button", name="Send twice and pay").click()
        expect(page.get_by_text(re.compile("1 charged"))).to_have_count(2 * number)
    assert DraftReply.objects.count() == 2
    drafted = [one for one in provider.prompts if one[0]["content"].startswith("You are terse.")]
    assert [message["content"] for message in drafted[1]][1::2] == ["Hello 1?", "Hello 2?"]
    expect(page.get_by_role("list", name="Draft", exact=True)).to_have_count(2)
    # The draft stays in the browser until somebody publishes or discards it.
    page.reload()
    expect(page.get_by_label("System prompt")).to_have_value("You are terse.")
    page.get_by_role("button", name="Save as version 2").click()
    expect(page.get_by_text(re.compile("Published: version 2"))).to_be_visible()
    assert Channel.objects.get().system_prompt == "You are terse."
    page.get_by_label("System prompt").fill("Else.")
    page.get_by_role("link", name="Discard draft").click()
    expect(page.get_by_label("System prompt")).to_have_value("You are terse.")
    watched.assert_clean()


def test_who_has_changed_the_draft_gets_its_answer(
    open_site: Site, visitor: NewVisitor, provider: FakeProvider
) -> None:
    watched = enter(visitor, open_site)
    page = watched.open(page_of(open_site, "playground/"))
    save = page.get_by_role("button", name="Save as version 2")
    discard = page.get_by_role("link", name="Discard draft")
    answers = page.get_by_role("radiogroup", name="Published or draft")
    expect(save).to_be_disabled()
    expect(discard).to_be_hidden()
    expect(answers).to_be_hidden()
    page.get_by_role("radio", name="Paid").check()
    message = page.get_by_label("Message", exact=True)
    charged = page.get_by_text(re.compile("1 charged"))
    message.fill("One?")
    page.keyboard.press("Enter")
    expect(charged).to_have_count(1)
    page.get_by_label("System prompt").fill("You are terse.")
    expect(save).to_be_enabled()
    expect(discard).to_be_visible()
    expect(page.get_by_role("radio", name="Draft")).to_be_checked()
    message.fill("Two?")
    page.keyboard.press("Enter")
    expect(charged).to_have_count(2)
    assert provider.prompts[-1][0]["content"].startswith("You are terse.")
    # It knows what was said before.
    assert [one["content"] for one in provider.prompts[-1]][1:] == ["One?", "Reply 1", "Two?"]
    page.get_by_role("radio", name="Published").check()
    message.fill("Three?")
    page.keyboard.press("Enter")
    expect(charged).to_have_count(3)
    assert DraftReply.objects.count() == 1
    # Both together are free in the free mode only, so only there they are the default.
    page.get_by_role("radio", name="Both").check()
    expect(page.get_by_role("button", name="Send twice and pay")).to_be_visible()
    page.get_by_role("radio", name="Free").check()
    expect(page.get_by_role("button", name="Send twice", exact=True)).to_be_visible()
    watched.assert_clean()


def test_questions_are_rehearsed_one_by_one_until_somebody_stops(
    open_site: Site, visitor: NewVisitor, provider: FakeProvider
) -> None:
    api = ApiClient(open_site.api_key)
    for number in range(3):
        api.chat(f"Question {number}?", session_id=f"s{number}")
    watched = enter(visitor, open_site)
    page = watched.open(page_of(open_site, "playground/"))
    page.get_by_role("tab", name="Rehearsal").click()
    page.get_by_role("button", name="Show questions and price").click()
    expect(page.get_by_text("Question 2?")).to_be_visible()
    page.get_by_role("button", name="Rehearse for at most 3 credits").click()
    expect(page.get_by_text("Done: 3 of 3 asked, 3 credits charged.")).to_be_visible()
    expect(page.get_by_text("Reply 6")).to_be_visible()
    page.get_by_role("button", name="Show questions and price").click()
    provider.lock.acquire()  # the next answer takes as long as the test wants
    page.get_by_role("button", name="Rehearse for at most 3 credits").click()
    page.get_by_role("button", name="Stop after this answer").click()
    provider.lock.release()
    expect(page.get_by_text("Stopped: 1 of 3 asked, 1 credit")).to_be_visible()
    assert DraftReply.objects.count() == 4
    assert Message.objects.count() == 6
    watched.assert_clean()


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_the_pages_are_in_order(
    open_site: Site, visitor: NewVisitor, provider: FakeProvider, look: str, width: int
) -> None:
    ApiClient(open_site.api_key).chat("Where is my parcel?")
    watched = enter(visitor, open_site, width=width, look=look)
    page = watched.open(page_of(open_site, "playground/"))
    page.get_by_label("System prompt").fill("You are terse.")
    page.get_by_label("Message", exact=True).fill("Hello?")
    page.get_by_role("button", name="Send twice").click()
    expect(page.get_by_text(re.compile("0 charged"))).to_have_count(2)
    page.get_by_role("tab", name="Rehearsal").click()
    page.get_by_role("button", name="Show questions and price").click()
    expect(page.get_by_text("Where is my parcel?")).to_be_visible()
    assert serious_findings(page) == []
    shoot(watched, "drafts", width=width, look=look)
    page = watched.open(page_of(open_site, "prompt/"))
    page.get_by_text("Answer settings").click()
    expect(page.get_by_label("Temperature")).to_be_visible()
    assert serious_findings(page) == []
    shoot(watched, "answer-settings", width=width, look=look)
    watched.assert_clean()
