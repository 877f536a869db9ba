"""The staff's page about providers' own lists of models, and about models that retire."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from channels import model_moves, provider_lists
from channels.errors import ProviderError
from channels.models import AuditEntry, Channel, LanguageModel, Plan, Provider, ProviderList
from channels.tests.factories import Site
from tests.support.clients import member_client, staff_client, text_of

pytestmark = pytest.mark.django_db

PAGE, FETCH, BACK = "/admin/models/", "/admin/models/fetch/", "/admin/models/move-back/"
OLD, NEW = "llama-3.3-70b-versatile", "gemma2-9b-it"


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch, settings: Any) -> list[str]:
    """The names that every provider lists."""
    names = ["llama-3.3-70b-versatile", "meta-llama/llama-3.3-70b-instruct"]
    monkeypatch.setattr(provider_lists, "list_served_models", lambda client, **_: names)
    settings.PROVIDER_KEYS = {"GROQ_API_KEY": "sk-1", "OPENROUTER_API_KEY": "sk-2"}
    return names


@pytest.fixture
def moved(site: Site, clock: Any) -> Site:
    """A channel that the gateway has moved today."""
    successor = LanguageModel.objects.get(model_id=NEW)
    LanguageModel.objects.filter(model_id=OLD).update(ends_on=date(2026, 4, 5), successor=successor)
    assert model_moves.move_from_retired_models(now=timezone.now()) == 1
    return site


def model_of(site: Site) -> str:
    return Channel.objects.select_related("model").get(id=site.channel.id).model.model_id


def old_model() -> dict[str, int]:
    return {"retired_model": LanguageModel.objects.get(model_id=OLD).pk}


def test_the_page_shows_what_was_fetched_and_asks_nobody(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "No list has been fetched yet." in text_of(admin_client.get(PAGE))
    assert "does not list" not in text_of(admin_client.get("/admin/"))
    said = text_of(admin_client.post(FETCH, follow=True))
    assert "Fetched: groq, openrouter." in said
    assert "4 missing" in said

    def refuse(*args: Any, **more: Any) -> list[str]:
        raise AssertionError("a page view asks no provider")

    monkeypatch.setattr(provider_lists, "list_served_models", refuse)
    text = text_of(admin_client.get(PAGE))
    assert text.count(">Listed<") == 2
    assert text.count(">Missing<") == 4
    assert "4 routes have names that their providers do not list." in text_of(
        admin_client.get("/admin/")
    )


def test_one_list_is_fetched_and_a_failure_is_said(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **more: Any) -> list[str]:
        raise ProviderError("status_401")

    monkeypatch.setattr(provider_lists, "list_served_models", refuse)
    said = text_of(admin_client.post(FETCH, {"list_of": "groq"}, follow=True))
    assert "groq: The provider does not accept the key." in said
    assert "failed: The provider does not accept the key." in said
    assert ProviderList.objects.count() == 1
    assert admin_client.post(FETCH, {"list_of": "nobody"}).status_code == 404
    assert admin_client.get(FETCH)["Location"] == PAGE


def test_without_a_provider_the_page_says_what_to_do(admin_client: Client) -> None:
    Provider.objects.update(is_enabled=False)
    assert "No provider is in use" in text_of(admin_client.get(PAGE))
    assert "no list to fetch" in text_of(admin_client.post(FETCH, follow=True))


def test_each_permission_alone_opens_what_it_names(moved: Site) -> None:
    looks = staff_client("view_route", email="looks@example.com")
    text = text_of(looks.get(PAGE))
    assert "openrouter" in text
    assert "Fetch" not in text.replace("No list has been fetched yet.", "")
    assert "Models that retire" not in text
    assert [looks.post(page, old_model()).status_code for page in (FETCH, BACK)] == [403, 403]
    fetches = staff_client("change_route", email="fetches@example.com")
    assert fetches.get(PAGE).status_code == 403
    assert fetches.post(FETCH).status_code == 302
    assert fetches.post(BACK, old_model()).status_code == 403
    moves = staff_client("change_languagemodel", email="moves@example.com")
    assert moves.post(FETCH).status_code == 403
    assert model_of(moved) == NEW
    assert moves.post(BACK, old_model()).status_code == 302
    assert model_of(moved) == OLD
    none = staff_client("view_account", email="none@example.com")
    assert [none.get(PAGE).status_code, none.post(FETCH).status_code] == [403, 403]
    assert "Model lists" not in text_of(none.get("/admin/"))
    assert "Model lists" in text_of(looks.get("/admin/"))


@pytest.mark.parametrize("role", ["owner", "editor", "viewer"])
def test_nobody_else_gets_in(moved: Site, role: str) -> None:
    client = member_client(moved, role)
    for page in (PAGE, FETCH, BACK):
        assert client.post(page, old_model()).status_code in (302, 403)
    assert model_of(moved) == NEW
    assert not ProviderList.objects.exists()


def test_staff_move_all_channels_of_a_model_back(moved: Site, admin_client: Client) -> None:
    assert "Move 1 channel back" in text_of(admin_client.get(PAGE))
    said = text_of(admin_client.post(BACK, old_model(), follow=True))
    assert "Channels that use Llama 3.3 70B again: 1." in said
    assert "Move 1 channel back" not in said
    assert model_of(moved) == OLD
    entry = AuditEntry.objects.get(action="channel.model_moved_back")
    assert (entry.actor_name, entry.account_id) == ("admin@example.com", moved.account_id)
    assert "1 channel uses a model that has retired." in text_of(admin_client.get("/admin/"))


def test_staff_read_which_channels_cannot_go_back(moved: Site, admin_client: Client) -> None:
    plan = Plan.objects.create(name="Basic")
    plan.models_allowed.add(LanguageModel.objects.get(model_id=NEW))
    account = moved.channel.account
    account.plan = plan
    account.save()
    said = text_of(admin_client.post(BACK, old_model(), follow=True))
    assert "Channels whose plan no longer allows Llama 3.3 70B: 1." in said
    assert "still to move back" not in said
    LanguageModel.objects.filter(model_id=OLD).update(is_enabled=False)
    said = text_of(admin_client.post(BACK, old_model(), follow=True))
    assert "Llama 3.3 70B is switched off. Switch it on first." in said
    assert model_of(moved) == NEW


@pytest.mark.parametrize("wrong", ["", "x", "-1", "99999999999999999999", "\x00", "987654321"])
def test_a_model_that_there_is_not_is_not_found(wrong: str, admin_client: Client) -> None:
    assert admin_client.post(BACK, {"retired_model": wrong}).status_code == 404
