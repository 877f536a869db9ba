"""Every page of owners and staff in German, whose words are longer, on a screen and on a phone.

Nothing scrolls sideways, no text of a control is cut off, no figure breaks, and axe finds nothing.
"""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from channels.models import Account, Channel, User
from conversations.models import Message
from dashboard.console.channel_list import MOST_CARDS
from dashboard.tests.browser import every_page
from dashboard.tests.browser.visitors import NewVisitor, Watched, misfits, serious_findings
from dashboard.tests.test_strangers import Tenant
from gateway.tests.test_hostile_text import make_full_tenant
from tests.support.fake_provider import FakeProvider

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def tenant(provider: FakeProvider, transactional_db: None) -> Tenant:
    """A tenant with a row of everything, and more channels than are shown as cards."""
    one = make_full_tenant(provider)
    Account.objects.filter(pk=one.account.pk).update(name="Grünkernbäckerei Müller")
    for number in range(MOST_CARDS + 1):
        Channel.objects.create(
            account=one.account,
            model=one.site.channel.model,
            name=f"Bestellannahme der Straußenfarm Nord-Niedersachsen {number}",
        )
    return one


def enter_german(watched: Watched, user: User) -> Watched:
    every_page.enter(watched, user)
    cookie: Any = {"name": "language", "value": "de", "url": watched.base_url}
    watched.page.context.add_cookies([cookie])
    return watched


def open_german(watched: Watched, path: str) -> Page:
    """Open a page in German, with what it fetches by itself."""
    page = watched.open(path)
    expect(page.locator("html")).to_have_attribute("lang", "de")
    expect(page.locator("[hx-trigger=load]")).to_have_count(0)
    return page


def look_at(watched: Watched, paths: list[str], *, with_axe: bool = True) -> list[str]:
    """Return what is wrong with pages: opened on a phone, then as wide as a screen."""
    found = []
    for path in paths:
        watched.page.set_viewport_size({"width": 390, "height": 900})
        page = open_german(watched, path)
        found += [f"{path}: {one}" for one in misfits(page)]
        if with_axe:
            found += [f"{path}: {one}" for one in serious_findings(page)]
        page.set_viewport_size({"width": 1440, "height": 900})
        found += [f"{path} at 1440 px: {one}" for one in misfits(page)]
    return found


def test_every_page_fits(tenant: Tenant, visitor: NewVisitor) -> None:
    """In one test, because the tenant takes long to make."""
    owner = enter_german(visitor(), tenant.people["owner"])
    assert look_at(owner, every_page.pages_of_owner(tenant)) == []
    boss = enter_german(visitor(), User.objects.create_superuser("boss@example.com"))
    assert look_at(boss, every_page.own_pages_of_staff(tenant)) == []
    # They are many and built alike.
    assert look_at(boss, every_page.rows_of_staff(tenant, more=False), with_axe=False) == []


@pytest.mark.parametrize("language", ["de", "en"])
def test_large_figures_stay_on_one_line(tenant: Tenant, visitor: NewVisitor, language: str) -> None:
    # Two replies.
    Message.objects.filter(role="assistant").update(input_tokens=63_500, output_tokens=41_900)
    owner = enter_german(visitor(), tenant.people["owner"])
    cookie: Any = {"name": "language", "value": language, "url": owner.base_url}
    owner.page.context.add_cookies([cookie])
    page = owner.open(f"/a/{tenant.account.pk}/usage/")
    expect(page.get_by_text("127 k").first).to_be_visible()
    for width in (1440, 1024, 768, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert misfits(page) == [], width
        heights = page.locator(".gw-stat-value > .gw-plain-link").evaluate_all(
            "links => links.map((one) => one.offsetHeight)"
        )
        # The largest type is 28 px.
        assert heights
        assert max(heights) < 50, width
