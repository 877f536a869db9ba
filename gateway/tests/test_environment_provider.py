"""The provider of PROVIDER_BASE_URL on the staff pages: visible, read-only, and testable."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from channels import routes
from channels.errors import ProviderError
from channels.models import LanguageModel, Provider, Route, User
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db

LISTS = ["/admin/channels/provider/", "/admin/channels/route/"]
TEST = "/admin/routes/environment/test/"
ADDRESS = "http://llm.example:11434/v1"


@pytest.fixture
def configured(settings: Any) -> None:
    settings.PROVIDER_BASE_URL = ADDRESS + "?key=in-the-query"
    settings.PROVIDER_API_KEY = "very-secret"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> FakeProvider:
    """The provider that answers at that URL."""
    fake = FakeProvider()
    monkeypatch.setattr(routes, "_client", lambda row: fake)
    return fake


def text_of(response: Any) -> str:
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


@pytest.mark.parametrize("page", LISTS)
def test_it_stands_above_both_lists(admin_client: Client, configured: None, page: str) -> None:
    text = text_of(admin_client.get(page))
    assert ADDRESS in text
    assert "From the environment" in text
    assert f'href="{TEST}"' in text
    assert "very-secret" not in text
    assert "in-the-query" not in text


@pytest.mark.parametrize("page", LISTS)
def test_it_says_which_parameters_callers_may_send(
    admin_client: Client, configured: None, settings: Any, page: str
) -> None:
    assert "PROVIDER_ALLOWED_PARAMETERS" not in text_of(admin_client.get(page))
    settings.PROVIDER_ALLOWED_PARAMETERS = ["mirostat", "repeat_last_n"]
    text = text_of(admin_client.get(page))
    assert "mirostat, repeat_last_n</code>" in text
    assert "PROVIDER_ALLOWED_PARAMETERS" in text


@pytest.mark.parametrize("page", LISTS)
def test_nothing_is_shown_where_there_is_none(admin_client: Client, page: str) -> None:
    assert TEST not in text_of(admin_client.get(page))
    assert admin_client.get(TEST).status_code == 404


def test_it_is_tested_with_the_model_that_is_chosen(
    admin_client: Client, configured: None, asked: FakeProvider
) -> None:
    page = text_of(admin_client.get(TEST))
    assert not asked.requests
    assert ADDRESS in page
    assert "very-secret" not in page
    model = LanguageModel.objects.order_by("position").last()
    assert model is not None
    assert f'value="{model.model_id}"' in page
    asked.script = [reply("pong"), ProviderError("status_401")]
    good = text_of(admin_client.post(TEST, {"model": model.model_id}))
    assert "The route answers" in good
    assert f'value="{model.model_id}" selected' in good
    assert "does not accept the key" in text_of(admin_client.post(TEST, {"model": model.model_id}))
    assert admin_client.post(TEST, {"model": "no-such-model"}).status_code == 404


def test_who_may_only_look_gets_no_test(configured: None, asked: FakeProvider) -> None:
    viewer = User.objects.create_user("viewer@example.com", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_provider"))
    client = Client()
    client.force_login(viewer)
    text = text_of(client.get(LISTS[0]))
    assert ADDRESS in text
    assert TEST not in text
    assert client.post(TEST).status_code == 403
    assert not asked.requests


def test_a_provider_without_its_key_is_not_in_use(admin_client: Client, settings: Any) -> None:
    Provider.objects.all().delete()
    provider = Provider.objects.create(
        name="keyless", base_url="https://api.example.com/v1", key_setting="GROQ_API_KEY"
    )
    model = LanguageModel.objects.all()[0]
    Route.objects.create(model=model, provider=provider, provider_model="m")
    for page in LISTS:
        assert "Not in use" in text_of(admin_client.get(page)), page
    settings.PROVIDER_KEYS = {"GROQ_API_KEY": "k"}
    for page in LISTS:
        assert "Not in use" not in text_of(admin_client.get(page)), page
    Provider.objects.update(is_enabled=False)
    assert "Not in use" in text_of(admin_client.get(LISTS[1]))
