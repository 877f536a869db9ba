"""The staff's first page: today against yesterday, 30 days, providers, and low balances."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from billing.models import CreditAccount, VerificationRun
from channels import breaker, provider_lists
from channels.errors import Fault, ProviderError
from channels.models import Account, Provider, ProviderList
from channels.tests.factories import Site, make_site
from common import heartbeat
from conversations.models import FailedRequest
from conversations.usage import rollup
from dashboard.staff import activity
from tests.support.clients import ApiClient, staff_client, text_of
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000
ACTIVITY, PROVIDERS = "/admin/activity/", "/admin/activity/providers/"


@pytest.fixture
def two_days(site: Site, provider: FakeProvider, clock: Any) -> Site:
    """Two requests yesterday, one of them later than now, and three today, of which one failed."""
    clock.move_to("2026-04-14T10:00:00Z")
    ApiClient(site.api_key).chat()
    clock.shift(timedelta(hours=10))
    ApiClient(site.api_key).chat()
    clock.move_to("2026-04-15T09:30:00Z")
    for _ in range(2):
        ApiClient(site.api_key).chat()
    FailedRequest.objects.create(
        channel=site.channel, is_test=False, error_code="provider_error", created_at=timezone.now()
    )
    ApiClient(site.test_key).chat()
    clock.move_to("2026-04-15T12:00:00Z")
    return site


@pytest.mark.parametrize("is_rolled_up", [False, True])
def test_today_is_compared_with_yesterday_until_the_same_time(
    admin_client: Client, two_days: Site, is_rolled_up: bool
) -> None:
    if is_rolled_up:
        rollup.roll_up(now=timezone.now())
    response = admin_client.get(ACTIVITY)
    today, yesterday = response.context["today"], response.context["yesterday"]
    assert (today.request_count, today.error_count) == (3, 1)
    assert (yesterday.request_count, yesterday.error_count) == (1, 0)
    assert today.charged_microcredits == 2 * CREDIT
    text = text_of(response)
    for words in ("33.3 %", "+200 %", "+100 %", "15 Apr, so far", "14 Apr Answered 2"):
        assert words in text
    (top,) = response.context["top"]
    assert (top["account"].id, top["line"].credits) == (two_days.account_id, "2")


def test_the_first_page_fetches_its_slow_parts_later(admin_client: Client, site: Site) -> None:
    text = text_of(admin_client.get("/admin/"))
    for url in (ACTIVITY, PROVIDERS):
        assert f'hx-get="{url}"' in text
        assert f'href="{url}"' in text


def test_nobody_scans_what_no_worker_has_summed(
    admin_client: Client, two_days: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "MOST_UNSUMMED", 3)
    response = admin_client.get(ACTIVITY)
    assert "today" not in response.context
    assert "rollupusage" in text_of(response)
    rollup.roll_up(now=timezone.now())
    assert admin_client.get(ACTIVITY).context["today"].request_count == 3


def test_each_part_needs_its_own_permission(two_days: Site) -> None:
    client = staff_client("view_message", email="one@example.com")
    response = client.get(ACTIVITY)
    assert response.context["today"].request_count == 3
    assert "top" not in response.context
    assert "owner@example.com" not in text_of(response)
    assert client.get(PROVIDERS).status_code == 403
    home = text_of(client.get("/admin/"))
    assert ACTIVITY in home
    for hidden in ("Low balances", PROVIDERS, "Worker", "Newest accounts"):
        assert hidden not in home
    seen = {
        ("view_creditaccount",): "Low balances",
        ("view_verificationrun",): "Worker",
        ("view_provider", "view_routehealth"): PROVIDERS,
        ("view_account",): "Newest accounts",
    }
    for number, (permissions, words) in enumerate(seen.items()):
        person = staff_client(*permissions, email=f"{number}@example.com")
        home = text_of(person.get("/admin/"))
        assert [other for other in seen.values() if other in home] == [words]
        assert person.get(ACTIVITY).status_code == 403


def test_low_balances_show_the_largest_customers_first(admin_client: Client, site: Site) -> None:
    big = make_site(owner="big@example.com", credit_amount=9)
    off = make_site(owner="off@example.com", credit_amount=1)
    make_site(owner="small@example.com", credit_amount=2)
    Account.objects.create(name="Never had credits")
    CreditAccount.objects.filter(pk=big.account_id).update(
        spent_microcredits=5, held_microcredits=CREDIT
    )
    Account.objects.filter(id=off.account_id).update(is_enabled=False)
    response = admin_client.get("/admin/")
    rows = [(one.account.name, one.available) for one in response.context["low"]]
    assert rows == [("big@example.com", 8 * CREDIT), ("small@example.com", 2 * CREDIT)]


def test_providers_say_which_routes_fail(admin_client: Client, settings: Any) -> None:
    settings.PROVIDER_BASE_URL = "https://models.example/v1?key=hidden-key"
    Provider.objects.filter(name="groq").update(is_enabled=False)
    error = ProviderError("status_401", fault=Fault.BROKEN)
    breaker.note_failure("openrouter", "llama", error, now=timezone.now())
    response = admin_client.get(PROVIDERS)
    counts = {one["name"]: one["failing_count"] for one in response.context["providers"]}
    assert counts == {provider_lists.list_sources()[0].name: 0, "openrouter": 1}
    text = text_of(response)
    assert "does not accept the key" in text
    assert "left out" in text
    assert "hidden-key" not in text


def test_a_provider_without_its_key_is_not_shown_as_healthy(
    admin_client: Client, settings: Any
) -> None:
    Provider.objects.exclude(name__in=("groq", "openrouter")).update(is_enabled=False)
    setting = Provider.objects.get(name="groq").key_setting
    settings.PROVIDER_KEYS = {setting: "a-key"}
    text = text_of(admin_client.get(PROVIDERS))
    assert text.count("No recent failure") == text.count("No key") == 1
    assert text.index("groq") < text.index("No recent failure")


@pytest.mark.django_db(transaction=True)  # as for a real page, those of transactions count
def test_the_first_page_takes_few_queries_with_everything_to_say(
    admin_client: Client, two_days: Site, django_assert_max_num_queries: Any, settings: Any
) -> None:
    settings.PROVIDER_BASE_URL = "https://models.example/v1"
    VerificationRun.objects.create(
        started_at=timezone.now(), finished_at=timezone.now(), entry_count=1, difference_count=0
    )
    heartbeat.beat()
    ProviderList.objects.create(
        provider_name="openrouter", base_url="x", tried_at=timezone.now(), names=["a"]
    )
    for page, most in (("/admin/", 15), (ACTIVITY, 13), (PROVIDERS, 15)):
        admin_client.get(page)
        with django_assert_max_num_queries(most):
            assert admin_client.get(page).status_code == 200
