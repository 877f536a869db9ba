"""Every page in four looks, with screenshots. axe finds nothing, and nothing scrolls sideways."""

from __future__ import annotations

import pytest
from django.urls import reverse

from conversations.models import FailedRequest, Message
from dashboard.tests.browser.test_journeys import person, site_with_people
from dashboard.tests.browser.visitors import LOOKS, NewVisitor, Watched, serious_findings, shoot
from tests.support.clients import ApiClient, account_page

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

CHANNEL_PAGES = ("channel", "prompt", "keys", "fixed_answers", "connect", "playground")
ACCOUNT_PAGES = (
    "index", "usage", "requests", "conversations", "credits", "team", "audit_log", "new_channel"
)  # fmt: skip
PUBLIC_PAGES = ("/accounts/login/", "/accounts/signup/", "/accounts/password/reset/", "/docs/")
OWN_PAGES = ("/accounts/password/change/", "/accounts/email/", "/accounts/2fa/")
STAFF_PAGES = (
    "/admin/",
    "/admin/health/",
    "/admin/channels/account/",
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
    pages = {name: reverse(f"console:{name}") for name in ACCOUNT_PAGES}
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
    site_with_people()
    person("boss@example.com", is_staff=True, is_superuser=True)
    pages = {path.strip("/").replace("/", "-"): path for path in STAFF_PAGES}
    look_at(visitor(width=width, look=look, email="boss@example.com"), pages, width, look)


def look_at(watched: Watched, pages: dict[str, str], width: int, look: str) -> None:
    findings = []
    for name, path in pages.items():
        watched.open(path)
        watched.page.wait_for_load_state("networkidle")
        shoot(watched, name, width=width, look=look)
        findings += [f"{path}: {finding}" for finding in serious_findings(watched.page)]
    assert not findings, findings
    watched.assert_clean()
