"""Without JavaScript in every role: what each may do, strangers, two tabs, and an ended log-in."""

from __future__ import annotations

import re
import uuid

import pytest
from playwright.sync_api import Page, expect

from billing import credit_requests, redemptions
from billing.models import CreditGrant
from channels.audit import COMMAND_LINE, Actor
from channels.models import ApiKey, Channel, FixedAnswer, Invitation, LoginSession, User
from channels.tests.factories import Site, make_site
from dashboard.tests.browser import every_page
from dashboard.tests.browser.test_journeys import person, site_with_people
from dashboard.tests.browser.visitors import PASSWORD, NewReader, Watched
from dashboard.tests.test_strangers import make_tenant
from tests.support.clients import account_page, page_of
from tests.support.fake_provider import FakeProvider

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

CREDIT = 1_000_000
NOTHING = "There is nothing here"


@pytest.fixture
def site(transactional_db: None) -> Site:
    person("boss@example.com", is_staff=True, is_superuser=True)
    return site_with_people()


def log_in_here(page: Page, email: str) -> None:
    """Fill in the form that a page led to."""
    assert "/accounts/login/" in page.url
    page.fill("input[name=login]", email)
    page.fill("input[name=password]", PASSWORD)
    page.locator("main form").get_by_role("button").first.click()


def without_scripts(reader: NewReader, email: str = "") -> Watched:
    return reader(email, has_scripts=False)


# --- Each role ------------------------------------------------------------------------------------


def test_an_owner_redeems_asks_and_invites(site: Site, reader: NewReader) -> None:
    (code,) = redemptions.make_codes(
        reference="test", count=1, amount_microcredits=5 * CREDIT, actor=COMMAND_LINE
    )
    owner = without_scripts(reader, "owner@example.com")
    page = owner.open(account_page(site, "credits/"))
    page.get_by_label("Code").fill(code.code)
    page.get_by_role("button", name="Redeem").click()
    expect(page.get_by_text("Added 5 credits.")).to_be_visible()
    card = page.locator("section", has=page.get_by_role("heading", name="Ask for credits"))
    card.get_by_label("Credits").fill("40")
    card.get_by_role("button", name="Ask for credits").click()
    expect(page.get_by_text("Waiting for a decision")).to_be_visible()
    page = owner.open(account_page(site, "team/"))
    card = page.locator("section[aria-labelledby=gw-invite]")
    card.get_by_label("E-mail address").fill("new@example.com")
    card.get_by_role("button", name="Invite").click()
    assert Invitation.objects.filter(email="new@example.com").exists()


def test_an_editor_adds_a_saved_reply_and_a_key(site: Site, reader: NewReader) -> None:
    editor = without_scripts(reader, "editor@example.com")
    page = editor.open(page_of(site, "own-answers/"))
    page.get_by_label("Question", exact=True).fill("When do you open?")
    page.get_by_label("Answer", exact=True).fill("At nine.")
    page.get_by_role("button", name="Add reply").click()
    assert FixedAnswer.objects.get().answer == "At nine."
    page = editor.open(page_of(site, "keys/new/"))
    page.get_by_label("Name").fill("Checkout")
    page.get_by_role("button", name="Create key").click()
    assert ApiKey.objects.filter(name="Checkout").exists()


def test_a_viewer_reads_and_finds_nothing_to_change(site: Site, reader: NewReader) -> None:
    viewer = without_scripts(reader, "viewer@example.com")
    words = re.compile("^(Save|New|Create|Add|Publish|Revoke|Rotate|Invite|Redeem|Ask|Switch)")
    paths = [page_of(site, path) for path in ("", "prompt/", "keys/", "own-answers/")]
    paths += [account_page(site, path) for path in ("", "usage/", "requests/", "credits/", "team/")]
    for path in paths:
        page = viewer.open(path)
        expect(page.locator("main")).to_be_visible()
        expect(page.get_by_role("button", name=words).locator("visible=true")).to_have_count(0)
    page = viewer.open(page_of(site, "keys/new/"))
    expect(page.get_by_role("heading", level=1)).to_have_text("You do not have access to this")


