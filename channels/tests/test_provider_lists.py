"""Providers' own lists of their models are fetched, kept, and compared with the routes."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest
from django.db import connection

from channels import catalogue, provider_lists, tasks
from channels.errors import ProviderError
from channels.models import LanguageModel, Provider, ProviderList, Route
from channels.provider_lists import ComparedProvider
from tests.support.stub_server import StubServer, answer

pytestmark = pytest.mark.django_db

OLD = "llama-3.3-70b-versatile"


@pytest.fixture(autouse=True)
def _only_our_own(settings: Any) -> None:
    settings.PROVIDER_ALLOW_PRIVATE_ADDRESSES = True
    Provider.objects.all().delete()


def create_provider(*names: str, base_url: str = "http://127.0.0.1:1/v1", **more: Any) -> Provider:
    provider = Provider.objects.create(name="acme", base_url=base_url, **more)
    model = LanguageModel.objects.get(model_id=OLD)
    for name in names:
        Route.objects.create(model=model, provider=provider, provider_model=name)
    return provider


def serve(monkeypatch: pytest.MonkeyPatch, *names: str, error: str = "") -> None:
    def listed(client: Any, *, deadline: float) -> list[str]:
        if error:
            raise ProviderError(error)
        return sorted(names)

    monkeypatch.setattr(provider_lists, "list_served_models", listed)


def fetch(name: str = "", seconds: float = 60) -> dict[str, str]:
    return provider_lists.fetch_lists(deadline=time.monotonic() + seconds, name=name)


def compared(name: str = "acme") -> ComparedProvider:
    return next(one for one in provider_lists.compare() if one.source.name == name)


def states(name: str = "acme") -> dict[str, str]:
    return {route.provider_model: route.state for route in compared(name).routes}


def test_a_list_is_fetched_with_the_key_and_compared_with_the_routes() -> None:
    body = {"data": [{"id": "kept"}, {"id": "other"}]}
    with StubServer(answer(orjson.dumps(body))) as server:
        provider = create_provider("kept", "gone", base_url=server.url("/v1"))
        catalogue.set_provider_key(provider=provider, clear="sk-list")
        assert states() == {"kept": "unknown", "gone": "unknown"}
        assert provider_lists.count_missing() == 0
        assert fetch() == {"acme": ""}
    assert server.requests[0].headers["authorization"] == "Bearer sk-list"
    assert states() == {"kept": "listed", "gone": "missing"}
    assert provider_lists.count_missing() == 1
    found = compared()
    assert (found.name_count, found.error, found.words) == (2, "", "")
    assert found.fetched_at is not None


@pytest.mark.parametrize(
    ("used", "listed"),
    [
        ("gemini-2.5-pro", "models/gemini-2.5-pro"),
        ("llama3", "llama3:latest"),
        ("meta-llama/llama-3.3-70b-instruct:nitro", "meta-llama/llama-3.3-70b-instruct"),
    ],
)
def test_a_name_is_found_in_the_form_in_which_providers_list_it(
    used: str, listed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_provider(used, "llama3:8b")
    serve(monkeypatch, listed)
    fetch()
    assert states() == {used: "listed", "llama3:8b": "missing"}


def test_a_failure_keeps_the_names_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    create_provider("kept")
    serve(monkeypatch, "kept")
    fetch()
    first = compared().fetched_at
    serve(monkeypatch, error="status_401")
    assert fetch() == {"acme": "status_401"}
    found = compared()
    assert found.words == "The provider does not accept the key."
    assert (found.fetched_at, states()) == (first, {"kept": "listed"})
    serve(monkeypatch, "other")
    fetch()
    assert (compared().error, states()) == ("", {"kept": "missing"})


def test_a_provider_without_a_list_or_key_leaves_its_routes_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = create_provider("kept")
    serve(monkeypatch, error="status_404")
    fetch()
    assert compared().words == "The provider gives no list of its models."
    assert states() == {"kept": "unknown"}
    Provider.objects.filter(pk=provider.pk).update(key_setting="GROQ_API_KEY")
    assert fetch() == {"acme": "no_key"}
    assert "has no key" in compared().words
    assert provider_lists.count_missing() == 0


def test_names_from_another_address_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    create_provider("kept")
    serve(monkeypatch, "kept")
    fetch()
    Provider.objects.update(base_url="http://127.0.0.1:2/v1")
    assert states() == {"kept": "unknown"}
    serve(monkeypatch, error="timeout")
    fetch()
    assert (states(), compared().fetched_at) == ({"kept": "unknown"}, None)


def test_a_list_is_bounded_and_keeps_the_names_that_routes_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create_provider("zz-last", "gone")
    serve(monkeypatch, "zz-last", "x" * 201, *(f"m{number:05}" for number in range(6_000)))
    fetch()
    row = ProviderList.objects.get()
    assert (len(row.names), row.is_cut) == (5_000, True)
    assert max(map(len, row.names)) <= 200
    assert states() == {"zz-last": "listed", "gone": "unknown"}


def test_the_provider_of_the_environment_is_compared_by_the_gateways_own_ids(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PROVIDER_BASE_URL = "http://127.0.0.1:1/v1?api-key=secret"
    LanguageModel.objects.exclude(model_id__in=[OLD, "gemma2-9b-it"]).update(is_enabled=False)
    serve(monkeypatch, OLD)
    assert fetch() == {"default": ""}
    assert states("default") == {OLD: "listed", "gemma2-9b-it": "missing"}
    assert "secret" not in ProviderList.objects.get().base_url
    assert "secret" not in compared("default").source.base_url


def test_only_what_is_in_use_is_asked_and_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = create_provider("kept", "off")
    Route.objects.filter(provider_model="off").update(is_enabled=False)
    serve(monkeypatch, "other")
    fetch()
    assert states() == {"kept": "missing"}
    Provider.objects.filter(pk=provider.pk).update(is_enabled=False)
    assert (fetch(), provider_lists.compare()) == ({}, [])
    assert not ProviderList.objects.exists(), "what is gone is forgotten"


def test_one_list_can_be_fetched_alone_and_time_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create_provider("kept")
    Provider.objects.create(name="other", base_url="http://127.0.0.1:1/v1")
    serve(monkeypatch, "kept")
    assert fetch("acme") == {"acme": ""}
    assert fetch("nobody") == {}
    assert fetch(seconds=0) == {"acme": "no_time", "other": "no_time"}
    assert states() == {"kept": "listed"}
    assert "Fetch this one alone" in compared("other").words


def test_no_transaction_is_open_while_a_provider_answers(
    monkeypatch: pytest.MonkeyPatch, django_db_blocker: Any
) -> None:
    create_provider("kept")
    depth = len(connection.savepoint_ids)
    seen: list[int] = []

    def listed(client: Any, *, deadline: float) -> list[str]:
        seen.append(len(connection.savepoint_ids))
        return []

    monkeypatch.setattr(provider_lists, "list_served_models", listed)
    fetch()
    assert seen == [depth]


def test_the_nightly_task_fetches_all(monkeypatch: pytest.MonkeyPatch) -> None:
    create_provider("kept")
    serve(monkeypatch, "kept")
    assert tasks.fetch_model_lists() == 1
    serve(monkeypatch, error="connection")
    assert tasks.fetch_model_lists() == 0
