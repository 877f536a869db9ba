"""People read whom to ask, wherever only the operator can help."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.template.loader import render_to_string
from django.test import Client

from billing.models import CreditAccount
from channels.models import Account
from channels.tests.factories import Site
from gateway import environment
from tests.support.clients import member_client, owner_client, text_of

pytestmark = pytest.mark.django_db

MAIL = 'the operator (<a class="gw-link" href="mailto:help@example.com">help@example.com</a>)'


@pytest.fixture
def contact(settings: Any) -> None:
    settings.OPERATOR_CONTACT = "help@example.com"


@pytest.mark.usefixtures("contact")
def test_a_disabled_account_says_whom_to_ask(site: Site) -> None:
    Account.objects.update(is_enabled=False)
    assert f"Contact {MAIL}." in text_of(owner_client(site).get("/usage/"))


def test_without_a_contact_the_sentence_does_without(site: Site) -> None:
    Account.objects.update(is_enabled=False)
    text = text_of(owner_client(site).get("/usage/"))
    assert "Contact the operator." in text
    assert "mailto:" not in text


@pytest.mark.usefixtures("contact")
def test_a_web_address_is_a_link(site: Site, settings: Any) -> None:
    settings.OPERATOR_CONTACT = "https://example.com/help?a=1&b=2"
    Account.objects.update(is_enabled=False)
    assert 'href="https://example.com/help?a=1&amp;b=2"' in text_of(owner_client(site).get("/"))


@pytest.mark.usefixtures("contact")
def test_error_pages_say_whom_to_ask(site: Site) -> None:
    viewer = member_client(site, "viewer")
    for response in (
        Client().get("/nothing-here/"),
        viewer.post(f"/a/{site.account_id}/credits/redeem/", {"code": "x"}),
        Client(enforce_csrf_checks=True).post("/accounts/login/", {"login": "a@example.com"}),
        Client().get("/accounts/login/", headers={"Host": "elsewhere.example"}),
    ):
        assert response.status_code in (400, 403, 404)
        assert f"Need help? Contact {MAIL}." in text_of(response), response.status_code
    for page in ("429.html", "500.html", "503.html"):
        assert MAIL in render_to_string(page), page


def test_error_pages_do_without_a_contact() -> None:
    for page in ("400.html", "403.html", "404.html", "429.html", "500.html", "503.html"):
        assert "Need help?" not in render_to_string(page), page


def test_the_empty_balance_says_whom_to_ask(site: Site, settings: Any) -> None:
    settings.PROVIDER_BASE_URL = "http://llm.example/v1"
    settings.OPERATOR_CONTACT = "help@example.com"
    CreditAccount.objects.update(balance_microcredits=0)
    assert MAIL in text_of(owner_client(site).get("/usage/"))


def test_a_contact_that_is_none_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_CONTACT", "call us!")
    with pytest.raises(ImproperlyConfigured, match="SOME_CONTACT must be an e-mail address"):
        environment.read_contact("SOME_CONTACT")
    monkeypatch.setenv("SOME_CONTACT", "help@example.com")
    assert environment.read_contact("SOME_CONTACT") == "help@example.com"
    monkeypatch.setenv("SOME_CONTACT", "")
    assert environment.read_contact("SOME_CONTACT") == ""


def test_it_is_empty_unless_the_operator_sets_it() -> None:
    assert django_settings.OPERATOR_CONTACT == ""
