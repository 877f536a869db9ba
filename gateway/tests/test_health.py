"""The probes that load balancers and operators read."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoDbBlocker, Settings

from common import heartbeat
from gateway import health, tasks
from gateway.models import Heartbeat
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider
from tests.support.threads import run_in_threads

Ready = dict[str, Any]


def ready() -> tuple[int, Ready]:
    response = Client().get("/readyz")
    assert response.headers.get("Retry-After") == (None if response.status_code == 200 else "2")
    return response.status_code, response.json()


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget earlier log lines, and give a slow machine enough time."""
    health._noted.clear()
    monkeypatch.setattr(health, "ANSWER_WITHIN_SECONDS", 60.0)


@pytest.mark.django_db
def test_a_sound_installation_is_ready(settings: Settings) -> None:
    assert ready() == (
        200,
        {
            "status": "ok",
            "database": "ok",
            "cache": "ok",
            "worker": "away",
            "version": settings.VERSION,
        },
    )


@pytest.mark.django_db(transaction=True)
def test_asks_on_a_connection_of_its_own() -> None:
    for _ in range(3):
        assert ready()[0] == 200
    assert Heartbeat.objects.filter(name="readyz").count() == (connection.vendor == "sqlite")


# --- Ready exactly when a chat is served ----------------------------------------------------


@pytest.fixture
def without_table(transactional_db: None) -> Iterator[Callable[[str], None]]:
    """Return a function that hides a table until the test ends."""
    taken: list[str] = []

    def take(table: str, undo: bool = False) -> None:
        old, new = (f"{table}_gone", table) if undo else (table, f"{table}_gone")
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA legacy_alter_table = ON" if is_sqlite else "SELECT 1")
            cursor.execute(f'ALTER TABLE "{old}" RENAME TO "{new}"')
        taken.append(table)

    is_sqlite = connection.vendor == "sqlite"
    yield take
    for table in taken[:1]:
        take(table, undo=True)
    if is_sqlite:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA legacy_alter_table = OFF")


@pytest.mark.parametrize(
    "table",
    [
        "channels_apikey",
        "channels_channel",
        "channels_languagemodel",
        "billing_ratewindow",
        "billing_spendcap",
        "billing_hold",
        "conversations_chatsession",
        "conversations_message",
    ],
)
def test_a_database_without_a_table_is_not_ready(
    table: str, without_table: Callable[[str], None]
) -> None:
    without_table(table)
    status, body = ready()
    assert (status, body["database"]) == (503, "no_tables")


