"""What people do, the way they do it: with mouse, keyboard, and curl."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest
from playwright.sync_api import expect

from billing.models import CreditAccount, LedgerEntry
from channels.models import ApiKey, AuditEntry, Channel, Membership, User
from channels.tests.factories import Site, make_site
from dashboard.tests.browser.visitors import PASSWORD, NewVisitor, Watched
from tests.support.fake_provider import FakeProvider

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def person(email: str, **fields: Any) -> User:
    """Return a person who can log in."""
    return User.objects.create_user(email, PASSWORD, **fields)


def site_with_people() -> Site:
    person("owner@example.com")
    site = make_site(owner="owner@example.com")
    for role in (Membership.Role.EDITOR, Membership.Role.VIEWER):
        Membership.objects.create(
            account=site.channel.account, user=person(f"{role.value}@example.com"), role=role
        )
    return site


def curl(base_url: str, key: str, message: str) -> dict[str, Any]:
    """Call the API as a backend does, from another program."""
    body = json.dumps({"message": message, "session_id": "visitor-1"})
    command = ["curl", "-sS", "-X", "POST", f"{base_url}/api/chat", "-H", f"X-API-Key: {key}"]
    command += ["-H", "Content-Type: application/json", "-d", body]
    answer: dict[str, Any] = json.loads(
        subprocess.run(command, check=True, capture_output=True, timeout=30).stdout
    )
    return answer


def confirm_address(watched: Watched, mailoutbox: Any) -> None:
    link = re.search(r"https?://\S+/accounts/confirm-email/\S+", mailoutbox[-1].body)
    assert link is not None, mailoutbox[-1].body
    watched.page.goto(link.group(0))
    watched.page.get_by_role("button", name="Confirm address").click()


def test_from_sign_up_to_the_first_charge(
    visitor: NewVisitor, mailoutbox: Any, provider: FakeProvider
) -> None:
    ann = visitor()
    page = ann.open("/accounts/signup/")
    page.get_by_label("E-mail address").fill("ann@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    page.wait_for_url("**/confirm-email/")
    confirm_address(ann, mailoutbox)
    if "/accounts/login" in page.url:
        ann.log_in("ann@example.com")

    ann.open("/")
    expect(page.get_by_text("Getting started")).to_be_visible()
    expect(page.get_by_role("link", name="Create first channel")).to_be_in_viewport(ratio=1)
    page.get_by_role("link", name="Create first channel").click()
    page.get_by_label("Name").fill("Ann's shop")
    page.get_by_role("button", name="Create channel").click()
    page.get_by_role("button", name="Copy the live key").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    key = page.evaluate("navigator.clipboard.readText()")
    assert key.startswith("amgai_")

    expect(page.get_by_text("Waiting for your first call…")).to_be_visible()

    told = curl(ann.base_url, key, "Hello from Ann")
    assert told["credits"]["charged"] == "1.000000"
    # The page shows the reply by itself.
    expect(page.get_by_role("heading", name="Ann's shop answers")).to_be_visible()
    expect(page.get_by_text("Reply 1")).to_be_visible()
    page.get_by_role("link", name="Shop assistant").click()
    expect(page.get_by_label("System prompt")).to_have_value(re.compile("an online shop for"))
    page.get_by_role("button", name="Save as a new version").click()
    expect(page.get_by_text("Saved as version 2.")).to_be_visible()

    ann.open("/")
    expect(page.get_by_text("Getting started")).to_have_count(0)
    expect(page.get_by_role("article", name="Ann's shop")).to_contain_text("Answered today1")
    page.get_by_role("link", name="Conversations").click()
    page.get_by_role("link", name=re.compile("Hello from Ann")).first.click()
    expect(page.get_by_text("Hello from Ann").first).to_be_visible()
    expect(page.get_by_text("Reply 1").first).to_be_visible()
    page.get_by_role("link", name="Credits", exact=True).click()
    expect(page.get_by_role("row", name=re.compile("Charge")).first).to_contain_text("99")
    charge = LedgerEntry.objects.get(kind="charge")
    assert charge.amount_microcredits == 1_000_000
    ann.assert_clean()


def test_a_key_is_rotated_with_an_overlap(visitor: NewVisitor) -> None:
    site = site_with_people()
    owner = visitor(email="owner@example.com")
    page = owner.open(f"/channels/{site.channel.id}/keys/")
    row = page.get_by_role("row", name=re.compile(rf"{site.api_key[-4:]}"))
    row.get_by_label(re.compile("^Actions for")).click()
    row.get_by_role("button", name="Rotate").click()
    dialog = page.locator("dialog[open]")
    dialog.get_by_label("The old key stops working").select_option("3600")
    dialog.get_by_role("button", name="Rotate").click()
    page.get_by_role("button", name="Copy the live key").click()
    new_key = page.evaluate("navigator.clipboard.readText()")
    assert new_key != site.api_key
    for key in (site.api_key, new_key):
        assert "reply" in curl(owner.base_url, key, "Which key?")
    expect(page.get_by_text("Ends", exact=True)).to_be_visible()
    assert ApiKey.objects.filter(mode="live", revoked_at=None, expires_at=None).count() == 1
    assert AuditEntry.objects.filter(action="key.rotated").count() == 1
    owner.assert_clean()


def test_the_switch_of_a_card_works_at_once(visitor: NewVisitor) -> None:
    site = site_with_people()
    owner = visitor(email="owner@example.com")
    page = owner.open("/")
    switch = page.get_by_role("switch")
    switch.focus()
    page.keyboard.press("Space")
    expect(switch).to_have_attribute("aria-checked", "false")
    assert not Channel.objects.get(id=site.channel.id).is_enabled
    assert curl(owner.base_url, site.api_key, "Anyone?")["code"] == "site_disabled"
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "true")
    assert "reply" in curl(owner.base_url, site.api_key, "And now?")
    owner.assert_clean()


@pytest.mark.usefixtures("connected")
def test_the_playground_streams_and_says_what_it_cost(
    visitor: NewVisitor, provider: FakeProvider
) -> None:
    site = site_with_people()
    owner = visitor(email="owner@example.com")
    page = owner.open(f"/channels/{site.channel.id}/playground/")
    page.get_by_role("textbox", name="Message").fill("Is it free?")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("Is it free?").first).to_be_visible()
    expect(page.get_by_text(re.compile("demo reply", re.IGNORECASE)).first).to_be_visible()
    assert LedgerEntry.objects.filter(kind="charge").count() == 0
    page.get_by_role("radio", name=re.compile("Paid")).check()
    page.get_by_role("textbox", name="Message").fill("And now?")
    page.keyboard.press("Enter")
    expect(page.get_by_text(re.compile(r"1 credit\b")).last).to_be_visible()
    page.wait_for_function("() => document.body.innerText.includes('And now?')")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    assert LedgerEntry.objects.filter(kind="charge").count() == 1
    owner.assert_clean()


def test_a_viewer_reads_and_changes_nothing(visitor: NewVisitor) -> None:
    site = site_with_people()
    viewer = visitor(email="viewer@example.com")
    page = viewer.open("/")
    expect(page.get_by_role("heading", name="Shop")).to_be_visible()
    expect(page.get_by_role("switch")).to_have_count(0)
    expect(page.get_by_role("link", name="New channel")).to_have_count(0)
    viewer.open(f"/channels/{site.channel.id}/")
    expect(page.get_by_role("button", name="Save")).to_have_count(0)
    viewer.open(f"/channels/{site.channel.id}/keys/")
    expect(page.get_by_role("button", name="Rotate")).to_have_count(0)
    expect(page.get_by_role("button", name=re.compile("Reveal|Copy"))).to_have_count(0)
    viewer.open("/team/")
    expect(page.get_by_role("button", name="Invite")).to_have_count(0)
    viewer.assert_clean()


def test_staff_grant_credits_and_the_ledger_says_why(visitor: NewVisitor) -> None:
    site = site_with_people()
    person("boss@example.com", is_staff=True, is_superuser=True)
    staff = visitor(email="boss@example.com")
    page = staff.open("/admin/channels/account/")
    page.get_by_role("link", name=re.compile("owner@example.com")).first.click()
    page.get_by_role("link", name=re.compile(r"\bAdd$")).first.click()
    page.get_by_label("Amount").fill("25.5")
    page.get_by_label("Reason").fill("Invoice 17")
    page.get_by_role("button", name="Preview booking").click()
    expect(page.get_by_text("125.5").first).to_be_visible()
    page.get_by_role("button", name="Book credits").click()
    page.wait_for_load_state()
    balance = CreditAccount.objects.get(account=site.channel.account)
    assert balance.balance_microcredits == 125_500_000
    entry = LedgerEntry.objects.latest("id")
    assert (entry.reason, entry.actor) == ("Invoice 17", "boss@example.com")
    owner = visitor(email="owner@example.com")
    owner.open("/credits/")
    expect(owner.page.get_by_text("Invoice 17").first).to_be_visible()
    staff.assert_clean()
    owner.assert_clean()
