"""The channel pages in a browser: switch, keys, prompt. Wide and narrow, light and dark."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import FilePayload, expect

from channels.models import Channel
from channels.tests.factories import Site, make_site
from conversations.models import ChatSession, Message
from dashboard.tests.browser.visitors import LOOKS, NewVisitor, Watched, serious_findings, shoot
from tests.support.clients import ApiClient, owner_client, page_of

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PAGES = ("", "keys/", "prompt/", "own-answers/")


@pytest.fixture
def open_site(transactional_db: None) -> Site:
    return make_site()


def enter(visitor: NewVisitor, site: Site, **more: Any) -> Watched:
    """Open a browser in which the site's owner has just logged in."""
    watched = visitor(**more)
    session = owner_client(site).cookies["sessionid"].value
    watched.page.context.add_cookies(
        [{"name": "sessionid", "value": session, "url": watched.base_url}]
    )
    return watched


def test_the_switch_works_by_mouse_and_keyboard(open_site: Site, visitor: NewVisitor) -> None:
    watched = enter(visitor, open_site)
    switch = watched.open("/").get_by_role("switch")
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "false")
    assert not Channel.objects.get().is_enabled
    switch.press("Space")
    expect(switch).to_have_attribute("aria-checked", "true")
    assert Channel.objects.get().is_enabled
    watched.assert_clean()


def test_a_channel_switched_off_by_mistake_is_on_again_with_undo(
    open_site: Site, visitor: NewVisitor
) -> None:
    watched = enter(visitor, open_site)
    page = watched.open(page_of(open_site, "prompt/"))
    page.get_by_role("switch").click()
    expect(page.locator(".gw-toast").last).to_contain_text("Switched off.")
    undo = page.get_by_role("button", name="Undo")
    undo.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".gw-toast").last).to_have_text("Switched on.")
    expect(page.locator("[data-switch-state]")).to_have_text("On")
    expect(undo).to_have_count(0)
    expect(page.get_by_role("switch")).to_be_focused()
    assert Channel.objects.get().is_enabled
    watched.assert_clean()


def test_a_key_is_revealed_hidden_and_copied(open_site: Site, visitor: NewVisitor) -> None:
    watched = enter(visitor, open_site)
    page = watched.open("/")
    text = page.locator("[data-key-text]").first
    page.locator("[data-key-reveal]").first.click()
    expect(text).to_have_text(open_site.api_key)
    page.locator("[data-key-reveal]").first.click()
    expect(text).to_have_text(re.compile("…"))
    page.locator("[data-key-copy]").first.click()
    expect(page.locator(".gw-toast").last).to_contain_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == open_site.api_key
    watched.assert_clean()


def test_a_new_channel_shows_its_keys_and_a_rotation_the_new_one(
    open_site: Site, visitor: NewVisitor
) -> None:
    watched = enter(visitor, open_site)
    page = watched.open("/channels/new/")
    page.get_by_label("Name").fill("Blog")
    page.get_by_role("button", name="Create channel").click()
    expect(page.locator("code[id^='fresh-']")).to_have_count(2)
    page.get_by_role("button", name="Copy the live key").click()
    expect(page.locator(".gw-toast").last).to_contain_text("Copied")
    watched.open(page_of(open_site, "keys/"))
    page.get_by_label(re.compile("^Actions for amgai_…")).first.click()
    page.get_by_role("button", name=re.compile("^Rotate amgai_…")).click()
    page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
    expect(page.locator("code[id^='fresh-']")).to_have_count(1)
    expect(page.get_by_text("Ends", exact=True)).to_have_count(1)
    watched.assert_clean()


def test_a_key_is_named_limited_and_edited_by_keyboard(
    open_site: Site, visitor: NewVisitor
) -> None:
    watched = enter(visitor, open_site, width=390)
    page = watched.open(page_of(open_site, "keys/new/"))
    page.get_by_label("Name").fill("Checkout")
    page.get_by_label("Allowed addresses").fill("shop.example")
    page.get_by_label("Llama 3.3 70B").check()
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_text("“shop.example” is not an address range")).to_be_visible()
    expect(page.get_by_label("Llama 3.3 70B")).to_be_checked()
    page.get_by_label("Allowed addresses").fill("127.0.0.0/8")
    page.get_by_role("button", name="Create key").click()
    expect(page.locator("code[id^='fresh-']")).to_have_count(1)
    menu = page.get_by_label(re.compile("^Actions for amgai_…")).first
    menu.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Name")).to_have_value("Checkout")
    page.get_by_label("Name").fill("Till")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Till", exact=True)).to_be_visible()
    watched.expect_error("422")
    watched.assert_clean()


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_the_pages_fit_and_can_be_used_by_everybody(
    open_site: Site, visitor: NewVisitor, width: int, look: Any
) -> None:
    watched = enter(visitor, open_site, width=width, look=look)
    addresses = {"overview": "/", "new-channel": "/channels/new/", "audit-log": "/audit-log/"}
    addresses |= {
        f"channel-{rest.strip('/') or 'settings'}": page_of(open_site, rest) for rest in PAGES
    }
    for name, address in addresses.items():
        page = watched.open(address)
        shoot(watched, name, width=width, look=look)
        assert serious_findings(page) == [], address
    watched.assert_clean()


