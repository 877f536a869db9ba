"""The staff's list of channels says what each one does."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from channels.models import Account, Channel
from channels.tests.factories import Site, make_site
from conversations.models import FailedRequest
from conversations.usage import rollup
from tests.support.clients import ApiClient, staff_client, text_of
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db

PAGE = "/admin/channels/channel/"


def list_of(client: Client, **query: str) -> tuple[list[Any], str]:
    response = client.get(PAGE, query)
    return list(response.context["cl"].result_list), text_of(response)


@pytest.mark.parametrize("is_rolled_up", [False, True])
def test_each_channel_says_what_it_does(
    admin_client: Client, site: Site, stranger: Site, provider: FakeProvider, clock: Any,
    is_rolled_up: bool,
) -> None:  # fmt: skip
    for _ in range(3):
        ApiClient(stranger.api_key).chat()
    clock.shift(86_400)
    ApiClient(site.api_key).chat()
    ApiClient(site.test_key).chat()
    FailedRequest.objects.create(
        channel=site.channel, is_test=False, error_code="provider_error", created_at=timezone.now()
    )
    clock.shift(3_600)
    if is_rolled_up:
        rollup.roll_up(now=timezone.now())
    rows, text = list_of(admin_client)
    figures = {row.name: row.figures for row in rows}
    own, other = figures["Shop"], figures["Stranger's shop"]
    assert (own.requests_today, own.errors_today, own.credits_today) == (2, 1, "1")
    assert (other.requests_today, other.activity.requests_by_day[-2]) == (0, 3)
    assert own.most_a_day == other.most_a_day == 3
    assert own.masked_key.endswith(site.api_key[-4:])
    for words in (own.masked_key, "1 h ago", reverse("admin:customer", args=[site.account_id])):
        assert words in text
    for hidden in (site.api_key, "requests per minute", "daily quota"):
        assert hidden not in text.lower()


def test_a_channel_of_a_disabled_account_is_not_shown_as_on(
    admin_client: Client, site: Site, stranger: Site
) -> None:
    Account.objects.filter(id=stranger.account_id).update(is_enabled=False)
    make_site(owner="third@example.com")
    Channel.objects.filter(account__memberships__user__email="third@example.com").update(
        is_enabled=False
    )
    found = admin_client.get(PAGE).context["cl"]
    states = {row.account.name: found.model_admin.state(row)[1] for row in found.result_list}
    assert states == {
        "owner@example.com": "On",
        "stranger@example.com": "Account off",
        "third@example.com": "Off",
    }


@pytest.mark.parametrize(
    ("permissions", "shown"),
    [
        ((), set()),
        (("view_apikey",), {"live key"}),
        (("view_message",), {"requests today", "credits today", "last used"}),
    ],
)
def test_columns_need_the_permission_of_what_they_show(
    site: Site, provider: FakeProvider, permissions: tuple[str, ...], shown: set[str]
) -> None:
    ApiClient(site.api_key).chat()
    _, text = list_of(staff_client("view_channel", *permissions))
    asked = {"live key", "requests today", "credits today", "last used"}
    assert {words for words in asked if words in text.lower()} == shown
    assert (site.api_key[-4:] in text) is ("view_apikey" in permissions)


@pytest.mark.parametrize("count", [1, 12])
def test_the_list_takes_few_queries(
    admin_client: Client, count: int, django_assert_max_num_queries: Any
) -> None:
    for number in range(count):
        make_site(owner=f"owner{number}@example.com")
    admin_client.get(PAGE)
    with django_assert_max_num_queries(11):
        rows, _ = list_of(admin_client)
    assert len(rows) == count
