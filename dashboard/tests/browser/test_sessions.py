"""A log-in that ends while somebody works: the pages do not pretend, and no input is lost."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Dialog, expect

from channels.models import ApiKey, Channel, LoginSession
from dashboard.tests.browser.test_journeys import site_with_people
from dashboard.tests.browser.visitors import PASSWORD, NewVisitor, Watched

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

LOGGED_OUT = re.compile("You are logged out")


def log_in_again(watched: Watched) -> None:
    page = watched.page
    page.fill("input[name=login]", "owner@example.com")
    page.fill("input[name=password]", PASSWORD)
    page.locator("main form").get_by_role("button").first.click()
    page.wait_for_url(lambda url: "/accounts/login" not in url)


def test_no_control_claims_what_an_ended_log_in_did_not_do(visitor: NewVisitor) -> None:
    site = site_with_people()
    owner = visitor(email="owner@example.com")
    page = owner.open("/")
    toast = page.locator(".gw-toast").last
    LoginSession.objects.all().delete()
    switch = page.get_by_role("switch")
    switch.click()
    expect(toast).to_have_text(LOGGED_OUT)
    expect(switch).to_have_attribute("aria-checked", "true")
    expect(switch).to_be_enabled()
    assert Channel.objects.get().is_enabled
    for control in ("[data-key-reveal]", "[data-key-copy]"):
        page.locator(".gw-toast").evaluate_all("toasts => toasts.forEach((one) => one.remove())")
        page.locator(control).first.click()
        expect(toast).to_have_text(LOGGED_OUT)
    expect(page.locator("[data-key-text]").first).not_to_contain_text(site.api_key)
    # The link leads through the log-in back to the same page.
    toast.get_by_role("link", name="Log in again").click()
    log_in_again(owner)
    expect(page.get_by_role("switch")).to_be_visible()

    page = owner.open(f"/channels/{site.channel.id}/connect/")
    LoginSession.objects.all().delete()
    page.locator("[data-reveal]").first.click()
    expect(page.locator(".gw-toast").last).to_have_text(LOGGED_OUT)
    expect(page.locator("[data-reveal]").first).to_have_attribute("aria-pressed", "false")
    page.locator(".gw-toast").evaluate_all("toasts => toasts.forEach((one) => one.remove())")
    page.get_by_role("button", name="Test this key (free)").click()
    expect(page.locator(".gw-toast").last).to_have_text(LOGGED_OUT)
    assert ApiKey.objects.filter(mode="live").count() == 1


def test_what_was_typed_survives_the_log_in(visitor: NewVisitor) -> None:
    site = site_with_people()
    owner = visitor(email="owner@example.com")
    page = owner.open(f"/channels/{site.channel.id}/prompt/")
    page.get_by_label("System prompt").fill("You sell tea.\nBe brief.")
    LoginSession.objects.all().delete()
    page.get_by_role("button", name="Save as a new version").click()
    log_in_again(owner)
    expect(page).to_have_url(re.compile(f"/channels/{site.channel.id}/prompt/$"))
    expect(page.get_by_label("System prompt")).to_have_value("You sell tea.\nBe brief.")
    expect(page.get_by_text("Your unsaved changes are back")).to_be_visible()
    assert Channel.objects.get().system_prompt == ""
    page.get_by_role("button", name="Save as a new version").click()
    expect(page.get_by_text("Saved as version 2")).to_be_visible()
    assert Channel.objects.get().system_prompt == "You sell tea.\nBe brief."
    page.reload()
    expect(page.get_by_text("Your unsaved changes are back")).to_have_count(0)
    assert page.evaluate("Object.keys(sessionStorage).filter((key) => key.includes('draft'))") == []

    # The playground puts a message that was never sent back into its field.
    page = owner.open(f"/channels/{site.channel.id}/playground/")
    page.get_by_role("textbox", name="Message").fill("Where is my parcel?")
    LoginSession.objects.all().delete()
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("textbox", name="Message")).to_have_value("Where is my parcel?")
    expect(page.locator(".gw-toast").last).to_have_text(LOGGED_OUT)


def test_leaving_with_unsaved_changes_asks_first(visitor: NewVisitor) -> None:
    site = site_with_people()
    owner = visitor(email="owner@example.com")
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page = owner.open(f"/channels/{site.channel.id}/prompt/")
    page.on("dialog", stay)
    page.get_by_label("System prompt").press_sequentially("Hello")
    page.get_by_role("link", name="Settings").click()
    page.get_by_label("System prompt").press_sequentially("!")
    assert asked == ["beforeunload"]
    page.get_by_role("button", name="Save as a new version").click()
    expect(page.get_by_text("Saved as version 2")).to_be_visible()
    page.get_by_role("link", name="Settings").click()
    expect(page.get_by_label("Messages per day")).to_be_visible()
    assert asked == ["beforeunload"]
    # Logging out discards what was typed.
    page.get_by_label("Name", exact=True).fill("Other")
    page.remove_listener("dialog", stay)
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_label("Your menu").click()
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(lambda url: "/accounts/login" in url)
    assert page.evaluate("Object.keys(sessionStorage).filter((key) => key.includes('draft'))") == []
