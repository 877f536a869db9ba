"""The frame in a browser: the switcher, the palette, the menu of a phone, and large text."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from channels import channel_changes
from channels.models import Account, Channel, Membership, User
from channels.tests.factories import Site
from conversations.models import Message
from dashboard.tests.browser.test_journeys import person, site_with_people
from dashboard.tests.browser.visitors import LOOKS, NewVisitor, serious_findings, shoot
from tests.support.clients import ApiClient, account_page, page_of

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

OWNER = "owner@example.com"


@pytest.fixture
def site(transactional_db: None) -> Site:
    """An account with two channels, whose owner has another account, and somebody of the staff."""
    site = site_with_people()
    channel_changes.create_channel(
        account=site.channel.account, name="Bakery", model_id=site.channel.model.model_id
    )
    other = Account.objects.create(name="Second account")
    owner = User.objects.get(email=OWNER)
    Membership.objects.create(account=other, user=owner, role=Membership.Role.OWNER)
    person("boss@example.com", is_staff=True, is_superuser=True)
    return site


def palette_of(page: Page) -> Locator:
    return page.get_by_role("dialog", name="Search and commands")


def ask(page: Page, words: str) -> None:
    """Open the palette by its keys and type, without waiting for what it finds."""
    page.keyboard.press("Control+k")
    expect(palette_of(page).get_by_role("combobox")).to_be_focused()
    page.keyboard.type(words)


def chosen(page: Page) -> Locator:
    """Return the option that the field names as the current one."""
    field = page.locator("[role=combobox]:focus")
    expect(field).to_have_attribute("aria-activedescendant", re.compile("."))
    return page.locator(f"#{field.get_attribute('aria-activedescendant')}")


# --- The palette ----------------------------------------------------------------------------------


def test_the_palette_needs_nothing_but_keys(site: Site, visitor: NewVisitor) -> None:
    page = visitor(email=OWNER).open("/")
    ask(page, "bakery")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/channels/{Channel.objects.get(name='Bakery').id}/")
    ask(page, "log")
    expect(chosen(page)).to_have_text(re.compile("Audit log"))
    page.keyboard.press("ArrowDown")
    expect(chosen(page)).to_have_text(re.compile("Log out"))
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.wait_for_url("**/audit-log/")
    ask(page, "no such thing")
    expect(page.get_by_text("Nothing found for “no such thing”.")).to_be_visible()
    expect(palette_of(page).get_by_role("combobox")).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("Escape")
    expect(palette_of(page)).to_be_hidden()
    page.keyboard.press("Control+k")
    page.keyboard.press("Control+k")
    expect(palette_of(page)).to_be_hidden()


def test_the_palette_does_what_it_is_told(site: Site, visitor: NewVisitor) -> None:
    page = visitor(email=OWNER).open("/")
    ask(page, "dark theme")
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_class("dark")
    ask(page, "second account")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/a/{Account.objects.get(name='Second account').pk}/")
    ask(page, "redeem a code")
    page.keyboard.press("Enter")
    page.wait_for_url("**/credits/")
    ask(page, "log out")
    page.keyboard.press("Enter")
    page.wait_for_url("**/accounts/login/")


def test_the_palette_finds_a_request_by_its_id(site: Site, visitor: NewVisitor) -> None:
    ApiClient(site.api_key).chat("Where is my parcel?")
    reply = Message.objects.get(role="assistant")
    page = visitor(email=OWNER).open("/")
    ask(page, str(reply.request_id))
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/requests/{reply.pk}/")


def test_staff_find_an_account_and_a_list(site: Site, visitor: NewVisitor) -> None:
    page = visitor(email="boss@example.com").open("/admin/")
    ask(page, "second acc")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/admin/accounts/\d+/"))
    ask(page, "rate windows")
    page.keyboard.press("Enter")
    page.wait_for_url("**/admin/billing/ratewindow/")


def test_the_palette_says_when_the_log_in_has_ended(site: Site, visitor: NewVisitor) -> None:
    page = visitor(email=OWNER).open("/")
    page.context.clear_cookies()
    page.keyboard.press("Control+k")
    expect(palette_of(page).get_by_text("You are logged out.")).to_be_visible()


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_the_palette_and_the_switcher_look_right(
    site: Site, visitor: NewVisitor, width: int, look: str
) -> None:
    watched = visitor(width=width, look=look, email=OWNER)
    page = watched.open(page_of(site, "keys/"))
    page.get_by_role("button", name="Search and commands").click()
    expect(palette_of(page).get_by_role("option").first).to_be_visible()
    shoot(watched, "palette", width=width, look=look)
    assert serious_findings(page) == []
    palette_of(page).get_by_role("button", name="Close the search").click()
    page.get_by_label("Switch channel or account").click()
    expect(page.get_by_role("option", name="Bakery")).to_be_visible()
    shoot(watched, "switcher", width=width, look=look)
    assert serious_findings(page) == []


# --- The switcher ---------------------------------------------------------------------------------


def test_the_switcher_leads_to_a_channel_and_an_account(site: Site, visitor: NewVisitor) -> None:
    page = visitor(email=OWNER).open(page_of(site, "prompt/"))
    trail = page.get_by_role("navigation", name="Where you are")
    expect(trail).to_have_text(re.compile(f"/\\s*{site.channel.name}"))
    opener = page.get_by_label("Switch channel or account")
    field = page.get_by_role("combobox", name="Find a channel or account")
    opener.focus()
    page.keyboard.press("Enter")
    expect(field).to_be_focused()
    # It begins at the channel of this page, not at the first.
    expect(page.get_by_role("option").first).to_have_text(re.compile("Bakery"))
    expect(chosen(page)).to_have_text(re.compile(site.channel.name))
    page.keyboard.type("bak")
    expect(page.locator("#gw-switcher-list [role=option]")).to_have_count(1)
    expect(chosen(page)).to_have_text(re.compile("Bakery"))
    page.keyboard.press("Escape")
    expect(opener).to_be_focused()
    page.keyboard.press("Enter")
    expect(field).to_be_focused()
    page.keyboard.type("bak")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/channels/{Channel.objects.get(name='Bakery').id}/")
    page.get_by_label("Switch channel or account").click()
    page.get_by_role("option", name="Second account").click()
    expect(trail).to_have_text("Second account")
    # It is remembered, as short addresses lead there.
    page.goto(page.url.split("/a/")[0] + "/usage/")
    expect(trail).to_have_text("Second account")


def test_a_channels_switch_says_its_state(site: Site, visitor: NewVisitor) -> None:
    page = visitor(email=OWNER).open(page_of(site, "prompt/"))
    state = page.locator("[data-switch-state]")
    expect(state).to_have_text("On")
    page.get_by_role("switch").click()
    expect(state).to_have_text("Off")
    assert not Channel.objects.get(pk=site.channel.pk).is_enabled
    page.get_by_role("switch").click()
    expect(state).to_have_text("On")


# --- A phone, and large text ----------------------------------------------------------------------


def test_a_phone_reaches_every_page_by_touch(site: Site, visitor: NewVisitor) -> None:
    page = visitor(width=390, email=OWNER).open("/")
    menu = page.get_by_role("navigation", name="Menu")
    expect(menu).to_be_hidden()
    page.get_by_role("button", name="Open the menu").click()
    expect(menu.get_by_text("Lasts")).to_have_count(0)
    menu.get_by_role("link", name="Channels").click()
    page.wait_for_url("**/channels/")
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("Channels"))
    page.get_by_role("button", name="Search and commands").click()
    page.get_by_role("option", name="Bakery").click()
    expect(page.get_by_role("heading", name="Bakery", level=1)).to_be_visible()
    page.get_by_role("link", name="Connect").first.click()
    page.wait_for_url("**/connect/")


# A window of 1440 px at 200 % has 720 px.
@pytest.mark.parametrize("width", [720, 320])
def test_large_text_needs_no_sideways_scroll(site: Site, visitor: NewVisitor, width: int) -> None:
    Account.objects.filter(id=site.account_id).update(name="Long name " * 10)
    Channel.objects.filter(id=site.channel.id).update(name="A very long channel name " * 4)
    watched = visitor(width=width, email=OWNER)
    for name, path in (
        ("zoom-overview", account_page(site)),
        ("zoom-channel", page_of(site)),
        ("zoom-credits", account_page(site, "credits/")),
    ):
        page = watched.open(path)
        shoot(watched, name, width=width, look="light")
        expect(page.get_by_label("Switch channel or account")).to_be_in_viewport()
        expect(page.get_by_label(re.compile("Your menu"))).to_be_in_viewport()
    boss = visitor(width=width, email="boss@example.com")
    boss.open("/admin/billing/creditaccount/")
    shoot(boss, "zoom-admin", width=width, look="light")


def test_less_motion_is_respected(site: Site, visitor: NewVisitor) -> None:
    watched = visitor(email="boss@example.com")
    watched.page.emulate_media(reduced_motion="reduce")
    page = watched.open("/admin/")
    arrow = page.locator("summary.gw-nav-title .material-symbols-outlined").first
    assert arrow.evaluate("element => getComputedStyle(element).transitionDuration") == "0s"
