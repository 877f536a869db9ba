"""A customer's page: each part with its own permission, no visitor's text, and no key."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing.models import CreditRequest
from channels import account_keys, channel_changes
from channels.audit import COMMAND_LINE
from channels.models import Account, AuditEntry
from channels.tests.factories import Site, make_site
from common.pages.numbers import local_credits
from conversations.models import FailedRequest
from conversations.usage import rollup
from tests.support.clients import ApiClient, owner_client, staff_client, text_of
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db

# What each permission shows, besides view_account.
PARTS = {
    "view_message": "Requests, last 30 days",
    "view_creditaccount": "Credits available",
    "view_membership": "People",
    "view_channel": 'id="channels"',
    "view_ledgerentry": "Latest ledger entries",
    "view_creditrequest": "All requests",
    "view_accountkey": "Account keys",
    "view_auditentry": "Audit log",
}


def page_of(site: Site, name: str = "customer") -> str:
    return reverse(f"admin:{name}", args=[site.account_id])


@pytest.fixture
def busy(site: Site, stranger: Site, provider: FakeProvider) -> Site:
    """An account with something in each part, and a stranger's beside it."""
    provider.script.append(reply("canary-reply"))
    assert ApiClient(site.api_key).chat("canary-question").status_code == 200
    FailedRequest.objects.create(
        channel=site.channel, is_test=False, error_code="provider_error", created_at=timezone.now()
    )
    channel_changes.update_channel(channel_id=str(site.channel.id), system_prompt="canary-prompt")
    for one, name in ((site, "Script"), (stranger, "Foreign script")):
        account_keys.issue_account_key(account=one.channel.account, name=name, actor=COMMAND_LINE)
        CreditRequest.objects.create(
            account=one.channel.account,
            amount_microcredits=7_000_000,
            note="canary-note",
            created_at=timezone.now(),
        )
    return site


def test_a_customer_is_on_one_page(admin_client: Client, busy: Site) -> None:
    response = admin_client.get(page_of(busy))
    text = text_of(response)
    for words in (*PARTS.values(), "owner@example.com", "for a test", "Script", "7 credits"):
        assert words in text
    today = response.context["today"]
    assert (today.request_count, today.error_count, today.credits) == (2, 1, "1")
    assert response.context["available"] == "99"
    (row,) = admin_client.get(page_of(busy, "customer_channels")).context["rows"]
    channel, figures = row
    assert channel.name == "Shop"
    assert figures.masked_key.endswith(busy.api_key[-4:])
    assert (figures.requests_today, figures.errors_today, figures.credits_today) == (2, 1, "1")
    assert figures.last_used_at is not None


def test_figures_stay_when_they_are_rolled_up(admin_client: Client, busy: Site, clock: Any) -> None:
    clock.shift(7_200)
    ApiClient(busy.api_key).chat()
    before = admin_client.get(page_of(busy)).context["total"]
    clock.shift(7_200)
    rollup.roll_up(now=timezone.now())
    after = admin_client.get(page_of(busy)).context["total"]
    assert (before.request_count, before.credits) == (after.request_count, after.credits)


def test_all_pages_count_the_same_requests(admin_client: Client, clock: Any, busy: Site) -> None:
    month = reverse("console:overview_month", args=[busy.account_id])

    def shown() -> tuple[tuple[int, str], tuple[int, str], tuple[int, str]]:
        page = admin_client.get(reverse("admin:channels_account_changelist"))
        own = {one.pk: one.figures for one in page.context["cl"].result_list}[busy.account_id]
        customer = admin_client.get(page_of(busy)).context["total"]
        overview = owner_client(busy).get(month).context["total"]
        return (
            (own.request_count, local_credits(own.charged_microcredits)),
            (customer.request_count, customer.credits),
            (overview.request_count, overview.credits),
        )

    assert set(shown()) == {(2, "1")}
    clock.shift(7_200)
    rollup.roll_up(now=timezone.now())
    assert set(shown()) == {(2, "1")}


