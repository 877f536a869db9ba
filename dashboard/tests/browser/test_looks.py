"""Every page in four looks, with screenshots. axe finds nothing, and nothing scrolls sideways."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from billing.models import CreditRequest
from channels import account_keys, api_keys, channel_changes, key_uses, model_moves, provider_lists
from channels.audit import COMMAND_LINE
from channels.key_terms import KeyTerms
from channels.models import Channel, LanguageModel, ProviderList
from conversations.models import FailedRequest, Message
from dashboard.tests.browser.test_journeys import person, site_with_people
from dashboard.tests.browser.visitors import LOOKS, NewVisitor, Watched, serious_findings, shoot
from tests.support.clients import ApiClient, account_page

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

CHANNEL_PAGES = (
    "channel", "prompt", "keys", "new_key", "spend_caps", "fixed_answers", "upload_fixed_answers",
    "connect", "playground",
)  # fmt: skip
ACCOUNT_PAGES = (
    "index",
    "usage",
    "requests",
    "conversations",
    "credits",
    "statements",
    "team",
    "audit_log",
    "account_keys",
    "new_channel",
)
PUBLIC_PAGES = ("/accounts/login/", "/accounts/signup/", "/accounts/password/reset/", "/docs/")
OWN_PAGES = ("/accounts/password/change/", "/accounts/email/", "/accounts/2fa/")
STAFF_PAGES = (
    "/admin/",
    "/admin/health/",
    "/admin/credits/requests/",
    "/admin/activity/",
    "/admin/activity/providers/",
    "/admin/channels/account/",
    "/admin/channels/channel/",
    "/admin/channels/accountkey/",
    "/admin/channels/provider/",
    "/admin/channels/languagemodel/",
    "/admin/billing/ledgerentry/",
    "/admin/billing/creditaccount/",
)


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_pages_of_owners(width: int, look: str, visitor: NewVisitor) -> None:
    site = site_with_people()
    for message in ("Where is my parcel?", "And **when** does it come?"):
        ApiClient(site.api_key).chat(message, metadata={"url": "https://shop.example/orders"})
    key_uses.write_all()
    terms = KeyTerms("Checkout", None, ["203.0.113.0/24", "2001:db8::/32"], ["gemma2-9b-it"])
    key = api_keys.issue_api_key(channel=site.channel, is_test=False, terms=terms).record
    for old in site.channel.api_keys.filter(mode="live").exclude(id=key.id):
        api_keys.rotate_api_key(api_key=old, overlap=timedelta(days=1), actor=COMMAND_LINE)
    for name in ("Set-up script", "Dashboard of the agency"):
        account_keys.issue_account_key(account=site.channel.account, name=name, actor=COMMAND_LINE)
    Channel.objects.filter(id=site.channel.id).update(external_id="shop" + "-0123456789" * 10)
    pages = {name: reverse(f"console:{name}") for name in ACCOUNT_PAGES}
    pages["edit_key"] = reverse("console:edit_key", args=[site.channel.id, key.id])
    pages |= {name: reverse(f"console:{name}", args=[site.channel.id]) for name in CHANNEL_PAGES}
    pages |= {path.strip("/").replace("/", "-"): path for path in OWN_PAGES}
    refused = ApiClient(site.api_key).chat("")
    reply = Message.objects.filter(role="assistant")[0]
    failure = FailedRequest.objects.get(request_id=refused["X-Request-Id"])
    pages["request"] = account_page(site, f"requests/{reply.pk}/")
    pages["failed-request"] = account_page(site, f"requests/failed/{failure.pk}/")
    look_at(visitor(width=width, look=look, email="owner@example.com"), pages, width, look)


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_pages_for_everybody(width: int, look: str, visitor: NewVisitor) -> None:
    pages = {path.strip("/").replace("/", "-"): path for path in PUBLIC_PAGES}
    look_at(visitor(width=width, look=look), pages, width, look)


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_pages_of_staff(width: int, look: str, visitor: NewVisitor) -> None:
    account = site_with_people().channel.account
    account_keys.issue_account_key(account=account, name="Script", actor=COMMAND_LINE)
    person("boss@example.com", is_staff=True, is_superuser=True)
    pages = {path.strip("/").replace("/", "-"): path for path in STAFF_PAGES}
    pages["set-up-provider"] = "/admin/providers/set-up/?preset=ollama"
    for name in ("customer", "customer_channels"):
        pages[name] = reverse(f"admin:{name}", args=[account.id])
    look_at(visitor(width=width, look=look, email="boss@example.com"), pages, width, look)


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_pages_about_models_that_retire(width: int, look: str, visitor: NewVisitor) -> None:
    site = site_with_people()
    person("boss@example.com", is_staff=True, is_superuser=True)
    now = timezone.now()
    other = LanguageModel.objects.get(model_id="mixtral-8x7b-32768")
    for model, days in ((site.channel.model, 0), (other, 20)):
        successor = LanguageModel.objects.get(model_id="gemma2-9b-it")
        LanguageModel.objects.filter(pk=model.pk).update(
            ends_on=now.date() + timedelta(days=days), successor=successor
        )
    channel_changes.create_channel(
        account=site.channel.account, name="Next", model_id=other.model_id
    )
    model_moves.move_from_retired_models(now=now)
    provider_lists.fetch_lists(deadline=0)
    ProviderList.objects.filter(provider_name="openrouter").update(
        names=["meta-llama/llama-3.3-70b-instruct"],
        fetched_at=now,
        base_url="https://openrouter.ai/api/v1",
    )
    pages = {f"ends-{name}": reverse(f"console:{name}") for name in ("index", "new_channel")}
    pages["ends-channel"] = reverse("console:channel", args=[site.channel.id])
    look_at(visitor(width=width, look=look, email="owner@example.com"), pages, width, look)
    pages = {"ends-admin": "/admin/", "ends-model-lists": "/admin/models/"}
    look_at(visitor(width=width, look=look, email="boss@example.com"), pages, width, look)


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_pages_of_a_request_and_a_statement(width: int, look: str, visitor: NewVisitor) -> None:
    site = site_with_people()
    ApiClient(site.api_key).chat("Where is my parcel?")
    person("boss@example.com", is_staff=True, is_superuser=True)
    fields = {"account_id": site.account_id, "created_at": timezone.now()}
    CreditRequest.objects.create(
        amount_microcredits=10**15,
        note="Order 17. " * 20,
        state="declined",
        decision_reason="The invoice of October is open. " * 6,
        decided_at=timezone.now(),
        **fields,
    )
    CreditRequest.objects.create(amount_microcredits=250_000_000, note="Order 18", **fields)
    month = f"{timezone.now():%Y-%m}"
    owner = {
        "credits-asked": reverse("console:credits", args=[site.account_id]),
        "statement": reverse("console:statement", args=[site.account_id, month]),
    }
    look_at(visitor(width=width, look=look, email="owner@example.com"), owner, width, look)
    staff = {"admin-requests": "/admin/credits/requests/", "admin-waiting": "/admin/"}
    look_at(visitor(width=width, look=look, email="boss@example.com"), staff, width, look)


def look_at(watched: Watched, pages: dict[str, str], width: int, look: str) -> None:
    findings = []
    for name, path in pages.items():
        watched.open(path)
        watched.page.wait_for_load_state("networkidle")
        shoot(watched, name, width=width, look=look)
        findings += [f"{path}: {finding}" for finding in serious_findings(watched.page)]
    assert not findings, findings
    watched.assert_clean()
