"""Routes behind their breakers, as a caller's requests use them."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from channels import breaker, catalogue, probes, routes
from channels.errors import Fault, ProviderError
from channels.models import Provider, Route, RouteHealth
from channels.providers.base import ChatRequest, Completion, OnDelta, Patience
from channels.providers.traits import Traits
from channels.tests.factories import Site
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db
ASK = ChatRequest([{"role": "user", "content": "Hi"}], max_output_tokens=10)


class Fake(FakeProvider):
    """A fake client for every provider, in place of the network. `made` keeps them by name."""

    made: dict[str, Fake] = {}  # emptied by the fixture

    def __init__(self, *, provider_name: str, **more: Any) -> None:
        super().__init__()
        self.provider_name = provider_name
        self.provider_model = str(more["provider_model"])
        self.traits: Traits = more["traits"]
        self.patience: list[Patience] = []
        self.streamed: list[ChatRequest] = []
        if provider_name in Fake.made:
            self.script = Fake.made[provider_name].script
            self.requests = Fake.made[provider_name].requests
            self.patience = Fake.made[provider_name].patience
            self.streamed = Fake.made[provider_name].streamed
        Fake.made[provider_name] = self

    def complete(self, request: ChatRequest, *, patience: Patience) -> Completion:
        self.patience.append(patience)
        return super().complete(request, patience=patience)

    def stream(self, request: ChatRequest, *, patience: Patience, on_delta: OnDelta) -> Completion:
        self.streamed.append(request)
        return super().stream(request, patience=patience, on_delta=on_delta)


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


def ask_all(site: Site, *, is_stream: bool = False) -> list[str]:
    """Try the routes in order, as a chat does. Returns the outcome of each."""
    outcomes = []
    patience = Patience(0, 0, 0)
    for route in routes.list_routes(site.caller()):
        try:
            if is_stream:
                answer = route.stream(ASK, patience=patience, on_delta=lambda _: None)
            else:
                answer = route.complete(ASK, patience=patience)
        except ProviderError as error:
            outcomes.append(f"{route.provider_name}: {error.reason}")
            continue
        assert answer.text
        return [*outcomes, f"{route.provider_name}: ok"]
    return outcomes


def test_the_default_goes_first_and_the_next_takes_over(site: Site, fakes: dict[str, Fake]) -> None:
    fakes["default"].fail("timeout")
    assert ask_all(site) == ["default: timeout", "second: ok"]
    assert ask_all(site) == ["default: ok"]
    assert not RouteHealth.objects.exists()


def asked_by(fake: Fake) -> list[str]:
    """Return who sent each request, in order: a tenant, or the gateway itself."""
    return ["probe" if request is probes.REQUEST else "tenant" for request in fake.requests]


def test_a_failing_route_is_probed_by_the_gateway_alone(
    site: Site, fakes: dict[str, Fake], clock: Any
) -> None:
    for _ in range(6):
        fakes["default"].fail()
    for _ in range(5):
        assert ask_all(site) == ["default: status_500", "second: ok"]
    assert asked_by(fakes["default"]) == ["tenant"] * 5 + ["probe"]
    for _ in range(3):
        assert ask_all(site) == ["default: breaker_open", "second: ok"]
    clock.shift(1)
    fakes["default"].fail()
    assert ask_all(site) == ["default: breaker_open", "second: ok"]
    assert asked_by(fakes["default"])[5:] == ["probe", "probe"]
    clock.shift(1)
    assert ask_all(site) == ["default: breaker_open", "second: ok"]
    assert not RouteHealth.objects.exists()
    assert ask_all(site) == ["default: ok"]


def test_one_tenants_failures_take_the_route_from_nobody(
    site: Site, stranger: Site, fakes: dict[str, Fake], clock: Any
) -> None:
    """Whatever errors one tenant causes, the provider still answers the gateway's own probes."""
    for _ in range(20):
        script = [ProviderError("timeout") for _ in range(5)]
        fakes["default"].script.extend([*script, reply("pong")])
        for _ in range(5):
            ask_all(site)
        assert ask_all(stranger) == ["default: ok"]
        clock.shift(0.1)
    assert asked_by(fakes["default"]).count("probe") == 20
    assert not RouteHealth.objects.exists()


