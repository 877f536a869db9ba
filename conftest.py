"""What all tests share: a site, a stranger's site, API clients, a scripted provider, a clock."""

from __future__ import annotations

import importlib
import shutil
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hypothesis
import pytest
import time_machine
from allauth.account.internal.flows.login import record_authentication
from django.apps import apps
from django.core.management.commands import flush
from django.db import connection, transaction
from django.db.backends.base.operations import BaseDatabaseOperations
from django.test import Client, RequestFactory

from billing import throttling
from channels import callers, probes, secret_checks
from channels import routes as channels_routes
from channels.errors import Fault, ProviderError
from channels.providers.base import ChatMessage, ChatRequest, Completion, OnDelta, Patience, Usage
from channels.providers.traits import PLAIN, Traits
from channels.tests.factories import Site, make_site
from common import floods

# How long an example takes says what else the machine does.
hypothesis.settings.register_profile(
    "any_machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any_machine")

# What `migrate` writes and no test changes: writing it again takes longer than most tests.
_KEPT_TABLES = {"django_migrations", "django_content_type", "auth_permission"}


def _flush(self: BaseDatabaseOperations, sql_list: Iterable[str]) -> None:
    """Empty the database after a test of several transactions: past the ledger's triggers, and
    seeded again. Deletes, because TRUNCATE makes new files for each table and index.
    """
    tables = [
        table
        for table in connection.introspection.django_table_names(only_existing=True)
        if table not in _KEPT_TABLES
    ]
    deletes = [
        f"DELETE FROM {connection.ops.quote_name(table)}"  # noqa: S608  # our own tables
        for table in tables
    ]
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
            triggers = cursor.fetchall()
            before = [f"DROP TRIGGER {name}" for name, _ in triggers]
            after = [statement for _, statement in triggers]
        else:
            before = ["ALTER TABLE billing_ledgerentry DISABLE TRIGGER USER"]
            after = ["ALTER TABLE billing_ledgerentry ENABLE TRIGGER USER"]
        for statement in before:
            cursor.execute(statement)
        # Foreign keys are checked when the transaction ends.
        with transaction.atomic():
            for statement in deletes:
                cursor.execute(statement)
        for statement in after:
            cursor.execute(statement)
    importlib.import_module("channels.migrations.0002_seed_models").seed(apps, None)


BaseDatabaseOperations.execute_sql_flush = _flush  # type: ignore[method-assign]
flush.emit_post_migrate_signal = lambda *_, **__: None  # type: ignore[attr-defined]  # not in the stubs


_force_login = Client.force_login


def _force_recent_login(self: Client, user: Any, backend: str | None = None) -> None:
    """Log in as the page does: whoever has done so gave their password a moment ago."""
    _force_login(self, user, backend)
    request = RequestFactory().get("/")
    request.user, request.session = user, self.session
    record_authentication(request, user, method="password")
    request.session.save()


Client.force_login = _force_recent_login  # type: ignore[method-assign, assignment]


@pytest.fixture(autouse=True)
def _fresh_process_memory() -> None:
    """Forget what a process may remember, so that tests do not meet each other's refusals."""
    throttling._refused.clear()
    callers._kept.clear()
    channels_routes._kept = (("", ""), {})
    floods._limiter.cache_clear()
    # As after a start whose checks have passed.
    secret_checks.note_fit()


