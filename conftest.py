"""The fixtures of all tests: a site, a stranger's site, API clients, a fake provider, a clock."""

from __future__ import annotations

import gc
import importlib
import uuid
from collections.abc import Callable, Iterable, Iterator
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
from channels import callers, key_uses, probes, secret_checks
from channels import routes as channels_routes
from channels.tests.factories import Site, make_site
from common import floods
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider
from tests.support.provider import HttpProvider

# How long an example takes says what else the machine does.
hypothesis.settings.register_profile(
    "any_machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any_machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if connection.vendor != "postgresql":
        return
    for item in items:
        if item.get_closest_marker("any_database") and not item.get_closest_marker("postgres"):
            item.add_marker(pytest.mark.skip(reason="tried on SQLite"))


def pytest_collection_finish() -> None:
    """Let the garbage collector skip what lives until the end, and look less often at the rest.

    The modules and the tests are most of the heap. Looking through them takes a tenth of the run.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 10, 50)


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
    importlib.import_module("channels.migrations.0023_mark_retired_models").mark(apps, None)


BaseDatabaseOperations.execute_sql_flush = _flush  # type: ignore[method-assign]
flush.emit_post_migrate_signal = lambda *_, **__: None  # type: ignore[attr-defined]  # not in the stubs


_force_login = Client.force_login


def _force_recent_login(self: Client, user: Any, backend: str | None = None) -> None:
    """Log in as the page does, so that the person has just given their password."""
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
    key_uses.seen.clear()
    key_uses._notes.clear()
    # As after a start whose checks have passed.
    secret_checks.note_fit()


@pytest.fixture(autouse=True)
def _probes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask a route that is to be probed before the request that found this out goes on."""
    monkeypatch.setattr(probes, "_run_beside", lambda task: task())


@pytest.fixture(autouse=True)
def _no_writer_of_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the uses of keys in memory until a test writes them, in its own transaction."""
    monkeypatch.setattr(key_uses, "start_writer", lambda: None)


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


@pytest.fixture
def client_for() -> Callable[..., ApiClient]:
    return ApiClient


@pytest.fixture
def api(site: Site) -> ApiClient:
    return ApiClient(site.api_key)


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
def http_provider(settings: Any) -> Iterator[HttpProvider]:
    """The provider of the environment, over HTTP."""
    with HttpProvider() as provider:
        settings.PROVIDER_BASE_URL = provider.url
        yield provider


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """A clock that stands still at noon UTC and moves when told to."""
    with time_machine.travel("2026-04-05T12:00:00Z", tick=False) as traveller:
        yield traveller