@pytest.mark.django_db
def test_a_missing_column_is_a_missing_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code is newer than the database, because `migrate` has not run."""
    statement = health._look_at_tables()
    name = 't."requests_per_minute"'
    assert name in statement
    changed = statement.replace(name, 't."added_by_a_later_version"')
    monkeypatch.setattr(health, "_look_at_tables", lambda: changed)
    status, body = ready()
    assert (status, body["database"]) == (503, "no_tables")


@pytest.mark.django_db(transaction=True)
def test_a_database_that_may_only_be_read_is_not_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For example, a standby after a failover, or a file system that was remounted read-only."""
    ask = health._ask_database

    def ask_read_only() -> None:
        with connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                cursor.execute("PRAGMA query_only = ON")
            else:
                cursor.execute("SET default_transaction_read_only = on")
        try:
            ask()
        finally:
            with connection.cursor() as cursor:
                if connection.vendor == "sqlite":
                    cursor.execute("PRAGMA query_only = OFF")
                else:
                    cursor.execute("SET default_transaction_read_only = off")

    monkeypatch.setattr(health, "_ask_database", ask_read_only)
    status, body = ready()
    assert (status, body["database"]) == (503, "not_writable")


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="a bound of SQLite's")
def test_a_full_disk_is_not_ready_and_room_makes_it_so_again(
    api: ApiClient, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's page limit stands in for a full disk."""
    ask = health._ask_database
    room = [0]

    def ask_with_room() -> None:
        with connection.cursor() as cursor:
            cursor.execute("VACUUM")
            cursor.execute("PRAGMA page_count")
            cursor.execute(f"PRAGMA max_page_count = {cursor.fetchone()[0] + room[0]}")
        ask()

    monkeypatch.setattr(health, "_ask_database", ask_with_room)
    Heartbeat.objects.all().delete()
    assert ready()[1]["database"] == "not_writable"
    room[0] = 1000
    assert ready()[1]["database"] == "ok"


@pytest.mark.django_db
@pytest.mark.parametrize("error", [OperationalError("connection refused"), RuntimeError("odd")])
def test_a_database_that_is_away_is_named(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost() -> None:
        raise error

    monkeypatch.setattr(health, "_ask_database", lost)
    status, body = ready()
    assert (status, body["status"], body["database"]) == (503, "unavailable", "unreachable")


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="a pool of PostgreSQL's")
def test_a_database_that_was_restarted_is_ready_at_once(
    api: ApiClient, provider: FakeProvider
) -> None:
    """However many broken connections the restart has left in the pool."""

    all_have_one = threading.Barrier(4)

    def use(_: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            all_have_one.wait(60)

    run_in_threads(use, 4)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert len(cursor.fetchall()) >= 3
    assert ready()[0] == 200
    connection.close()
    assert api.chat().status_code == 200


@pytest.mark.django_db
def test_a_lost_cache_alone_takes_nothing_out_of_service(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, api: ApiClient, provider: FakeProvider
) -> None:
    def lost() -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(health, "_ask_cache", lost)
    settings.REDIS_URL = settings.REDIS_URL or "redis://127.0.0.1:1/0"
    status, body = ready()
    assert (status, body["status"], body["cache"]) == (200, "ok", "unreachable")
    assert api.chat().status_code == 200


@pytest.mark.django_db
def test_without_redis_a_busy_process_says_of_no_cache_that_it_is_away(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """The cache is then the process's own memory. Late threads prove nothing about it."""
    monkeypatch.setattr(health, "_PROBES", health._PROBES | {"cache": NeverAnswers(lambda: "")})
    settings.REDIS_URL = ""
    status, body = ready()
    assert (status, body["cache"]) == (200, "ok")


class NeverAnswers(health.Probe):
    """A probe whose thread never gets its turn."""

    def begin(self) -> Future[str]:
        late: Future[str] = Future()
        late.set_exception(TimeoutError())
        return late


# --- Within a second ------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_database_that_never_answers_is_given_up_for_everybody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many callers ask, only one thread waits for it. Later it is asked again."""
    over, threads = threading.Event(), []

    def hang() -> None:
        threads.append(threading.current_thread())
        over.wait()

    with monkeypatch.context() as patched:
        patched.setattr(health, "_ask_database", hang)
        patched.setattr(health, "ANSWER_WITHIN_SECONDS", 0.1)
        assert {status for status, _ in run_in_threads(lambda _: ready(), 8)} == {503}
        assert ready()[1]["database"] == "unreachable"
        assert len(threads) == 1
        over.set()
        threads[0].join()
    assert ready()[0] == 200


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="a lock of SQLite's")
def test_a_held_writers_lock_is_an_answer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "SQLITE_WAIT_MS", 1)
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        with connection.cursor() as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            locked.set()
            done.wait()
            cursor.execute("ROLLBACK")
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    locked.wait()
    try:
        assert ready()[0] == 503
    finally:
        done.set()
        holder.join()
    assert ready()[0] == 200


@pytest.mark.django_db(transaction=True)
def test_a_flood_of_probes_asks_a_few_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_at: list[float] = []
    ask, probe = health._ask_database, health._PROBES["database"]

    def counted() -> None:
        asked_at.append(probe._asked_at)
        ask()

    monkeypatch.setattr(health, "_ask_database", counted)
    run_in_threads(lambda _: [ready() for _ in range(3)], 4)
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked_at)]
    assert len(asked_at) <= 12
    assert all(gap > health.ASK_EVERY_SECONDS - 0.001 for gap in gaps)


# --- The worker -----------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_worker_shows_itself_and_is_missed(clock: time_machine.Traveller) -> None:
    assert ready()[1]["worker"] == "away"
    tasks.beat()
    assert ready()[1]["worker"] == "ok"
    clock.shift(timedelta(minutes=4))
    status, body = ready()
    assert (status, body["worker"]) == (200, "away")
    tasks.beat()
    assert ready()[1]["worker"] == "ok"


@pytest.mark.django_db
def test_a_beat_from_the_future_proves_nothing(clock: time_machine.Traveller) -> None:
    tasks.beat()
    clock.shift(timedelta(hours=-3))
    assert ready()[1]["worker"] == "away"
    assert not heartbeat.is_worker_alive(heartbeat.worker_seen_at(), now=timezone.now())


# --- The log --------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_log_has_a_line_a_change(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lost() -> None:
        raise OperationalError("refused\n\tIs the server running?")

    def lines() -> list[tuple[str, str]]:
        found = [(record.message, vars(record).get("reason", "")) for record in caplog.records]
        caplog.clear()
        return found

    with monkeypatch.context() as patched:
        patched.setattr(health, "_ask_database", lost)
        for _ in range(3):
            ready()
        assert lines() == [("health.probe.failed", "refused Is the server running?")]
    for _ in range(3):
        ready()
    assert lines() == [("health.probe.recovered", "")]


def test_liveness_asks_nobody(settings: Settings, django_db_blocker: DjangoDbBlocker) -> None:
    with django_db_blocker.block():
        told = Client().get("/healthz").json()
    assert told == {"status": "ok", "version": settings.VERSION}
