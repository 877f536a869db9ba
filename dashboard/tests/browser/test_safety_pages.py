"""Account data, e-mails about safety, sessions and the audit log in a browser, in four looks."""

from __future__ import annotations

import zipfile

import pytest
from playwright.sync_api import expect

from channels.models import Account
from dashboard.tests.browser.test_journeys import site_with_people
from dashboard.tests.browser.test_looks import look_at
from dashboard.tests.browser.visitors import LOOKS, NewVisitor, shoot
from tests.support.clients import account_page

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_pages_about_safety(width: int, look: str, visitor: NewVisitor) -> None:
    site = site_with_people()
    pages = {
        "account-data": account_page(site, "data/"),
        "safety-mails": "/accounts/mails/",
        "safety-sessions": "/accounts/sessions/",
        "audit-log-days": account_page(site, "audit-log/?first=2026-03-02&last=2026-03-01"),
    }
    look_at(visitor(width=width, look=look, email="owner@example.com"), pages, width, look)


def test_an_owner_exports_twice_and_deletes_the_account(visitor: NewVisitor) -> None:
    site = site_with_people()
    watched = visitor(email="owner@example.com")
    page = watched.open("/team/")
    page.get_by_role("link", name="Open account data").click()
    for _ in range(2):
        with page.expect_download() as started:
            page.get_by_role("button", name="Export account").click()
        assert "conversations.jsonl" in zipfile.ZipFile(started.value.path()).namelist()
    page.get_by_label("Account name").fill("another")
    page.get_by_role("button", name="Delete account").click()
    expect(page.get_by_text("This is not the account's name.")).to_be_visible()
    shoot(watched, "account-data-refused", width=1440, look="light")
    page.get_by_label("Account name").fill(site.channel.account.name)
    page.get_by_role("button", name="Delete account").click()
    expect(page.get_by_text("has been deleted")).to_be_visible()
    assert Account.objects.get().erased_at
    watched.assert_clean()