def test_the_current_tab_can_be_seen_on_a_phone(open_site: Site, visitor: NewVisitor) -> None:
    watched = enter(visitor, open_site, width=390)
    page = watched.open(page_of(open_site, "playground/"))
    expect(page.locator(".gw-tab[aria-current=page]")).to_be_in_viewport(ratio=0.9)
    watched.assert_clean()


def test_what_loads_later_leaves_the_browser_tab_its_title(
    open_site: Site, visitor: NewVisitor
) -> None:
    ApiClient(open_site.api_key).chat("Hello!", metadata={"url": "https://shop.example/"})
    watched = enter(visitor, open_site)
    page = watched.open("/usage/")
    page.get_by_role("tab", name="Top pages").click()
    expect(page.get_by_role("heading", name="Top pages")).to_be_visible()
    expect(page).to_have_title(re.compile("Usage"))
    watched.assert_clean()


def test_the_page_shows_even_if_its_scripts_never_come(
    visitor: NewVisitor, open_site: Site
) -> None:
    watched = enter(visitor, open_site)
    watched.page.route("**/alpine.js", lambda route: route.abort())
    page = watched.page
    page.goto(watched.base_url + "/", wait_until="commit")
    expect(page.get_by_role("heading", name="Channels")).to_be_visible()
    watched.expect_error(r"alpine\.js")


def test_the_playground_leads_to_its_own_conversation(open_site: Site, visitor: NewVisitor) -> None:
    watched = enter(visitor, open_site)
    page = watched.open(page_of(open_site, "playground/"))
    page.get_by_label("Message", exact=True).fill("Where is my parcel?")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("tokens:")).to_be_visible()
    page.locator("[data-list]").click()
    expect(page.get_by_role("link", name="Where is my parcel?")).to_be_visible()
    watched.assert_clean()


def test_charts_on_a_phone_show_today(open_site: Site, visitor: NewVisitor) -> None:
    ApiClient(open_site.api_key).chat("Hello!")
    watched = enter(visitor, open_site, width=390)
    page = watched.open("/usage/")
    chart = page.get_by_role("group", name="Requests by model")
    chart.scroll_into_view_if_needed()
    # The only bar is today's.
    expect(chart.locator(".gw-bar")).to_be_in_viewport(ratio=0.9)
    watched.assert_clean()


def test_one_tooltip_tells_all_charts_of_a_day(open_site: Site, visitor: NewVisitor) -> None:
    ApiClient(open_site.api_key).chat("Hello!")
    Message.objects.update(duration_ms=1_500)
    watched = enter(visitor, open_site)
    page = watched.open("/usage/")
    tip = page.locator(".gw-chart-tip")
    expect(tip).to_be_hidden()
    page.get_by_role("group", name="Requests by model").locator(".gw-bar").hover()
    expect(tip).to_contain_text("so far")
    # Each chart's figures are under its name, and nothing is said of what is zero.
    parts = tip.locator(".gw-chart-tip-part")
    model = re.escape(open_site.channel.model.name)
    expect(parts).to_have_text([
        re.compile(f"^Requests {model} 1$"),
        re.compile("^Time to answer Median .p50. 1.5.s *p95 1.5.s$"),
    ])  # fmt: skip
    page.get_by_role("heading", name="Errors by code").hover()
    expect(tip).to_be_hidden()
    # The keyboard goes through the days, from today back.
    page.get_by_role("group", name="Time to answer").focus()
    page.keyboard.press("ArrowLeft")
    expect(tip).to_contain_text("so far")
    page.keyboard.press("ArrowLeft")
    expect(tip).to_be_visible()
    expect(tip).not_to_contain_text("so far")
    expect(parts).to_have_text(["Requests \N{EN DASH}", "Time to answer \N{EN DASH}"])
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    # A day leads to its requests.
    page.get_by_role("group", name="Requests by model").locator(".gw-bar").click()
    expect(page.get_by_role("heading", name="Requests", exact=True)).to_be_visible()


def test_a_request_opens_from_anywhere_in_its_row(open_site: Site, visitor: NewVisitor) -> None:
    ApiClient(open_site.api_key).chat("Hello!")
    watched = enter(visitor, open_site)
    page = watched.open("/requests/")
    row = page.locator("tbody tr")
    log = page.url
    # Not by what has a meaning of its own: a button, another key with the click, selected text.
    row.get_by_role("button").click()
    row.get_by_text("Answered").click(modifiers=["ControlOrMeta"])
    box = row.get_by_text(open_site.channel.model.name).bounding_box()
    assert box
    page.mouse.move(box["x"] + 1, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 5)
    page.mouse.up()
    assert page.evaluate("getSelection().toString()")
    assert page.url == log
    row.get_by_text("Answered").click()
    expect(page.get_by_role("heading", name="Request", exact=True).first).to_be_visible()
    assert page.url != log
    watched.assert_clean()


