"""Models that reason silently for minutes. They get the time, and it is not taken for an outage."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import timezone

from billing.models import Hold
from channels import probes, routes
from channels.models import LanguageModel, Provider, Route, RouteHealth
from channels.providers.base import ChatRequest, Completion, OnDelta, Patience
from channels.tests import test_routes
from channels.tests.factories import Site, make_site
from conversations.chat import calls
from conversations.models import ChatSession, IdempotencyRecord
from conversations.tests.test_openai import assert_books_agree, complete
from tests.support.clients import ApiClient

pytestmark = pytest.mark.django_db(transaction=True)

GRACE = 10
both_paths = pytest.mark.parametrize("path", ["chat", "v1"])
both_ways = pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])


class Fake(test_routes.Fake):
    """Records its patience for streams too, and calls `look` during each request."""

    look: Callable[[], None] | None = None

    def complete(self, request: ChatRequest, *, patience: Patience) -> Completion:
        if Fake.look:
            Fake.look()
        return super().complete(request, patience=patience)

    def stream(self, request: ChatRequest, *, patience: Patience, on_delta: OnDelta) -> Completion:
        said = self.complete(request, patience=patience)
        on_delta(said.text)
        return said


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch, settings: Any) -> dict[str, test_routes.Fake]:
    """Replace the network with fakes, and stop the monotonic clock at 1,000 seconds."""
    test_routes.Fake.made.clear()
    monkeypatch.setattr(Fake, "look", None)
    monkeypatch.setattr(routes, "OpenAiCompatibleProvider", Fake)
    for module in (calls, routes):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 1_000.0))
    settings.PROVIDER_BASE_URL = "http://127.0.0.1:1/v1"
    return test_routes.Fake.made


@pytest.fixture
def site() -> Site:
    site = make_site()
    Route.objects.filter(model=site.channel.model).delete()
    return site


def let_think(seconds: int) -> None:
    LanguageModel.objects.update(first_token_seconds=seconds)


def ask(api: ApiClient, path: str, *, is_stream: bool, **more: Any) -> tuple[int, bytes]:
    more["stream"] = is_stream
    response = api.chat(**more) if path == "chat" else complete(api, **more)
    return response.status_code, response.getvalue() if response.streaming else response.content


# --- Time -----------------------------------------------------------------------------------------


@both_ways
@both_paths
@pytest.mark.parametrize(
    ("seconds", "plain_seconds"),
    [(0, 60), (45, 60), (60, 60), (180, 180), (300, 300), (9_999, 300)],
)
def test_hold_lease_claim_and_patience_last_as_long_as_it_may_think(
    api: ApiClient,
    fakes: dict[str, Fake],
    clock: Any,
    seconds: int,
    plain_seconds: int,
    path: str,
    is_stream: bool,
) -> None:
    let_think(seconds)
    ends: list[datetime | None] = []

    def look() -> None:
        ends.append(Hold.objects.get().expires_at)
        ends.extend(ChatSession.objects.values_list("lease_expires_at", flat=True))
        ends.append(IdempotencyRecord.objects.get().expires_at)

    Fake.look = look
    status, _ = ask(api, path, is_stream=is_stream, headers={"Idempotency-Key": "k"})
    assert status == 200
    held = (300 if is_stream else plain_seconds) + GRACE
    lasts = [(end - timezone.now()).total_seconds() for end in ends if end]
    # The key's claim also covers the longest wait for a turn, so that two never both charge.
    assert lasts == [held] * (len(ends) - 1) + [held + 30 + 5]
    assert len(ends) == (3 if path == "chat" else 2)
    (patience,) = fakes["default"].patience
    assert patience == Patience(
        first_token_by=1_000 + plain_seconds,
        stream_by=1_300,
        silence_seconds=15,
        is_long=plain_seconds > 60,
    )
    assert_books_agree()


@both_ways
@both_paths
def test_of_two_routes_the_first_leaves_half_of_the_long_time(
    site: Site, api: ApiClient, fakes: dict[str, Fake], path: str, is_stream: bool
) -> None:
    second = Provider.objects.create(name="second", base_url="https://second.example/v1")
    Route.objects.create(model=site.channel.model, provider=second, provider_model="m")
    let_think(240)
    routes.list_routes(site.caller())
    fakes["default"].fail("timeout")
    assert ask(api, path, is_stream=is_stream)[0] == 200
    first, next_one = fakes["default"].patience[0], fakes["second"].patience[0]
    assert (first.first_token_by, next_one.first_token_by) == (1_120, 1_240)
    assert first.is_long
    assert next_one.is_long
    assert not RouteHealth.objects.exists()
    assert_books_agree()


# --- Outages --------------------------------------------------------------------------------------


@both_ways
@both_paths
def test_its_time_outs_leave_no_trace_on_the_route(
    site: Site, api: ApiClient, fakes: dict[str, Fake], path: str, is_stream: bool
) -> None:
    let_think(180)
    routes.list_routes(site.caller())
    for _ in range(6):
        fakes["default"].fail("timeout")
        status, _ = ask(api, path, is_stream=is_stream)
        assert status == (500 if path == "chat" else 502)
    assert not RouteHealth.objects.exists()
    assert probes.REQUEST not in fakes["default"].requests
    assert ask(api, path, is_stream=is_stream)[0] == 200
    assert_books_agree()


@both_ways
def test_a_usual_models_time_outs_do(
    site: Site, api: ApiClient, fakes: dict[str, Fake], is_stream: bool
) -> None:
    let_think(60)
    routes.list_routes(site.caller())
    fakes["default"].fail("timeout")
    assert ask(api, "chat", is_stream=is_stream)[0] == 500
    assert RouteHealth.objects.get().reason == "timeout"


@both_ways
def test_its_failures_count_and_its_probes_time_out_does_not(
    site: Site, api: ApiClient, fakes: dict[str, Fake], clock: Any, is_stream: bool
) -> None:
    """A server error counts however long it took. A probe that times out after 10 s does not."""
    let_think(180)
    routes.list_routes(site.caller())
    for _ in range(4):
        fakes["default"].fail("status_500")
        ask(api, "chat", is_stream=is_stream)
    health = RouteHealth.objects.get()
    assert health.failure_count + health.stream_failure_count == 4
    fakes["default"].fail("status_500")
    fakes["default"].fail("timeout")  # for the probe
    ask(api, "chat", is_stream=is_stream)
    assert fakes["default"].requests[-1] is probes.REQUEST
    assert not RouteHealth.objects.exists()
    for _ in range(6):
        fakes["default"].fail("status_500")
    for _ in range(5):
        ask(api, "chat", is_stream=is_stream)
    assert RouteHealth.objects.get().opened_at is not None
