"""Pages without JavaScript, and on paper: they show, nothing covers them, no control is dead."""

from __future__ import annotations

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from channels.models import Account, Channel, Membership, User
from channels.tests.factories import Site
from conversations.models import Feedback
from dashboard.tests.browser.test_journeys import person, site_with_people
from dashboard.tests.browser.visitors import NewReader
from tests.support.clients import ApiClient, account_page

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def site(transactional_db: None) -> Site:
    person("boss@example.com", is_staff=True, is_superuser=True)
    return site_with_people()


def see(page: Page, shown: list[str], hidden: list[str]) -> None:
    for selector in shown:
        expect(page.locator(selector).first).to_be_visible()
    for selector in hidden:
        expect(page.locator(f"{selector} >> visible=true")).to_have_count(0)


@pytest.mark.parametrize("width", [1440, 390])
def test_an_owner_needs_no_javascript(site: Site, reader: NewReader, width: int) -> None:
    owner = reader("owner@example.com", has_scripts=False, width=width)
    page = owner.page
    page.get_by_role("link", name="New channel").click()
    page.get_by_label("Name").fill("Second shop")
    page.get_by_role("button", name="Create channel").click()
    assert Channel.objects.filter(name="Second shop").exists()
    page.get_by_role("link", name="Usage").first.click()
    see(page, [".gw-stat"], [])
    for name in ("keys", "connect", "playground"):
        owner.open(reverse(f"console:{name}", args=[site.channel.id]))
        dead = "[data-copy], [data-dialog], [data-test-key], .gw-tab[data-tab], [data-playground]"
        see(page, [".gw-alert-warn" if name == "playground" else ".gw-card"], dead.split(", "))


def test_a_channel_switched_off_is_on_again_without_javascript(
    site: Site, reader: NewReader
) -> None:
    page = reader("owner@example.com", has_scripts=False).page
    page.get_by_role("switch").click()
    see(page, ["text=Switched off. The next call is refused."], [])
    page.get_by_role("link", name="Switch on again").click()
    page.get_by_role("button", name="Switch on").click()
    see(page, ["text=Switched on."], [])
    assert Channel.objects.get(id=site.channel.id).is_enabled


@pytest.mark.parametrize("width", [1440, 390])
def test_settings_and_prompts_are_saved_without_javascript(
    site: Site, reader: NewReader, width: int
) -> None:
    owner = reader("owner@example.com", has_scripts=False, width=width)
    page = owner.open(reverse("console:channel", args=[site.channel.id]))
    page.get_by_label("Name", exact=True).fill("Tea shop")
    see(page, [], ["[data-discard]", ".gw-save-on"])
    page.get_by_role("button", name="Save").click()
    see(page, ["text=Saved. Changes apply to the next request."], [])
    owner.open(reverse("console:prompt", args=[site.channel.id]))
    page.get_by_label("System prompt").fill("You sell tea.")
    see(page, [], ["[data-show-changes]"])
    page.get_by_role("button", name="Show changes").click()
    see(page, ["text=Changes to version 1", ".gw-added"], [])
    assert Channel.objects.get().system_prompt == ""
    page.get_by_label("Note for this version").press("Enter")
    see(page, ["text=Saved as version 2"], [])
    saved = Channel.objects.get()
    assert (saved.name, saved.system_prompt) == ("Tea shop", "You sell tea.")


@pytest.mark.parametrize("width", [1440, 390])
def test_conversations_are_two_pages_without_javascript(
    site: Site, reader: NewReader, width: int
) -> None:
    ApiClient(site.api_key).chat("Where is my parcel?")
    owner = reader("owner@example.com", has_scripts=False, width=width)
    page = owner.open(account_page(site, "conversations/?text=parcel"))
    see(page, ["#talks"], ["#transcript"])
    page.get_by_role("link", name="Where is my parcel?").click()
    see(page, ["#transcript"], ["#talks"])
    page.get_by_role("button", name="Dislike this reply").click()
    see(page, ["text=Saved your feedback", ".gw-pane-back"], [])
    assert Feedback.objects.get().rating == -1
    page.get_by_role("link", name="All conversations").click()
    expect(page.get_by_role("searchbox", name="Search")).to_have_value("parcel")


@pytest.mark.parametrize("width", [1440, 390])
def test_accounts_are_switched_without_javascript(
    site: Site, reader: NewReader, width: int
) -> None:
    other = Account.objects.create(name="Second account")
    owner = User.objects.get(email="owner@example.com")
    Membership.objects.create(account=other, user=owner, role=Membership.Role.OWNER)
    page = reader("owner@example.com", has_scripts=False, width=width).open("/")
    see(page, ["main"], ["[data-palette-open]", "[data-finder]"])
    page.get_by_label("Switch channel or account").click()
    page.get_by_label("Account", exact=True).select_option("Second account")
    page.get_by_role("button", name="Switch", exact=True).click()
    page.wait_for_url(f"**/a/{other.pk}/")


@pytest.mark.parametrize("width", [1440, 390])
def test_nothing_covers_the_staffs_pages_without_javascript(
    site: Site, reader: NewReader, width: int
) -> None:
    page = reader("boss@example.com", has_scripts=False, width=width).open("/admin/")
    page.get_by_role("link", name="Accounts", exact=True).first.click()
    see(page, ["#changelist-filter a"], ["#command-submit", "button[x-on\\:click]"])
    page.locator("#result_list").get_by_role("link", name="owner@example.com").first.click()
    page.get_by_label("Name").first.fill("Renamed")
    page.get_by_role("button", name="Save", exact=True).click()
    see(page, ["#result_list >> text=Renamed"], [])


def test_paper_has_neither_menu_nor_buttons(site: Site, reader: NewReader) -> None:
    owner = reader("owner@example.com", has_scripts=True, width=794)
    boss = reader("boss@example.com", has_scripts=True, width=794)
    paths = [(owner, reverse(f"console:{name}")) for name in ("index", "usage", "team", "credits")]
    paths += [(owner, reverse("console:keys", args=[site.channel.id])), (owner, "/accounts/2fa/")]
    paths += [(boss, "/admin/channels/account/")]
    paths += [(boss, f"/admin/channels/account/{site.account_id}/change/")]
    for somebody, path in paths:
        somebody.page.emulate_media(media="print")
        somebody.open(path)
        see(somebody.page, ["main"], ["#nav-sidebar", "button", ".gw-btn", "#toolbar"])