def test_a_tap_shows_the_tooltip_with_a_link_and_a_second_tap_follows(
    open_site: Site, visitor: NewVisitor
) -> None:
    ApiClient(open_site.api_key).chat("Hello!")
    watched = enter(visitor, open_site, width=390, has_touch=True)
    page = watched.open("/usage/")
    tip = page.locator(".gw-chart-tip")
    bar = page.get_by_role("group", name="Requests by model").locator(".gw-bar")
    bar.tap()
    expect(tip).to_contain_text("so far")
    link = tip.get_by_role("link", name="Show requests")
    expect(link).to_be_visible()
    assert not serious_findings(page)
    shoot(watched, "usage-tapped", width=390, look="light")
    page.get_by_role("heading", name="Credits", exact=True).tap()
    expect(tip).to_be_hidden()
    bar.tap()
    link.tap()
    expect(page.get_by_role("heading", name="Requests", exact=True)).to_be_visible()
    assert "outcome" not in page.url
    page.go_back()
    bar.tap()
    expect(tip).to_be_visible()
    bar.tap()
    page.wait_for_url("**outcome=answered")
    watched.assert_clean()
    watched.assert_clean()


def test_paragraphs_and_lists_of_a_transcript_stand_apart(
    open_site: Site, visitor: NewVisitor
) -> None:
    ApiClient(open_site.api_key).chat("Hello!")
    text = "One.\n\nTwo.\n\n- a\n- b\n\n| x | y |\n|---|---|\n| 1 | 2 |\n\nEnd."
    Message.objects.filter(role="assistant").update(content=text)
    session = ChatSession.objects.get()
    watched = enter(visitor, open_site)
    page = watched.open(f"/conversations/{session.pk}/")
    for kind in ("p:nth-child(2)", "ul", "table", "p:last-child"):
        block = page.locator(f".gw-prose > {kind}")
        gap = block.evaluate(
            "one => one.getBoundingClientRect().top"
            " - one.previousElementSibling.getBoundingClientRect().bottom"
        )
        assert gap >= 8, kind
    watched.assert_clean()


def test_a_key_is_tested_from_its_menu_and_the_result_stands_beside(
    open_site: Site, visitor: NewVisitor
) -> None:
    for width, is_beside in ((1440, True), (390, False)):
        watched = enter(visitor, open_site, width=width)
        page = watched.open(page_of(open_site, "keys/"))
        panel = page.locator("[data-test-panel]")
        expect(panel).to_be_hidden()
        menu = page.get_by_label(re.compile("^Actions for amgai_test_…"))
        menu.focus()
        for key in ("Enter", "Tab", "Tab", "Enter"):
            page.keyboard.press(key)
        expect(panel).to_contain_text("200: the key works")
        expect(panel.get_by_role("heading")).to_be_focused()
        expect(panel.locator(".gw-timing-key")).to_contain_text("Provider")
        table, result = page.locator(".gw-keys").bounding_box(), panel.bounding_box()
        assert table is not None
        assert result is not None
        assert (result["x"] >= table["x"] + table["width"]) == is_beside
        assert (result["y"] >= table["y"] + table["height"]) != is_beside
        watched.assert_clean()
        page.get_by_role("button", name="Close the test").click()
        expect(panel).to_be_hidden()
        expect(menu).to_be_focused()
        watched.assert_clean()


def test_a_file_of_saved_replies_is_checked_saved_and_given(
    open_site: Site, visitor: NewVisitor
) -> None:
    watched = enter(visitor, open_site, width=390)
    page = watched.open(page_of(open_site, "own-answers/"))
    page.get_by_role("link", name="Upload CSV").click()
    content = 'question;answer;wording 2\r\nOpen?;"9 to 5.\r\nDaily.";Opening hours\r\n'
    file: FilePayload = {
        "name": "replies.csv",
        "mimeType": "text/csv",
        "buffer": content.encode(),
    }
    page.get_by_label("CSV file").set_input_files(files=[file])
    page.get_by_role("button", name="Check file").click()
    expect(page.get_by_text("1 new, 0 changed, 0 unchanged.")).to_be_visible()
    watched.assert_clean()
    page.get_by_role("button", name="Save replies").click()
    expect(page.get_by_role("cell", name="Opening hours")).to_be_visible()
    assert ApiClient(open_site.api_key).chat("opening hours").json()["reply"] == "9 to 5.\nDaily."
    page.get_by_label("Question", exact=True).fill("Where?")
    page.get_by_label("Other wordings").fill("Your address\nopening HOURS")
    page.get_by_label("Answer", exact=True).fill("Here.")
    page.get_by_role("button", name="Add reply").click()
    expect(
        page.get_by_text("The saved reply “Open?” already answers “opening HOURS”.")
    ).to_be_visible()
    watched.expect_error("422")
    watched.assert_clean()
