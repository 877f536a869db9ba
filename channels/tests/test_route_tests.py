"""The test of one route: it uses the provider's client without the breaker, and words failures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from django.db import connection
from django.utils import timezone

from channels import breaker, catalogue, route_tests
from channels.errors import Fault, ProviderError
from channels.models import LanguageModel, Provider, Route, RouteHealth
from channels.providers.traits import PLAIN
from common import http
from tests.support.stub_server import Peer, StubServer, answer

pytestmark = pytest.mark.django_db

KEY = "sk-route-test-key"
LATE = 60.0  # ends a test that hangs
PONG = {
    "choices": [{"message": {"content": "pong"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 1},
    "model": "real-name",
}


@pytest.fixture(autouse=True)
def _private_addresses(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Allow a provider on this machine, with enough time even on a busy machine."""
    settings.PROVIDER_ALLOW_PRIVATE_ADDRESSES = True
    monkeypatch.setattr(route_tests, "DEADLINE_SECONDS", LATE)
    yield
    http.close_idle()


def route_to(url: str) -> Route:
    provider = Provider.objects.create(name="stub", base_url=url)
    catalogue.set_provider_key(provider=provider, clear=KEY)
    model = LanguageModel.objects.all()[0]
    return Route.objects.create(model=model, provider=provider, provider_model="stub-model")


def test_an_answer_is_told_with_latency_and_tokens() -> None:
    with StubServer(answer(orjson.dumps(PONG))) as server:
        result = route_tests.try_route(route_to(server.url("/v1")))
        request = server.requests[0]
    assert result.completion is not None
    assert result.completion.text == "pong"
    assert result.completion.usage is not None
    assert result.completion.usage.input_tokens == 9
    assert result.reason == result.words == ""
    assert request.headers["authorization"] == f"Bearer {KEY}"
    body = orjson.loads(request.body)
    assert body["model"] == "stub-model"
    assert body["max_tokens"] <= 64


def test_an_open_breaker_is_passed_by_and_left_alone() -> None:
    error = ProviderError("status_401", fault=Fault.BROKEN)
    breaker.note_failure("stub", "stub-model", error, now=timezone.now())
    with StubServer(answer(orjson.dumps(PONG))) as server:
        result = route_tests.try_route(route_to(server.url("/v1")))
    assert result.completion is not None
    row = RouteHealth.objects.get()
    assert breaker.state_of(row, now=timezone.now()) == "open"
    assert row.failure_count == 1


@pytest.mark.parametrize(
    ("status", "words", "is_permanent"),
    [
        ("401 Unauthorized", "does not accept the key", True),
        ("404 Not Found", "does not know the model", False),
        ("429 Too Many Requests", "rate limit", False),
        ("503 Service Unavailable", "own server failed (HTTP 503)", False),
        ("418 Teapot", "answered HTTP 418", False),
    ],
)
def test_a_failure_is_said_in_plain_words(status: str, words: str, is_permanent: bool) -> None:
    with StubServer(answer(b"{}", status=status)) as server:
        result = route_tests.try_route(route_to(server.url("/v1")))
    assert words in result.words
    assert result.is_permanent == is_permanent
    assert result.completion is None
    assert not RouteHealth.objects.exists()


def test_a_route_without_a_key_is_not_called(settings: Any) -> None:
    settings.PROVIDER_KEYS = {}
    route = route_to("http://127.0.0.1:1/v1")
    catalogue.set_provider_key(provider=route.provider, clear="")
    Provider.objects.update(key_setting="GROQ_API_KEY")
    result = route_tests.try_route(Route.objects.select_related("provider").get(id=route.id))
    assert result.reason == "no_key"
    assert "has no key" in result.words


def test_nobody_there_and_garbage_are_told_apart() -> None:
    assert "could not be reached" in route_tests.try_route(route_to("http://127.0.0.1:1")).words
    Provider.objects.filter(name="stub").delete()
    with StubServer(answer(b"<html>")) as server:
        assert "Does the address end in /v1" in route_tests.try_route(route_to(server.url())).words


def test_a_silent_provider_is_waited_for_until_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(route_tests, "DEADLINE_SECONDS", 0.3)

    def late(peer: Peer, request: Any) -> None:
        if peer.pause(LATE / 2):  # shorter than the deadline that the fixture sets
            peer.send(answer(orjson.dumps(PONG)))

    with StubServer(late) as server:
        result = route_tests.try_route(route_to(server.url("/v1")))
    assert result.reason == "timeout"


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_the_provider_is_asked() -> None:
    seen: list[bool] = []

    class Watching:
        provider_name = provider_model = "stub"
        traits = PLAIN

        def complete(self, request: Any, *, patience: Any) -> Any:
            seen.append(connection.in_atomic_block)
            raise ProviderError("connection")

    route = route_to("http://127.0.0.1:1/v1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("channels.routes.client_of", lambda _: Watching())
        route_tests.try_route(route)
    assert seen == [False]
