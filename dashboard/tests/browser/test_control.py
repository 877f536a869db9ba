"""Owners in control, as each role does it: caps, requests and their log, credits, drafts, keys."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from billing.models import CreditGrant, SpendCap
from channels.models import Channel, Membership, User
from channels.tests.factories import Site, make_site
from dashboard.tests.browser.visitors import PASSWORD, NewVisitor
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def shop() -> Site:
    """A channel whose account has a person of every role, and staff beside it."""
    User.objects.create_user("owner@example.com", PASSWORD)
    site = make_site(owner="owner@example.com")
    for role in (Membership.Role.EDITOR, Membership.Role.VIEWER):
        user = User.objects.create_user(f"{role.value}@example.com", PASSWORD)
        Membership.objects.create(account=site.channel.account, user=user, role=role)
    User.objects.create_superuser("boss@example.com", PASSWORD)
    return site


def test_an_editor_caps_the_channel_and_follows_the_refusal(
    visitor: NewVisitor, shop: Site, provider: FakeProvider
) -> None:
    editor = visitor(email="editor@example.com")
    page = editor.open(f"/channels/{shop.channel.id}/spend-caps/")
    whole = page.locator("form", has=page.get_by_role("heading", name="The whole channel"))
    whole.get_by_label(re.compile("day")).fill("1")
    whole.get_by_role("button", name="Save cap").click()
    expect(page.get_by_text("0 of 1 credits spent today")).to_be_visible()
    assert SpendCap.objects.get().day_limit_microcredits == 1_000_000

    api = ApiClient(shop.api_key)
    assert api.chat("First").status_code == 200
    refused = api.chat("Second").json()
    assert refused["code"] == "spend_cap_reached"

    editor.open("/")
    attention = page.locator("section", has=page.get_by_role("heading", name="Needs attention"))
    expect(attention).to_contain_text("100 % of a spend cap is used up")
    # From the refusal's id to its page.
    page.keyboard.press("Control+k")
    page.keyboard.type(refused["request_id"])
    page.get_by_role("option", name=re.compile(refused["request_id"])).first.click()
    expect(page.get_by_role("heading", name="spend_cap_reached")).to_be_visible()
    expect(page.get_by_text("Nothing was charged")).to_be_visible()
    editor.assert_clean()


def test_an_owner_asks_for_credits_and_the_staff_approve_once(
    visitor: NewVisitor, shop: Site
) -> None:
    owner = visitor(email="owner@example.com")
    page = owner.open("/credits/")
    card = page.locator("section", has=page.get_by_role("heading", name="Ask for credits"))
    card.get_by_label(re.compile("Amount|Credits")).fill("40")
    card.get_by_label(re.compile("Note")).fill("For the sale")
    card.get_by_role("button", name="Ask for credits").click()
    expect(page.get_by_text("Waiting for a decision")).to_be_visible()

    boss = visitor(email="boss@example.com")
    staff = boss.open("/admin/")
    staff.get_by_role("link", name="Decide now").click()
    expect(staff.get_by_text("For the sale")).to_be_visible()
    staff.get_by_label(re.compile("Reason")).fill("Invoice 18")
    staff.get_by_role("button", name=re.compile("^Approve request")).click()
    expect(staff.get_by_role("cell", name="Approved")).to_be_visible()
    assert CreditGrant.objects.filter(amount_microcredits=40_000_000).count() == 1

    owner.open("/credits/")
    expect(page.get_by_text("Invoice 18").first).to_be_visible()
    expect(page.get_by_text("140", exact=True).first).to_be_visible()
    owner.assert_clean()
    boss.assert_clean()


def test_a_viewer_reads_requests_and_statements_and_changes_nothing(
    visitor: NewVisitor, shop: Site, provider: FakeProvider
) -> None:
    api = ApiClient(shop.api_key)
    api.chat("Answered")
    provider.fail()
    api.chat("Failed")
    viewer = visitor(email="viewer@example.com", width=390)
    page = viewer.open("/requests/?outcome=errors")
    expect(page.locator("tbody").get_by_text("provider_error").first).to_be_visible()
    viewer.open("/statements/")
    expect(page.get_by_role("heading", name="Statements", exact=True)).to_be_visible()
    for path in ("spend-caps/", "keys/", "prompt/", "playground/"):
        viewer.open(f"/channels/{shop.channel.id}/{path}")
        words = re.compile("^(Save|New key|Publish|Revoke|Rotate)")
        changing = page.get_by_role("button", name=words)
        expect(changing.locator("visible=true")).to_have_count(0)
    viewer.assert_clean()


def test_the_staff_end_a_model_and_the_owner_is_told(visitor: NewVisitor, shop: Site) -> None:
    boss = visitor(email="boss@example.com")
    model = Channel.objects.get(id=shop.channel.id).model
    staff = boss.open(f"/admin/channels/languagemodel/{model.pk}/change/")
    day = timezone.now().date() + timedelta(days=10)
    staff.locator("[name=ends_on]").fill(day.isoformat())
    staff.get_by_role("button", name="Save", exact=True).click()
    expect(staff.get_by_text("was changed successfully")).to_be_visible()
    owner = visitor(email="owner@example.com")
    page = owner.open("/")
    attention = page.locator("section", has=page.get_by_role("heading", name="Needs attention"))
    expect(attention).to_contain_text("1 channel uses a model that retires soon")
    owner.open(f"/channels/{shop.channel.id}/")
    expect(page.get_by_text(re.compile(f"{day.day} {day:%b}")).first).to_be_visible()
    boss.assert_clean()
    owner.assert_clean()
