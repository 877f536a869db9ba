"""The demo data could come from a real installation. Above all, its books balance."""

from __future__ import annotations

import json
from datetime import date
from io import StringIO
from typing import Any

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db.models import Sum

from billing.models import DailyUsage
from channels.models import Account, Channel, User
from channels.tests.factories import Site, make_site
from conversations.models import ChatSession, FailedRequest, Message
from gateway import provisioning, verification
from gateway.demo import tenants
from tests.support.clients import ApiClient, log_in
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db

SMALL = ["--channels", "30", "--messages", "1500", "--days", "5"]


def run(*arguments: str) -> Any:
    out = StringIO()
    call_command("demodata", *arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


def assert_balanced() -> None:
    found = verification.verify()
    assert found.difference_count == 0, found.details


def test_fills_an_empty_installation_with_balanced_books() -> None:
    result = run(*SMALL)
    assert result["channels"] == Channel.objects.count() == 30
    assert 1500 <= result["messages"] == Message.objects.count() <= 1700
    assert ChatSession.objects.exists()
    assert FailedRequest.objects.exists()
    assert Message.objects.filter(session=None).exists()
    assert Message.objects.filter(is_test=True).exists()
    assert_balanced()


def test_the_gateway_goes_on_behind_it(provider: FakeProvider) -> None:
    provisioning.first_run()
    run(*SMALL)
    site = make_site(name="Afterwards")
    for index in range(3):
        assert ApiClient(site.api_key).chat(session_id=f"s{index}").status_code == 200
    assert_balanced()


def test_the_first_login_sees_a_good_share() -> None:
    run(*SMALL)
    account = Account.objects.get(members__email=provisioning.FIRST_EMAIL)
    assert Message.objects.filter(channel__account=account).exists()
    client = log_in(User.objects.get(email=provisioning.FIRST_EMAIL))
    for path in ("/usage/?range=30d", "/conversations/"):
        assert client.get(path).status_code == 200
    assert "These totals equal the ledger" in client.get("/usage/?range=30d").content.decode()


def test_nobody_can_log_in_to_the_tenants() -> None:
    run(*SMALL)
    users = User.objects.filter(email__endswith=f"@{tenants.DEMO_DOMAIN}")
    assert users
    assert not any(user.has_usable_password() for user in users)
    assert not any(user.is_staff for user in users)


def test_the_same_seed_makes_as_much() -> None:
    first = run(*SMALL, "--seed", "7")
    again = run(*SMALL, "--seed", "7", "--force")
    assert again["messages"] == first["messages"]
    assert_balanced()


@pytest.mark.parametrize("owner", ["somebody@example.com", "owner@example.com"])
def test_refuses_where_there_is_data_unless_forced(owner: str, provider: FakeProvider) -> None:
    site: Site = make_site(owner=owner)
    ApiClient(site.api_key).chat()
    with pytest.raises(CommandError, match="cannot be removed again"):
        run(*SMALL)
    assert Channel.objects.count() == 1
    run(*SMALL, "--force")
    assert_balanced()


@pytest.mark.parametrize("option", ["--channels", "--messages", "--days"])
def test_refuses_sizes_below_one(option: str) -> None:
    with pytest.raises(CommandError, match="at least 1"):
        run(option, "0")


def test_channels_have_names_of_their_own() -> None:
    run(*SMALL)
    names = set(Channel.objects.values_list("name", flat=True))
    assert len(names) == 30
    assert all(name.replace(" ", "").isalpha() for name in names)


@time_machine.travel("2026-11-26T12:00:00Z")
def test_weekends_are_quieter_and_the_day_under_way_has_its_part() -> None:
    run("--channels", "10", "--messages", "3000", "--days", "7")
    counts = dict(DailyUsage.objects.values_list("day").annotate(count=Sum("message_count")))
    by_day = [counts[date(2026, 11, day)] for day in range(20, 27)]
    assert sum(by_day[1:3]) < sum(by_day[3:5]) * 0.75  # Saturday and Sunday
    assert by_day[-1] < by_day[-2] * 0.75
    assert_balanced()