@pytest.fixture(autouse=True)
def _probes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask a route that is to be probed before the request that found this out goes on."""
    monkeypatch.setattr(probes, "_run_beside", lambda task: task())


@pytest.fixture
def forget_attempts(settings: Any) -> Callable[[], None]:
    """Return a function after which nobody has tried to log in; Redis keeps what it had."""

    def forget() -> None:
        fresh = settings.CACHES["default"] | {"KEY_PREFIX": uuid.uuid4().hex}
        settings.CACHES = settings.CACHES | {"default": fresh}

    forget()
    return forget


@pytest.fixture
def site(db: None) -> Site:
    return make_site()


@pytest.fixture
def stranger(db: None) -> Site:
    return make_site(owner="stranger@example.com", name="Stranger's shop")


class ApiClient:
    """Calls the API as a backend does: JSON bodies, the key in a header."""

    def __init__(self, key: str | None = None) -> None:
        self.client = Client(raise_request_exception=False)
        self.headers = {"X-API-Key": key} if key else {}

    def chat(self, message: Any = "Hello!", session_id: Any = "s1", **more: Any) -> Any:
        headers = more.pop("headers", {})
        return self.post(
            "/api/chat", {"message": message, "session_id": session_id} | more, headers
        )

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        return self.client.post(
            path, body, content_type="application/json", headers=self.headers | (headers or {})
        )

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers=self.headers | headers)

    def history(self, session_id: str = "s1") -> list[dict[str, str]]:
        response = self.client.get("/api/history", {"session_id": session_id}, headers=self.headers)
        assert response.status_code == 200, response.content
        messages: list[dict[str, str]] = response.json()["messages"]
        return messages

    def erase(self, session_id: str = "s1") -> Any:
        return self.client.delete(f"/api/history?session_id={session_id}", headers=self.headers)


@pytest.fixture
def client_for() -> Callable[..., ApiClient]:
    return ApiClient


@pytest.fixture
def api(site: Site) -> ApiClient:
    return ApiClient(site.api_key)


class FakeProvider:
    """Answers from a script; without one it says «Reply n». Records every prompt."""

    provider_name = "fake"
    provider_model = "fake-model"
    traits: Traits = PLAIN

    def __init__(self) -> None:
        self.script: list[Completion | Exception | Callable[[], Completion]] = []
        self.requests: list[ChatRequest] = []
        self.lock = threading.Lock()

    @property
    def prompts(self) -> list[list[ChatMessage]]:
        return [list(request.messages) for request in self.requests]

    def complete(self, request: ChatRequest, *, patience: Patience) -> Completion:
        with self.lock:
            self.requests.append(request)
            step = self.script.pop(0) if self.script else reply(f"Reply {len(self.requests)}")
        if isinstance(step, Exception):
            raise step
        return step() if callable(step) else step

    def stream(self, request: ChatRequest, *, patience: Patience, on_delta: OnDelta) -> Completion:
        """Say the reply word by word; a reply that ends in «BREAK» breaks off before its end."""
        completion = self.complete(request, patience=patience)
        for name, value in completion.members.items():
            on_delta({name: value})
        for word in completion.text.split(" ") if completion.text else ():
            if word == "BREAK":
                raise ProviderError("broken")
            on_delta(word + " ")
        if completion.refusal:
            on_delta({"refusal": completion.refusal})
        for index, call in enumerate(completion.tool_calls):
            on_delta({"tool_calls": [{"index": index} | call]})
        return completion

    def fail(self, reason: str = "status_500", *, fault: Fault = Fault.DOUBTFUL) -> None:
        is_refusal = fault is Fault.REQUEST
        self.script.append(ProviderError(reason, fault=fault, is_refusal=is_refusal))


def reply(
    text: str = "Hi!",
    input_tokens: int | None = 10,
    output_tokens: int | None = 5,
    *,
    tool_calls: Sequence[dict[str, Any]] = (),
    finish_reason: str = "stop",
    refusal: str = "",
    **members: Any,
) -> Completion:
    """Return a provider's answer; `members` are what else its message holds."""
    is_told = input_tokens is not None and output_tokens is not None
    usage = Usage(input_tokens or 0, output_tokens or 0) if is_told else None
    return Completion(text, finish_reason, usage, "fake-model", tool_calls, refusal, members)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> FakeProvider:
    """The only route of every live key."""
    fake = FakeProvider()
    original = channels_routes.list_routes
    monkeypatch.setattr(
        channels_routes,
        "list_routes",
        lambda caller, **more: original(caller, **more) if caller.is_test else [fake],
    )
    return fake


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """A clock that stands still at noon UTC and moves when told to."""
    with time_machine.travel("2026-04-05T12:00:00Z", tick=False) as traveller:
        yield traveller


def run_in_threads(work: Callable[[int], Any], count: int) -> list[Any]:
    """Run `work(0)` to `work(count - 1)` at once, each in a thread with its own connection."""
    barrier = threading.Barrier(count)

    def one(index: int) -> Any:
        try:
            barrier.wait()
            return work(index)
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def need_command(*names: str) -> None:
    """Skip a test that runs a program which a bare machine lacks; CI installs them all."""
    for name in names:
        if shutil.which(name) is None:
            pytest.skip(f"needs {name}")