def test_staff_decide_on_a_request(site: Site, reader: NewReader) -> None:
    credit_requests.ask(
        account=site.channel.account,
        amount_microcredits=40 * CREDIT,
        note="For the sale",
        token=uuid.uuid4(),
        actor=Actor("owner@example.com", User.objects.get(email="owner@example.com")),
    )
    page = without_scripts(reader, "boss@example.com").open("/admin/credits/requests/")
    page.get_by_label("Reason").fill("Invoice 18")
    page.get_by_role("button", name=re.compile("^Approve request")).click()
    expect(page.get_by_role("cell", name="Approved")).to_be_visible()
    assert CreditGrant.objects.filter(amount_microcredits=40 * CREDIT).count() == 1


# --- Strangers ------------------------------------------------------------------------------------


def test_a_stranger_chooses_a_language_and_gets_no_other_cookie(
    transactional_db: None, reader: NewReader
) -> None:
    page = without_scripts(reader).open("/docs/")
    assert page.context.cookies() == []
    page.get_by_role("button", name="Deutsch").click()
    expect(page.locator("html")).to_have_attribute("lang", "de")
    assert [cookie["name"] for cookie in page.context.cookies()] == ["language"]


def test_no_page_shows_a_stranger_anything(
    provider: FakeProvider, transactional_db: None, reader: NewReader
) -> None:
    tenant = make_tenant("mine", "own", provider)
    # Other addresses lead each person to their own account.
    theirs = (f"/a/{tenant.account.pk}/", f"/channels/{tenant.site.channel.id}/")
    paths = [path for path in every_page.pages_of_owner(tenant) if path.startswith(theirs)]
    assert len(paths) > 20
    User.objects.create_user("stranger@example.com", PASSWORD)
    make_site(owner="stranger@example.com", name="Stranger")
    stranger = without_scripts(reader, "stranger@example.com").page
    nobody = without_scripts(reader)
    for path in paths:
        answer = stranger.goto(nobody.base_url + path)
        assert answer is not None
        assert answer.status == 404, path
        assert NOTHING in stranger.content(), path
        assert "/accounts/login/" in nobody.open(path).url, path
    assert "/accounts/login/" in nobody.open("/admin/").url


# --- A log-in that ends, and two tabs -------------------------------------------------------------


@pytest.mark.parametrize("email", ["owner@example.com", "editor@example.com"])
def test_an_ended_log_in_leads_back_to_the_form(site: Site, reader: NewReader, email: str) -> None:
    page = without_scripts(reader, email).open(page_of(site, "prompt/"))
    LoginSession.objects.all().delete()
    page.get_by_label("System prompt").fill("You sell tea.")
    page.get_by_role("button", name="Save as a new version").click()
    log_in_here(page, email)
    expect(page).to_have_url(re.compile(f"{page_of(site, 'prompt/')}$"))
    assert Channel.objects.get(id=site.channel.id).system_prompt == ""


def test_an_ended_log_in_of_staff_and_of_a_viewer_leads_back(site: Site, reader: NewReader) -> None:
    for email, path in (
        ("boss@example.com", f"/admin/accounts/{site.account_id}/"),
        ("viewer@example.com", account_page(site, "usage/")),
    ):
        somebody = without_scripts(reader, email)
        LoginSession.objects.all().delete()
        page = somebody.open(path)
        log_in_here(page, email)
        expect(page).to_have_url(somebody.base_url + path)


def test_two_tabs_of_an_editor_without_scripts_show_what_differs(
    site: Site, reader: NewReader
) -> None:
    editor = without_scripts(reader, "editor@example.com")
    page = editor.open(page_of(site, "prompt/"))
    other = page.context.new_page()
    other.goto(page.url)
    for tab, words in ((other, "You sell tea."), (page, "You sell coffee.")):
        tab.get_by_label("System prompt").fill(words)
        tab.get_by_role("button", name="Save as a new version").click()
    expect(page.get_by_label("Theirs: System prompt")).to_contain_text("You sell tea.")
    assert Channel.objects.get(id=site.channel.id).system_prompt == "You sell tea."
