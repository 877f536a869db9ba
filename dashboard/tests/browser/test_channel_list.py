"""Many channels in a browser: several are chosen, counted, and switched off after a question."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from channels import channel_changes
from channels.models import Account, Channel
from channels.tests.factories import Site, make_site
from dashboard.console.channel_list import MOST_CARDS
from dashboard.tests.browser.test_channel_pages import enter
from dashboard.tests.browser.visitors import LOOKS, NewVisitor, serious_findings, shoot
from tests.support.clients import account_page

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def site(transactional_db: None) -> Site:
    """An account with a channel more than fits on cards."""
    site = make_site()
    account = Account.objects.get(id=site.account_id)
    for number in range(MOST_CARDS):
        channel_changes.create_channel(account=account, name=f"Blog {number}")
    return site


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_several_go_off_after_a_question_that_names_them(
    site: Site, visitor: NewVisitor, width: int, look: str
) -> None:
    watched = enter(visitor, site, width=width, look=look)
    page = watched.open(account_page(site, "channels/?sort=name"))
    row = page.get_by_role("row").filter(has_text="Blog 1")
    top = "getBoundingClientRect().top"
    place = f"row => row.{top} - row.closest('.gw-page').{top}"
    before = row.evaluate(place)
    for name in ("Blog 1", "Blog 3"):
        page.get_by_role("checkbox", name=f"Choose {name}").check()
    expect(page.get_by_text("2 chosen")).to_be_in_viewport(ratio=1)
    assert row.evaluate(place) == before
    assert serious_findings(page) == []
    shoot(watched, "channels-chosen", width=width, look=look)
    page.get_by_role("button", name="Switch off").click()
    dialog = page.get_by_role("dialog", name="Switch off these channels?")
    expect(dialog.get_by_role("listitem")).to_have_text(["Blog 1", "Blog 3"])
    assert serious_findings(page) == []
    dialog.get_by_role("button", name="Cancel").click()
    assert not Channel.objects.filter(is_enabled=False).exists()
    page.get_by_role("button", name="Switch off").click()
    dialog.get_by_role("button", name="Switch off").click()
    expect(page.get_by_text("Switched off: 2 channels.")).to_be_visible()
    off = Channel.objects.filter(is_enabled=False).order_by("name")
    assert [one.name for one in off] == ["Blog 1", "Blog 3"]
    watched.assert_clean()


def test_the_head_chooses_all_and_none(site: Site, visitor: NewVisitor) -> None:
    watched = enter(visitor, site)
    page = watched.open(account_page(site, "channels/"))
    everything = page.get_by_role("checkbox", name="Choose all channels shown")
    everything.check()
    expect(page.get_by_text(f"{MOST_CARDS + 1} chosen")).to_be_visible()
    page.get_by_role("checkbox", name="Choose Blog 0").uncheck()
    expect(everything).not_to_be_checked()
    expect(page.get_by_text(f"{MOST_CARDS} chosen")).to_be_visible()
    everything.check()
    everything.uncheck()
    expect(page.locator("[data-chosen-count]")).to_be_hidden()
    page.get_by_role("link", name="Channel", exact=True).click()
    expect(page.get_by_role("columnheader", name="Channel", exact=True)).to_have_attribute(
        "aria-sort", "ascending"
    )
    watched.assert_clean()
