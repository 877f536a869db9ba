"""A channel's settings, prompt and figures in a browser: unsaved changes, tokens, tabs."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Dialog, Locator, Page, expect

from channels.models import Channel
from channels.providers.tokens import estimate_tokens, most_tokens
from channels.tests.factories import Site, make_site, save_reply, set_prices
from dashboard.tests.browser.test_channel_pages import enter
from dashboard.tests.browser.visitors import LOOKS, NewVisitor, serious_findings, shoot
from tests.support.clients import ApiClient, page_of

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

TEXTS = [
    "",
    "a",
    "abcd",
    "abcde",
    "Be brief.\nBe kind.\n",
    " \t\n",
    "Grüße, ça va? ¿Qué tal?",
    "你好世界今天天气怎么样",
    "مرحبا بالعالم",
    "👩‍👩‍👧 🇩🇪 \U0001d4b3 🎉",
    "e\u0301 is two characters, é is one",
    "\u200b\ufeff\u00a0",
    "x" * 16_000,
    "語" * 5_000,
]


@pytest.fixture
def open_site(transactional_db: None) -> Site:
    return make_site()


def box_of(one: Locator) -> dict[str, float]:
    box: Any = one.bounding_box()
    assert box is not None
    return dict(box)


def expect_bar(page: Page, *, is_on: bool) -> None:
    """Expect the bar to be in view while it is on, although the form is longer than the window."""
    discard = page.get_by_role("link", name="Discard")
    if is_on:
        expect(page.get_by_text("Unsaved changes", exact=True)).to_be_in_viewport(ratio=1)
        expect(discard).to_be_in_viewport(ratio=1)
    else:
        expect(page.get_by_text("Unsaved changes", exact=True)).to_have_count(0)
        expect(discard).to_be_hidden()


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_settings_that_have_changed_are_saved_or_discarded_from_a_bar(
    open_site: Site, visitor: NewVisitor, width: int, look: str
) -> None:
    watched = enter(visitor, open_site, width=width, look=look)
    page = watched.open(page_of(open_site))
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    name, save = page.get_by_label("Name", exact=True), page.get_by_role("button", name="Save")
    expect_bar(page, is_on=False)
    expect(save).not_to_be_in_viewport()
    name.press("End")
    name.press_sequentially("!")
    expect_bar(page, is_on=True)
    expect(save).to_be_in_viewport(ratio=1)
    assert serious_findings(page) == []
    shoot(watched, "settings-unsaved", width=width, look=look)
    # What was changed back is not unsaved.
    name.press("Backspace")
    expect_bar(page, is_on=False)
    name.fill("Other")
    expect_bar(page, is_on=True)
    page.get_by_role("link", name="Discard").click()
    expect(name).to_have_value("Shop")
    expect_bar(page, is_on=False)
    page.get_by_role("radio").nth(1).check()
    expect_bar(page, is_on=True)
    name.fill("Tea shop")
    name.press("Control+s")
    expect(page.get_by_text("Saved. Changes apply to the next request.")).to_be_visible()
    expect_bar(page, is_on=False)
    assert Channel.objects.get().name == "Tea shop"
    assert asked == []
    # A form that was refused is unsaved from the start.
    name.fill("Teas")
    page.get_by_label("Site address").fill("no address")
    save.click()
    expect(page.get_by_text("Enter a web address such as")).to_be_visible()
    expect_bar(page, is_on=True)
    page.get_by_role("link", name="Discard").focus()
    page.keyboard.press("Enter")
    expect(name).to_have_value("Tea shop")
    watched.expect_error("422")
    watched.assert_clean()


@pytest.mark.parametrize("width", [1440, 820, 390])
def test_a_setting_is_a_row(open_site: Site, visitor: NewVisitor, width: int) -> None:
    watched = enter(visitor, open_site, width=width)
    page = watched.open(page_of(open_site))
    field = page.get_by_label("Site address")
    label = box_of(page.locator("label", has_text="Site address"))
    middle = box_of(field)
    words = box_of(page.get_by_text("The site that uses the channel"))
    form = box_of(page.locator("form.gw-rows"))
    assert form["width"] <= 960
    if width == 1440:
        assert form["width"] >= 720
        assert label["x"] + label["width"] <= middle["x"]
        assert middle["x"] + middle["width"] <= words["x"]
        assert abs(label["y"] - middle["y"]) < middle["height"]
        assert abs(words["y"] - middle["y"]) < middle["height"]
    else:
        assert words["y"] >= middle["y"] + middle["height"]
    if width == 390:
        assert label["y"] + label["height"] <= middle["y"]
        assert label["x"] == middle["x"] == words["x"]
    watched.assert_clean()


def test_the_prompt_and_saved_replies_have_the_bar_too(
    open_site: Site, visitor: NewVisitor
) -> None:
    answer = save_reply(open_site.channel, "When?", "At nine.")
    watched = enter(visitor, open_site, width=390)
    page = watched.open(page_of(open_site, "prompt/"))
    page.get_by_text("Answer settings").click()
    page.get_by_label("System prompt").fill("Be brief.")
    expect_bar(page, is_on=True)
    page.get_by_label("System prompt").press("Control+s")
    expect(page.get_by_text("Saved as version 2")).to_be_visible()
    page = watched.open(page_of(open_site, f"own-answers/{answer.pk}/"))
    page.get_by_label("Answer", exact=True).fill("At ten.")
    expect_bar(page, is_on=True)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("At ten.")).to_be_visible()
    watched.assert_clean()


def test_tokens_are_counted_as_the_gateway_counts_them(
    open_site: Site, visitor: NewVisitor
) -> None:
    set_prices(price_per_1k_input_tokens_microcredits=1000)
    watched = enter(visitor, open_site)
    page = watched.open(page_of(open_site, "prompt/"))
    counted = page.evaluate(
        "texts => texts.map(text => [gateway.tokens.estimate(text), gateway.tokens.most(text)])",
        TEXTS,
    )
    assert counted == [[estimate_tokens(text), most_tokens(text)] for text in TEXTS]
    # The page shows them while somebody types.
    text = page.get_by_label("System prompt")
    for one in TEXTS[:-2]:
        text.fill(one)
        words = "token" if estimate_tokens(one) == 1 else "tokens"
        expect(page.locator("[data-tokens]")).to_have_text(f"about {estimate_tokens(one)} {words}")
        expect(page.locator("[data-most-tokens]")).to_have_text(f"up to {most_tokens(one)}")
    page.get_by_role("link", name="Discard").click()
    expect(page.locator("[data-tokens]")).to_have_text("about 0 tokens")
    watched.assert_clean()


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_changes_to_the_prompt_are_shown_before_it_is_saved(
    open_site: Site, visitor: NewVisitor, width: int, look: str
) -> None:
    Channel.objects.update(system_prompt="You sell tea.\nBe brief.")
    watched = enter(visitor, open_site, width=width, look=look)
    page = watched.open(page_of(open_site, "prompt/"))
    text, show = page.get_by_label("System prompt"), page.get_by_role("button", name="Show changes")
    changes = page.locator("#prompt-changes")
    show.click()
    expect(changes).to_contain_text("The text is the same as in version 1.")
    text.fill("You sell coffee.\nBe brief.")
    expect(changes).to_contain_text("You have edited the text since.")
    show.press("Enter")
    expect(changes.locator(".gw-added mark")).to_have_text("coffee")
    expect(changes.locator(".gw-removed mark")).to_have_text("tea")
    expect(changes.get_by_text("You have edited the text since.")).to_be_hidden()
    expect(text).to_have_value("You sell coffee.\nBe brief.")
    expect_bar(page, is_on=True)
    assert serious_findings(page) == []
    shoot(watched, "prompt-changes", width=width, look=look)
    # Enter in a field saves; it does not compare.
    page.get_by_label("Note for this version").press("Enter")
    expect(page.get_by_text("Saved as version 2")).to_be_visible()
    assert Channel.objects.get().system_prompt == "You sell coffee.\nBe brief."
    watched.assert_clean()


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_figures_and_conversations_of_a_channel_stay_in_its_tabs(
    open_site: Site, visitor: NewVisitor, width: int, look: str
) -> None:
    other = make_site(name="Second shop")
    ApiClient(open_site.api_key).chat("Where is my parcel?", metadata={"url": "https://a.example/"})
    ApiClient(other.api_key).chat("Where is my bill?", metadata={"url": "https://b.example/"})
    watched = enter(visitor, open_site, width=width, look=look)
    page = watched.open(page_of(open_site))
    tabs = page.get_by_role("navigation", name="Channel")
    tabs.get_by_role("link", name="Usage").click()
    current = tabs.locator("[aria-current=page]")
    expect(current).to_have_text(re.compile("Usage"))
    expect(current).to_be_in_viewport(ratio=0.9)
    page.get_by_role("tab", name="Top pages").click()
    expect(page.get_by_role("heading", name="Top pages")).to_be_visible()
    expect(page.get_by_text("https://b.example/")).to_have_count(0)
    page.get_by_role("link", name="24 hours").click()
    expect(current).to_have_text(re.compile("Usage"))
    assert serious_findings(page) == []
    shoot(watched, "channel-usage", width=width, look=look)
    page.get_by_role("link", name="1 answered").click()
    expect(current).to_have_text(re.compile("Requests"))
    expect(page.get_by_text("1 request, 0 credits charged")).to_be_visible()
    assert serious_findings(page) == []
    shoot(watched, "channel-requests", width=width, look=look)
    tabs.get_by_role("link", name="Conversations").click()
    expect(page.get_by_text("Where is my bill?")).to_have_count(0)
    page.get_by_role("searchbox", name="Search").fill("parcel")
    page.locator("#talks").get_by_role("button", name="Search").click()
    page.get_by_role("link", name="Where is my parcel?").click()
    expect(page.get_by_role("heading", name="Where is my parcel?")).to_be_visible()
    assert serious_findings(page) == []
    shoot(watched, "channel-conversation", width=width, look=look)
    # The conversation's address opens it in the tab again.
    page.reload()
    expect(page.get_by_role("heading", name="Where is my parcel?")).to_be_visible()
    expect(current).to_have_text(re.compile("Conversations"))
    if width == 390:
        page.get_by_role("link", name="Conversations of this channel").click()
    expect(page.get_by_role("searchbox", name="Search")).to_have_value("parcel")
    expect(page.get_by_role("link", name="Where is my bill?")).to_have_count(0)
    watched.assert_clean()


@pytest.mark.parametrize("language", ["en", "de"])
def test_all_tabs_fit_or_fade_where_there_are_more(
    open_site: Site, visitor: NewVisitor, language: str
) -> None:
    watched = enter(visitor, open_site)
    cookie: Any = {"name": "language", "value": language, "url": watched.base_url}
    watched.page.context.add_cookies([cookie])
    page = watched.open(page_of(open_site, "requests/"))
    tabs = page.locator(".gw-channel-head .gw-tabs")
    for width in (1440, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        assert tabs.evaluate("bar => bar.scrollWidth - bar.clientWidth") == 0, width
    expect(tabs).to_have_class("gw-tabs")
    page.set_viewport_size({"width": 390, "height": 900})
    expect(tabs).to_have_class(re.compile("gw-more-after"))
    page.reload()
    expect(tabs.locator("[aria-current]")).to_be_in_viewport(ratio=1)
    expect(tabs).to_have_class(re.compile("gw-more-before"))
    assert serious_findings(page) == []
    watched.assert_clean()