@pytest.mark.parametrize("permission", PARTS)
def test_each_part_needs_its_own_permission(busy: Site, permission: str) -> None:
    text = text_of(staff_client("view_account", permission).get(page_of(busy)))
    main = text[text.index('id="gw-main"') :]
    shown = {name for name, words in PARTS.items() if words in main}
    assert shown == {permission}


def test_without_the_account_there_is_nothing(busy: Site) -> None:
    client = staff_client(*PARTS)
    for name in ("customer", "customer_channels"):
        assert client.get(page_of(busy, name)).status_code == 403
    only = staff_client("view_account", email="two@example.com")
    assert only.get(page_of(busy, "customer_channels")).status_code == 403
    owner = owner_client(busy).get(page_of(busy))
    assert owner["Location"].startswith("/admin/login/")


def test_channels_show_figures_and_keys_only_to_those_who_may(busy: Site) -> None:
    plain = text_of(
        staff_client("view_account", "view_channel").get(page_of(busy, "customer_channels"))
    )
    assert "Shop" in plain
    assert busy.api_key[-4:] not in plain
    assert "Requests today" not in plain
    keys = staff_client("view_account", "view_channel", "view_apikey", email="two@example.com")
    text = text_of(keys.get(page_of(busy, "customer_channels")))
    assert busy.api_key[-4:] in text
    assert "Requests today" not in text


def test_no_text_no_key_and_nothing_of_strangers(admin_client: Client, busy: Site) -> None:
    for name in ("customer", "customer_channels"):
        text = text_of(admin_client.get(page_of(busy, name)))
        for hidden in (
            "canary-question", "canary-reply", "canary-prompt", "canary-note", busy.api_key,
            busy.test_key, "stranger@example.com", "Foreign script",
        ):  # fmt: skip
            assert hidden not in text, (name, hidden)
    assert admin_client.get("/admin/accounts/999999/").status_code == 404
    assert admin_client.get("/admin/accounts/999999/channels/").status_code == 404


def test_the_account_its_list_and_the_search_lead_here(admin_client: Client, busy: Site) -> None:
    link = page_of(busy)
    accounts = admin_client.get(reverse("admin:channels_account_changelist"))
    assert f'href="{link}"' in text_of(accounts)
    change = reverse("admin:channels_account_change", args=[busy.account_id])
    overview = reverse("admin:channels_account_overview", args=[busy.account_id])
    assert overview in text_of(admin_client.get(change))
    assert admin_client.get(overview)["Location"] == link
    assert link in text_of(admin_client.get("/admin/search/?s=owner@example.com&extended=1"))
    assert link in text_of(admin_client.get("/admin/"))


def test_the_audit_log_opens_with_this_account_alone(admin_client: Client, busy: Site) -> None:
    (link,) = (
        one["url"]
        for one in admin_client.get(page_of(busy)).context["links"]
        if one["title"] == "Audit log"
    )
    shown = admin_client.get(link).context["cl"].result_list
    assert {entry.account_id for entry in shown} == {busy.account_id}
    assert AuditEntry.objects.exclude(account_id=busy.account_id).exists()


@pytest.mark.parametrize("count", [1, 12])
def test_pages_take_few_queries(busy: Site, count: int, django_assert_max_num_queries: Any) -> None:
    account = Account.objects.get(id=busy.account_id)
    for number in range(count):
        channel_changes.create_channel(account=account, name=f"Shop {number}")
        account_keys.issue_account_key(account=account, name="More", actor=COMMAND_LINE)
        make_site(owner=f"other{number}@example.com")
    client = staff_client("view_account", "view_apikey", *PARTS)
    for name in ("customer", "customer_channels"):
        client.get(page_of(busy, name))
        with django_assert_max_num_queries(15):
            assert client.get(page_of(busy, name)).status_code == 200
