"""Routes behind their breakers, as a caller's requests meet them."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from channels import breaker, routes, services
from channels.errors import ProviderError
from channels.models import Provider, Route, RouteHealth
from channels.providers.base import ChatRequest, Completion, Patience
from channels.tests.factories import Site
from conftest import FakeProvider, reply

pytestmark = pytest.mark.django_db
ASK = ChatRequest([{"role": "user", "content": "Hi"}], max_output_tokens=10)


class Fake(FakeProvider):
    """Stands in for the network: the client of every provider, remembered by its name."""

    made: dict[str, Fake] = {}  # emptied by the fixture

    def __init__(self, *, provider_name: str, **more: Any) -> None:
        super().__init__()
        self.provider_name = provider_name
        self.patience: list[Patience] = []
        if provider_name in Fake.made:
            self.script = Fake.made[provider_name].script
            self.requests = Fake.made[provider_name].requests
            self.patience = Fake.made[provider_name].patience
        Fake.made[provider_name] = self

    def complete(self, request: ChatRequest, *, patience: Patience) -> Completion:
        self.patience.append(patience)
        return super().complete(request, patience=patience)


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch, settings: Any, site: Site) -> dict[str, Fake]:
    Fake.made.clear()
    monkeypatch.setattr(routes, "OpenAiCompatibleProvider", Fake)
    settings.PROVIDER_BASE_URL = "http://127.0.0.1:1/v1"
    second = Provider.objects.create(name="second", base_url="https://second.example/v1")
    Route.objects.filter(model=site.channel.model).delete()
    Route.objects.create(model=site.channel.model, provider=second, provider_model="m")
    routes.list_routes(site.caller())
    return Fake.made


def ask_all(site: Site) -> list[str]:
    """Try the routes in order, as a chat does; return what came of each."""
    outcomes = []
    for route in routes.list_routes(site.caller()):
        try:
            answer: Completion | None = route.complete(ASK, patience=Patience(0, 0, 0))
        except ProviderError as error:
            outcomes.append(f"{route.provider_name}: {error.reason}")
            continue
        assert answer
        return [*outcomes, f"{route.provider_name}: ok"]
    return outcomes


def test_the_default_goes_first_and_the_next_takes_over(site: Site, fakes: dict[str, Fake]) -> None:
    fakes["default"].fail("timeout")
    assert ask_all(site) == ["default: timeout", "second: ok"]
    assert ask_all(site) == ["default: ok"]
    assert not RouteHealth.objects.exists()


def test_a_failing_route_is_left_out_and_probed_once_a_second(
    site: Site, fakes: dict[str, Fake], clock: Any
) -> None:
    for _ in range(5):
        fakes["default"].fail()
        assert ask_all(site)[-1] == "second: ok"
    assert ask_all(site) == ["default: breaker_open", "second: ok"]
    clock.shift(1)
    fakes["default"].fail()
    assert ask_all(site) == ["default: status_500", "second: ok"]
    assert ask_all(site) == ["default: breaker_open", "second: ok"]
    assert len(fakes["default"].prompts) == 6
    clock.shift(1)
    assert ask_all(site) == ["default: ok"]
    assert ask_all(site) == ["default: ok"]


def test_a_refused_message_is_not_the_routes_fault(site: Site, fakes: dict[str, Fake]) -> None:
    for _ in range(6):
        fakes["default"].script.append(ProviderError("content_filter", is_request=True))
        assert ask_all(site) == ["default: content_filter", "second: ok"]
    assert not RouteHealth.objects.exists()


def test_a_wrong_key_is_out_for_a_minute(site: Site, fakes: dict[str, Fake], clock: Any) -> None:
    fakes["default"].script.append(ProviderError("status_401", permanent=True))
    assert ask_all(site) == ["default: status_401", "second: ok"]
    clock.shift(59)
    assert ask_all(site) == ["default: breaker_open", "second: ok"]
    clock.shift(1)
    assert ask_all(site) == ["default: ok"]


def put_out(site: Site, *, permanent: bool, names: tuple[str, ...] = ("default", "second")) -> None:
    """Note that these routes have failed just now, so that they are out."""
    models = {"default": site.caller().model.model_id, "second": "m"}
    for name in names:
        for _ in range(5):
            error = ProviderError("status_404", permanent=permanent)
            breaker.note_failure(name, models[name], error, now=timezone.now())


def test_the_last_route_left_is_tried_once_a_second(
    site: Site, fakes: dict[str, Fake], clock: Any
) -> None:
    put_out(site, permanent=True)
    for _ in range(3):
        clock.shift(0.9)
        assert ask_all(site) == ["default: breaker_open", "second: breaker_open"]
        clock.shift(0.1)
        fakes["default"].script.append(ProviderError("status_404", permanent=True))
        assert ask_all(site) == ["default: status_404", "second: breaker_open"]
    clock.shift(1)
    fakes["default"].script.append(reply("I am back"))
    assert ask_all(site) == ["default: ok"]
    assert ask_all(site) == ["default: ok"]


def test_the_last_route_left_is_not_out_at_once(site: Site, fakes: dict[str, Fake]) -> None:
    for name, model in (("default", site.caller().model.model_id), ("second", "m")):
        error = ProviderError("status_401", permanent=True)
        breaker.note_failure(name, model, error, now=timezone.now())
    assert ask_all(site) == ["default: ok"]


def test_what_is_known_of_an_idle_route_is_soon_out_of_date(
    site: Site, fakes: dict[str, Fake], clock: Any
) -> None:
    """The first route is well again, and nobody has asked the second since both had failed."""
    put_out(site, permanent=False, names=("second",))
    clock.shift(11)
    before = routes.list_routes(site.caller())
    meanwhile = routes.list_routes(site.caller())
    for listed in (before, meanwhile):
        assert listed[1].complete(ASK, patience=Patience(0, 0, 0)).text
    put_out(site, permanent=False, names=("second",))
    clock.shift(11)
    fakes["default"].fail()
    fakes["second"].fail("timeout")
    assert ask_all(site) == ["default: status_500", "second: timeout"]
    fakes["default"].fail()
    assert ask_all(site) == ["default: status_500", "second: breaker_open"]


@pytest.mark.parametrize(("is_second_out", "seconds"), [(False, 30), (True, 60)])
def test_a_route_that_hangs_leaves_half_of_the_time_to_the_next(
    site: Site, fakes: dict[str, Fake], clock: Any, is_second_out: bool, seconds: float
) -> None:
    if is_second_out:
        put_out(site, permanent=False, names=("second",))
    now = time.monotonic()
    patience = Patience(now + 60, now + 300, 15)
    for route in routes.list_routes(site.caller()):
        with suppress(ProviderError):
            route.complete(ASK, patience=patience)
            route.stream(ASK, patience=patience, on_delta=lambda _: None)
    seen = [one.first_token_by - now for one in fakes["default"].patience]
    assert seen == pytest.approx([seconds, seconds], abs=1)
    assert all(one.stream_by == patience.stream_by for one in fakes["default"].patience)
    left_to_the_last = [one.first_token_by - now for one in fakes["second"].patience]
    assert left_to_the_last == pytest.approx([] if is_second_out else [60, 60], abs=1)


def test_routes_are_read_once_while_nothing_changes(
    site: Site, django_assert_num_queries: Any
) -> None:
    def names() -> list[str]:
        return [route.provider_name for route in routes.list_routes(site.caller())]

    assert names() == ["default", "second"]
    caller = site.caller()
    with django_assert_num_queries(0):
        routes.list_routes(caller)
    # Whoever changes them, and however: the very next caller is told.
    third = Provider.objects.create(name="third", base_url="https://third.example/v1")
    Route.objects.create(model=site.channel.model, provider=third, provider_model="m", position=1)
    assert names() == ["default", "second", "third"]
    Provider.objects.filter(name="second").update(is_enabled=False)
    assert names() == ["default", "third"]
    Route.objects.filter(provider=third).update(is_enabled=False)
    assert names() == ["default"]
    with connection.cursor() as cursor:
        cursor.execute("UPDATE channels_provider SET is_enabled = %s", [True])
    assert names() == ["default", "second"]
    Route.objects.all().delete()
    assert names() == ["default"]


def test_while_a_route_fails_each_caller_reads_how(
    site: Site, django_assert_num_queries: Any
) -> None:
    failing = RouteHealth.objects.create(
        provider_name="second", provider_model="m", failure_count=2, failed_at=timezone.now()
    )
    caller = site.caller()
    assert caller.catalogue_mark is None
    for _ in range(2):
        with django_assert_num_queries(1):
            routes.list_routes(caller)
    failing.delete()
    (_, second) = routes.list_routes(site.caller())
    assert isinstance(second, routes.GuardedRoute)
    assert second.health == breaker.Health()


def test_a_failure_that_came_with_the_routes_is_not_kept(site: Site) -> None:
    early = site.caller()
    RouteHealth.objects.create(
        provider_name="second", provider_model="m", failure_count=2, failed_at=timezone.now()
    )
    Route.objects.update(position=3)
    late = replace(early, catalogue_mark="a new mark")
    (_, second) = routes.list_routes(late)
    assert isinstance(second, routes.GuardedRoute)
    assert second.health.failure_count == 2
    RouteHealth.objects.all().delete()
    (_, second) = routes.list_routes(late)
    assert isinstance(second, routes.GuardedRoute)
    assert second.health.failure_count == 0


def test_keys_are_kept_as_they_are_stored(site: Site) -> None:
    provider = Provider.objects.get(name="second")
    services.set_provider_key(provider=provider, clear="sk-very-secret")
    assert len(routes.list_routes(site.caller())) == 2
    assert "very-secret" not in repr(routes._kept)


def test_a_context_too_long_for_the_provider_is_cut_once(
    site: Site, fakes: dict[str, Fake]
) -> None:
    too_long = ProviderError("context_length_exceeded", is_request=True)
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant")]
    request = ChatRequest([*turns, *turns, {"role": "user", "content": "m"}], 10, turn_count=2)
    fakes["default"].script += [too_long, reply("It fits")]
    (route, *_) = routes.list_routes(site.caller())
    assert route.complete(request, patience=Patience(0, 0, 0)).text == "It fits"
    assert [len(prompt) for prompt in fakes["default"].prompts] == [5, 3]
    fakes["default"].script += [too_long, too_long]
    with pytest.raises(ProviderError, match="context_length_exceeded"):
        route.complete(request, patience=Patience(0, 0, 0))
    assert len(fakes["default"].prompts) == 4


def test_a_second_model_at_the_same_provider_has_a_breaker_of_its_own(
    site: Site, fakes: dict[str, Fake], settings: Any
) -> None:
    settings.PROVIDER_BASE_URL = ""
    provider = Provider.objects.get(name="second")
    Route.objects.create(
        model=site.channel.model, provider=provider, provider_model="m-new", position=1
    )
    fakes["second"].script.append(ProviderError("status_404", permanent=True))
    assert ask_all(site) == ["second: status_404", "second: ok"]
    assert ask_all(site) == ["second: breaker_open", "second: ok"]
    assert ask_all(site) == ["second: breaker_open", "second: ok"]