@pytest.mark.parametrize("fault", [Fault.REQUEST, Fault.DECLINED, Fault.LIMITED])
def test_what_is_the_requests_own_is_not_the_routes(
    site: Site, fakes: dict[str, Fake], fault: Fault
) -> None:
    for _ in range(6):
        fakes["default"].fail("status_400", fault=fault)
        assert ask_all(site) == ["default: status_400", "second: ok"]
    assert not RouteHealth.objects.exists()


@pytest.mark.parametrize("fault", [Fault.REQUEST, Fault.DECLINED])
def test_a_probe_that_is_refused_for_what_it_says_was_answered(
    site: Site, fakes: dict[str, Fake], fault: Fault
) -> None:
    for _ in range(5):
        fakes["default"].fail()
    fakes["default"].fail("status_400", fault=fault)
    for _ in range(5):
        ask_all(site)
    assert not RouteHealth.objects.exists()


def test_a_probe_that_meets_a_rate_limit_decides_nothing(
    site: Site, fakes: dict[str, Fake], clock: Any
) -> None:
    for _ in range(5):
        fakes["default"].fail()
    limited = ProviderError("status_429", fault=Fault.LIMITED, retry_after_seconds=3)
    fakes["default"].script.append(limited)
    for _ in range(5):
        ask_all(site)
    assert ask_all(site) == ["default: breaker_open", "second: ok"]
    clock.shift(3)
    assert ask_all(site) == ["default: ok"]
    assert not RouteHealth.objects.exists()


def test_streams_that_fail_leave_plain_answers_alone(
    site: Site, fakes: dict[str, Fake], clock: Any
) -> None:
    def stream() -> list[str]:
        return ask_all(site, is_stream=True)

    for _ in range(4):
        fakes["default"].fail("broken")
        stream()
        assert ask_all(site) == ["default: ok"]
    fakes["default"].script.extend([ProviderError("broken"), ProviderError("broken")])
    stream()
    assert stream() == ["default: breaker_open", "second: ok"]
    assert ask_all(site) == ["default: ok"]
    clock.shift(1)
    stream()
    assert stream() == ["default: ok"]
    assert fakes["default"].streamed == [ASK] * 5 + [probes.REQUEST] * 2 + [ASK]


def test_a_wrong_key_is_out_and_probed_once_a_second(
    site: Site, fakes: dict[str, Fake], clock: Any
) -> None:
    for _ in range(2):
        fakes["default"].fail("status_401", fault=Fault.BROKEN)
    assert ask_all(site) == ["default: status_401", "second: ok"]
    for _ in range(2):
        assert ask_all(site) == ["default: breaker_open", "second: ok"]
        clock.shift(1)
        assert ask_all(site) == ["default: breaker_open", "second: ok"]
    assert asked_by(fakes["default"]) == ["tenant", "probe", "probe"]
    assert ask_all(site) == ["default: ok"]


def put_out(site: Site, *, names: tuple[str, ...] = ("default", "second")) -> None:
    """Put these routes out, as if their probes had just failed."""
    models = {"default": site.caller().model.model_id, "second": "m"}
    now, error = timezone.now(), ProviderError("status_500")
    for name in names:
        route = name, models[name]
        known = [breaker.note_failure(*route, error, now=now) for _ in range(5)][-1]
        claim = breaker.claim_probe(*route, known, now=now, until=now)
        assert claim
        breaker.note_probe_failure(*route, error, claim, now=now)


def test_routes_that_are_all_out_are_probed_and_no_message_reaches_them(
    site: Site, fakes: dict[str, Fake], clock: Any
) -> None:
    put_out(site)
    for _ in range(3):
        clock.shift(0.9)
        assert ask_all(site) == ["default: breaker_open", "second: breaker_open"]
        clock.shift(0.1)
        for fake in fakes.values():
            fake.fail("status_404")
        assert ask_all(site) == ["default: breaker_open", "second: breaker_open"]
    assert asked_by(fakes["default"]) == ["probe"] * 3
    clock.shift(1)
    ask_all(site)
    assert ask_all(site) == ["default: ok"]


