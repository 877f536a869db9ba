"""/api/manage/ and answer settings: the console's rules, in versions of the prompt."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from channels.models import AuditEntry, Channel, LanguageModel, Plan, PromptVersion
from channels.tests.factories import Site
from tests.support.clients import ApiClient, owner_client, page_of
from tests.support.fake_provider import FakeProvider
from tests.support.manage import ManageClient, manager_of

pytestmark = pytest.mark.django_db
OTHER = "gemma2-9b-it"
SETTINGS = {
    "temperature": 0.3,
    "max_answer_tokens": 200,
    "stop_words": ["END", "\n\n"],
    "fallback_model": OTHER,
}
NONE: dict[str, Any] = {
    "temperature": None,
    "max_answer_tokens": None,
    "stop_words": [],
    "fallback_model": None,
}
CLEARED: dict[str, Any] = {
    "temperature": "",
    "max_answer_tokens": "",
    "stop_words": [],
    "fallback_model": "",
}


@pytest.fixture
def manager(site: Site) -> ManageClient:
    return manager_of(site)


@pytest.fixture
def path(site: Site) -> str:
    return f"channels/{site.channel.id}"


def settings_of(body: dict[str, Any]) -> dict[str, Any]:
    return {name: body[name] for name in SETTINGS}


def test_a_version_has_settings_that_answer_the_next_visitor(
    site: Site, manager: ManageClient, path: str, provider: FakeProvider
) -> None:
    made = manager.post(f"{path}/prompt-versions", {"text": "Be kind.", "note": "n"} | SETTINGS)
    assert made.status_code == 201, made.content
    assert made.json()["number"] == 2
    assert settings_of(made.json()) == SETTINGS
    assert manager.get(f"{path}/prompt-versions/2").json() == made.json()
    assert settings_of(manager.get(f"{path}/prompt-versions").json()["data"][0]) == SETTINGS
    assert settings_of(manager.get(f"{path}/prompt-versions/1").json()) == NONE
    assert settings_of(manager.get(path).json()) == SETTINGS
    ApiClient(site.api_key).chat()
    assert provider.requests[0].options == {"temperature": 0.3, "stop": ["END", "\n\n"]}
    # The console shows the same version.
    page = owner_client(site).get(page_of(site, "prompt/2/")).content.decode()
    assert "Temperature: 0.3" in page
    assert "Fallback model: Gemma 2 9B" in page


def test_settings_change_member_by_member(site: Site, manager: ManageClient, path: str) -> None:
    versions = f"{path}/prompt-versions"
    manager.post(versions, {"text": "x"} | SETTINGS)
    # A text alone keeps the settings, and a setting alone keeps the text.
    assert settings_of(manager.post(versions, {"text": "y"}).json()) == SETTINGS
    colder = manager.post(versions, {"temperature": 0, "stop_words": None}).json()
    assert (colder["text"], colder["number"]) == ("y", 4)
    assert settings_of(colder) == SETTINGS | {"temperature": 0}
    same = manager.post(versions, {"temperature": 0.0, "fallback_model": OTHER})
    assert (same.status_code, same.json()["number"]) == (200, 4)
    cleared = manager.post(versions, CLEARED)
    assert (cleared.status_code, settings_of(cleared.json())) == (201, NONE)
    assert PromptVersion.objects.filter(channel=site.channel).count() == 5
    entry = AuditEntry.objects.filter(action="channel.updated").latest("id")
    assert entry.actor_name.startswith("API key ")
    assert entry.changes["fallback_model"] == ["Gemma 2 9B", None]
    assert entry.changes["system_prompt"] == ["version 4", "version 5"]


def test_a_new_channel_has_them_and_a_change_of_it_is_a_version(
    site: Site, manager: ManageClient
) -> None:
    made = manager.post("channels", {"name": "a", "system_prompt": "p"} | SETTINGS, once="k")
    assert made.status_code == 201, made.content
    assert settings_of(made.json()) == SETTINGS
    one = f"channels/{made.json()['id']}"
    assert settings_of(manager.get(f"{one}/prompt-versions/1").json()) == SETTINGS
    changed = manager.patch(one, {"temperature": 1.25, "system_prompt": "q"}).json()
    assert (changed["temperature"], changed["prompt_version"]) == (1.25, 2)
    assert manager.get(f"{one}/prompt-versions/2").json()["text"] == "q"
    assert manager.patch(one, {"name": "b", "temperature": 1.25}).json()["prompt_version"] == 2
    assert settings_of(manager.patch(one, CLEARED).json()) == NONE
    channel = Channel.objects.get(id=made.json()["id"])
    assert (channel.temperature, channel.stop_words) == (None, None)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("temperature", 2.01, "2"),
        ("temperature", -1, "0"),
        ("temperature", 0.123, "decimal places"),
        ("temperature", "0.5", "number"),
        ("temperature", True, "number"),
        ("max_answer_tokens", 15, "16"),
        ("max_answer_tokens", 9_000, "at most 8,192 tokens. Enter 8,192 or less."),
        ("max_answer_tokens", "99", "whole number"),
        ("stop_words", "END", "list"),
        ("stop_words", ["a", "b", "c", "d", "e"], "at most 4 stop words; these are 5"),
        ("stop_words", ["x" * 51], "at most 50 characters"),
        ("stop_words", ["a\0b"], "NUL"),
        ("fallback_model", "gpt-17", "There is no model 'gpt-17'. The models are: "),
        ("fallback_model", "llama-3.3-70b-versatile", "the channel's own model"),
        ("fallback_model", 1, "string"),
    ],
)
def test_what_is_wrong_is_named(
    site: Site, manager: ManageClient, path: str, name: str, value: Any, words: str
) -> None:
    for refused in (
        manager.post(f"{path}/prompt-versions", {"text": "x", name: value}),
        manager.post("channels", {"name": "x", name: value}),
        manager.patch(path, {name: value}),
    ):
        assert refused.status_code == 400, refused.content
        (found,) = refused.json()["fields"].items()
        assert found[0] == name
        assert words in found[1]
    site.channel.refresh_from_db()
    assert (site.channel.prompt_version, Channel.objects.count()) == (1, 1)


def test_a_fallback_must_be_offered_allowed_and_not_retired(
    site: Site, manager: ManageClient, path: str
) -> None:
    fallback = {"fallback_model": OTHER}
    model = LanguageModel.objects.filter(model_id=OTHER)
    assert manager.patch(path, fallback).status_code == 200
    model.update(ends_on=timezone.now().date())
    # It stays until somebody changes it, but cannot be chosen again.
    assert manager.patch(path, fallback | {"temperature": 1}).status_code == 200
    manager.patch(path, {"fallback_model": ""})

    def refused() -> None:
        for answer in (
            manager.patch(path, fallback),
            manager.post(f"{path}/prompt-versions", fallback),
            manager.post("channels", {"name": "x"} | fallback),
        ):
            assert (answer.status_code, list(answer.json()["fields"])) == (400, ["fallback_model"])

    refused()
    model.update(ends_on=None, is_enabled=False)
    refused()
    model.update(is_enabled=True)
    plan = Plan.objects.create(name="Small")
    plan.models_allowed.set([site.channel.model])
    site.channel.account.plan = plan
    site.channel.account.save()
    refused()
    plan.models_allowed.clear()
    assert manager.patch(path, fallback).status_code == 200


def test_the_fallback_cannot_become_the_channels_model(manager: ManageClient, path: str) -> None:
    manager.patch(path, {"fallback_model": OTHER})
    refused = manager.patch(path, {"model": OTHER})
    assert (refused.status_code, list(refused.json()["fields"])) == (400, ["model"])
    both = manager.patch(path, {"model": OTHER, "fallback_model": "llama-3.3-70b-versatile"})
    assert both.status_code == 200, both.content


def test_the_plan_bounds_the_versions(site: Site, manager: ManageClient, path: str) -> None:
    account = site.channel.account
    account.plan = Plan.objects.create(name="Small", max_prompt_versions=1)
    account.save()
    answer = manager.patch(path, {"temperature": 1})
    assert answer.status_code == 400
    assert "versions of system prompts" in answer.json()["error"]


def test_a_published_setting_is_a_decimal(site: Site, manager: ManageClient, path: str) -> None:
    manager.patch(path, {"temperature": 0.1})
    site.channel.refresh_from_db()
    assert site.channel.temperature == Decimal("0.10")
