"""Two tabs of one browser: of two accounts, at one form; and a stranger's browser beside them."""

from __future__ import annotations

import re

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from billing import redemptions
from billing.balance import get_balance
from channels.audit import COMMAND_LINE
from channels.models import Account, Channel, Membership, User
from channels.tests.factories import Site, make_site
from dashboard.tests.browser.visitors import PASSWORD, NewVisitor
from tests.support.clients import ApiClient

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

CREDIT = 1_000_000


@pytest.fixture
def shops() -> tuple[Site, Site]:
    """Two accounts of one owner, and a stranger with an account of their own."""
    owner = User.objects.create_user("owner@example.com", PASSWORD)
    User.objects.create_user("stranger@example.com", PASSWORD)
    first = make_site(owner="owner@example.com", name="Tea shop")
    second = make_site(owner="other@example.com", name="Book shop")
    Membership.objects.create(account_id=second.account_id, user=owner, role=Membership.Role.OWNER)
    make_site(owner="stranger@example.com", name="Stranger")
    return first, second


def test_a_code_goes_to_the_account_of_its_tab(
    visitor: NewVisitor, shops: tuple[Site, Site]
) -> None:
    first, second = shops
    (code,) = redemptions.make_codes(
        reference="test", count=1, amount_microcredits=5 * CREDIT, actor=COMMAND_LINE
    )
    owner = visitor(email="owner@example.com")
    page = owner.open(f"/a/{first.account_id}/credits/")
    other = page.context.new_page()
    other.goto(f"{owner.base_url}/channels/{second.channel.id}/")
    expect(other.get_by_role("heading", name="Book shop")).to_be_visible()
    other.goto(f"{owner.base_url}/a/{second.account_id}/credits/")
    page.get_by_label("Code").fill(code.code)
    page.get_by_role("button", name="Redeem").click()
    expect(page.get_by_text("Added 5 credits.")).to_be_visible()
    now = timezone.now()
    balances = [get_balance(account_id=one.account_id, now=now).available for one in shops]
    assert balances == [105 * CREDIT, 100 * CREDIT]


def test_two_tabs_at_one_prompt_show_what_differs(
    visitor: NewVisitor, shops: tuple[Site, Site]
) -> None:
    site, _ = shops
    owner = visitor(email="owner@example.com")
    page = owner.open(f"/channels/{site.channel.id}/prompt/")
    other = page.context.new_page()
    other.goto(page.url)
    other.get_by_label("System prompt").fill("You sell tea.")
    other.get_by_role("button", name="Save as a new version").click()
    expect(other.get_by_text("Saved as version 2")).to_be_visible()
    page.get_by_label("System prompt").fill("You sell coffee.")
    page.get_by_role("button", name="Save as a new version").click()
    expect(page.get_by_label("Theirs: System prompt")).to_contain_text("You sell tea.")
    prompt = page.get_by_role("textbox", name="System prompt")
    expect(prompt).to_have_value("You sell coffee.")
    assert Channel.objects.get(id=site.channel.id).system_prompt == "You sell tea."
    owner.expect_error("409")


def test_a_stranger_reaches_nothing(visitor: NewVisitor, shops: tuple[Site, Site]) -> None:
    site, _ = shops
    said = ApiClient(site.api_key).chat("Where is my tea?").json()
    stranger = visitor(email="stranger@example.com")
    channel, account = f"/channels/{site.channel.id}", f"/a/{site.account_id}"
    for path in (
        f"{channel}/", f"{channel}/prompt/", f"{channel}/keys/", f"{channel}/playground/",
        f"{account}/", f"{account}/usage/", f"{account}/credits/", f"{account}/team/",
        f"{account}/requests/{said['message_id']}/",
    ):  # fmt: skip
        page = stranger.open(path)
        expect(page.get_by_role("heading", name="There is nothing here")).to_be_visible()
    page = stranger.open("/")
    page.keyboard.press("Control+k")
    page.keyboard.type("Tea shop")
    expect(page.get_by_role("option", name=re.compile("Tea shop"))).to_have_count(0)
    expect(page.get_by_text("Nothing found")).to_be_visible()
    stranger.expect_error("404")
    assert Account.objects.count() == 3