def test_the_last_route_left_is_asked_until_a_probe_has_failed(
    site: Site, fakes: dict[str, Fake], clock: Any
) -> None:
    for _ in range(2):
        for fake in fakes.values():
            fake.fail("status_401", fault=Fault.BROKEN)
        assert ask_all(site) == ["default: status_401", "second: status_401"]
        assert ask_all(site) == ["default: ok"]
        clock.shift(1)
        ask_all(site)
        RouteHealth.objects.all().delete()
    for fake in fakes.values():
        fake.fail("status_401", fault=Fault.BROKEN)
    ask_all(site)
    clock.shift(1)
    for fake in fakes.values():
        fake.fail("status_401", fault=Fault.BROKEN)
    assert ask_all(site)[0] == "default: ok"  # asked while the probe runs
    assert ask_all(site) == ["default: breaker_open", "second: breaker_open"]


def test_a_crash_of_a_probe_is_logged_and_harms_nobody(
    site: Site, fakes: dict[str, Fake], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(routes, "OpenAiCompatibleProvider", Fake)
    threads: list[Any] = []
    monkeypatch.setattr(probes._threads, "start", threads.append)
    monkeypatch.setattr("channels.probes.connection.close", lambda: None)
    for _ in range(5):
        fakes["second"].fail()
    second = routes.list_routes(site.caller())[-1]
    for _ in range(5):
        with suppress(ProviderError):
            second.complete(ASK, patience=Patience(0, 0, 0))
    fakes["second"].script.append(RuntimeError("a bug"))
    threads[0]()
    assert "provider.probe.failed" in caplog.text
    assert RouteHealth.objects.get().opened_at is None


def test_what_is_known_of_an_idle_route_is_soon_out_of_date(
    site: Site, fakes: dict[str, Fake], clock: Any
) -> None:
    """The first route has recovered, and nobody has asked the second since both failed."""
    put_out(site, names=("second",))
    clock.shift(15)
    before = routes.list_routes(site.caller())
    meanwhile = routes.list_routes(site.caller())
    fakes["second"].fail("timeout")  # for the probe
    for listed in (before, meanwhile):
        assert listed[1].complete(ASK, patience=Patience(0, 0, 0)).text
    fakes["default"].fail()
    assert ask_all(site) == ["default: status_500", "second: breaker_open"]


@pytest.mark.parametrize(("is_second_out", "seconds"), [(False, 30), (True, 60)])
def test_a_route_that_hangs_leaves_half_of_the_time_to_the_next(
    site: Site,
    fakes: dict[str, Fake],
    monkeypatch: pytest.MonkeyPatch,
    is_second_out: bool,
    seconds: float,
) -> None:
    if is_second_out:
        put_out(site, names=("second",))
    now = 1_000.0
    monkeypatch.setattr(routes, "time", SimpleNamespace(monotonic=lambda: now))
    patience = Patience(now + 60, now + 300, 15)
    for route in routes.list_routes(site.caller()):
        with suppress(ProviderError):
            route.complete(ASK, patience=patience)
            route.stream(ASK, patience=patience, on_delta=lambda _: None)
    seen = [one.first_token_by - now for one in fakes["default"].patience]
    assert seen == [seconds, seconds]
    assert all(one.stream_by == patience.stream_by for one in fakes["default"].patience)
    left_to_the_last = [one.first_token_by - now for one in fakes["second"].patience]
    assert left_to_the_last == ([] if is_second_out else [60, 60])


def test_routes_are_read_once_while_nothing_changes(
    site: Site, django_assert_num_queries: Any
) -> None:
    def names() -> list[str]:
        return [route.provider_name for route in routes.list_routes(site.caller())]

    assert names() == ["default", "second"]
    caller = site.caller()
    with django_assert_num_queries(0):
        routes.list_routes(caller)
    # Any change, by whatever means, applies to the next caller.
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
    catalogue.set_provider_key(provider=provider, clear="sk-very-secret")
    assert len(routes.list_routes(site.caller())) == 2
    assert "very-secret" not in str(list(within(routes._kept)))


def within(value: object, *, depth: int = 8) -> Iterator[object]:
    """Yield everything that a value refers to."""
    yield value
    for referent in gc.get_referents(value) if depth else ():
        if not isinstance(referent, type | ModuleType | FunctionType):
            yield from within(referent, depth=depth - 1)


def test_a_context_too_long_for_the_provider_is_cut_until_it_fits(
    site: Site, fakes: dict[str, Fake]
) -> None:
    too_long = ProviderError("context_length_exceeded", fault=Fault.REQUEST)
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant")]
    request = ChatRequest([*turns, *turns, {"role": "user", "content": "m"}], 100, turn_count=2)
    fakes["default"].script += [too_long, reply("It fits")]
    (route, *_) = routes.list_routes(site.caller())
    soon = Patience(time.monotonic() + 60, time.monotonic() + 60, 60)
    assert route.complete(request, patience=soon).text == "It fits"
    assert [len(prompt) for prompt in fakes["default"].prompts] == [5, 3]
    fakes["default"].script += [too_long] * 3
    with pytest.raises(ProviderError, match="context_length_exceeded"):
        route.complete(request, patience=soon)
    assert [len(prompt) for prompt in fakes["default"].prompts[2:]] == [5, 3, 1]


def test_a_second_model_at_the_same_provider_has_a_breaker_of_its_own(
    site: Site, fakes: dict[str, Fake], settings: Any
) -> None:
    settings.PROVIDER_BASE_URL = ""
    provider = Provider.objects.get(name="second")
    Route.objects.create(
        model=site.channel.model, provider=provider, provider_model="m-new", position=1
    )
    fakes["second"].fail("model_retired", fault=Fault.BROKEN)
    assert ask_all(site) == ["second: model_retired", "second: ok"]
    assert ask_all(site) == ["second: breaker_open", "second: ok"]
    assert ask_all(site) == ["second: breaker_open", "second: ok"]


# --- The demo -------------------------------------------------------------------------------------


def names_of(site: Site) -> list[str]:
    return [route.provider_name for route in routes.list_routes(site.caller())]


@pytest.fixture
def unset(settings: Any) -> Provider:
    """Set up only one provider, which needs a key and has none."""
    settings.PROVIDER_BASE_URL = ""
    settings.PROVIDER_KEYS = {}
    Provider.objects.exclude(name="second").delete()
    Provider.objects.update(key_setting="GROQ_API_KEY")
    return Provider.objects.get()


def test_the_demo_answers_while_nothing_is_set_up(site: Site, unset: Provider) -> None:
    assert names_of(site) == ["demo"]
    assert routes.is_demo()
    assert all(client.is_free for client in routes.list_routes(site.caller()))


def test_a_provider_that_needs_no_key_is_one(site: Site, unset: Provider) -> None:
    Provider.objects.update(key_setting="")
    assert names_of(site) == ["second"]
    assert not routes.is_demo()


def test_a_key_in_the_environment_is_one(site: Site, unset: Provider, settings: Any) -> None:
    settings.PROVIDER_KEYS = {"GROQ_API_KEY": "sk-1"}
    assert names_of(site) == ["second"]
    Provider.objects.update(is_enabled=False)
    assert names_of(site) == []
    assert not routes.is_demo()


@pytest.mark.parametrize("fields", [{"is_enabled": False}, {"encryption_key_id": "gone"}])
def test_the_demo_stands_in_for_no_provider_that_is_paused_or_whose_key_is_lost(
    site: Site, unset: Provider, fields: dict[str, Any]
) -> None:
    catalogue.set_provider_key(provider=unset, clear="sk-very-secret")
    assert names_of(site) == ["second"]
    Provider.objects.update(**fields)
    assert names_of(site) == []
    assert not routes.is_demo()


def test_a_route_that_is_switched_off_brings_no_demo(site: Site, unset: Provider) -> None:
    catalogue.set_provider_key(provider=unset, clear="sk-very-secret")
    Route.objects.update(is_enabled=False)
    assert names_of(site) == []


def test_a_switched_off_provider_hides_only_its_own_routes(site: Site) -> None:
    Provider.objects.update(is_enabled=False)
    assert names_of(site) == ["default"]
