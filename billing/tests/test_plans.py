"""A plan limits its account's channels, which may only set tighter limits."""

from __future__ import annotations

import pytest

from channels import channel_changes
from channels.errors import UnknownModel
from channels.models import LanguageModel, Plan
from channels.tests.factories import Site
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db


def put_on_plan(site: Site, **fields: int) -> Plan:
    plan = Plan.objects.create(name="Starter", **fields)
    site.channel.account.plan = plan
    site.channel.account.save()
    return plan


def test_the_tighter_limit_holds(site: Site, api: ApiClient, provider: FakeProvider) -> None:
    put_on_plan(site, requests_per_minute=7, daily_quota=5000)
    limits = api.get("/api/key").json()["limits"]
    assert (limits["minute"]["limit"], limits["day"]["limit"]) == (7, 1000)
    assert api.chat()["X-RateLimit-Limit"] == "7"


def test_a_plan_names_the_models_to_choose_from(site: Site, api: ApiClient) -> None:
    plan = put_on_plan(site)
    plan.models_allowed.set(LanguageModel.objects.filter(model_id__startswith="llama-3.1"))
    models = api.get("/api/models").json()["models"]
    assert [model["id"] for model in models] == ["llama-3.1-70b-versatile"]
    with pytest.raises(UnknownModel):
        channel_changes.create_channel(
            account=site.channel.account, name="Second", model_id="gemma2-9b-it"
        )
    second = channel_changes.create_channel(account=site.channel.account, name="Second")
    assert second.model.model_id == "llama-3.1-70b-versatile"
