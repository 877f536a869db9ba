"""Is the process alive, and would a chat be served?

A load balancer acts only on the status of /readyz. So the status depends on what a chat needs: the
database, its tables, and room to write. Chats work without Redis and without the worker, so only
the body mentions those.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache

from django.apps import apps
from django.conf import settings
from django.core.cache import caches
from django.db import InterfaceError, OperationalError, connection, transaction
from django.http import HttpRequest, JsonResponse
from django.utils import timezone

from channels import secret_checks
from common import db, heartbeat

logger = logging.getLogger("gateway.health")

OK, UNREACHABLE = "ok", "unreachable"
ANSWER_WITHIN_SECONDS = 0.9
# A process asks the database at most this often, however many strangers ask.
ASK_EVERY_SECONDS = 0.2
# How long a probe waits for SQLite's one writer.
SQLITE_WAIT_MS = 800
# About what a message writes on either database. A disk with less room counts as full.
ROOM_BYTES = 64 * 1024


class Probe:
    """Asks one question at a time on its own thread. Callers that come meanwhile share the answer.

    A connection whose packets are dropped blocks that thread until TCP gives up, but it blocks no
    caller.
    """

    def __init__(self, ask: Callable[[], str]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._asking: Future[str] | None = None
        self._asked_at = 0.0

    def begin(self) -> Future[str]:
        """Return a future for the answer."""
        if connection.in_atomic_block:  # as in tests, whose writes no other connection sees
            asking: Future[str] = Future()
            self._run(asking)
            return asking
        with self._lock:
            if self._asking is None or self._asking.done():
                self._asking = Future()
                threading.Thread(target=self._run_apart, args=(self._asking,), daemon=True).start()
            return self._asking

    def _run_apart(self, asking: Future[str]) -> None:
        time.sleep(max(0.0, self._asked_at + ASK_EVERY_SECONDS - time.monotonic()))
        self._asked_at = time.monotonic()
        try:
            self._run(asking)
        finally:
            connection.close()

    def _run(self, asking: Future[str]) -> None:
        try:
            asking.set_result(self._ask())
        except Exception as error:  # noqa: BLE001  # whichever: it is the answer
            asking.set_exception(error)


def healthz(request: HttpRequest) -> JsonResponse:
    """Answer 200 while the process runs. Touches nothing else."""
    return JsonResponse({"status": OK, "version": settings.VERSION})


def readyz(request: HttpRequest) -> JsonResponse:
    """Answer 200 if a chat would be served, else 503. Takes at most a second, whatever happens."""
    until = time.monotonic() + ANSWER_WITHIN_SECONDS
    asked = {name: _begin(name, probe) for name, probe in _PROBES.items()}
    found = {name: _probe(name, asking, until) for name, asking in asked.items()}
    is_ready = found["database"] == OK
    body = {"status": OK if is_ready else "unavailable", **found, "version": settings.VERSION}
    headers = {} if is_ready else {"Retry-After": "2"}
    return JsonResponse(body, status=200 if is_ready else 503, headers=headers)


def _begin(name: str, probe: Probe) -> Future[str]:
    """Return a future for the answer. It is done at once if there is nothing to ask.

    Without Redis the cache is this process's own memory. It cannot be unreachable, and a busy
    process would only answer late.
    """
    if name != "cache" or settings.REDIS_URL:
        return probe.begin()
    known: Future[str] = Future()
    known.set_result(OK)
    return known


def _probe(name: str, asking: Future[str], until: float) -> str:
    try:
        answer, reason = asking.result(timeout=max(0.0, until - time.monotonic())), ""
    except Exception as error:  # noqa: BLE001  # of whichever kind: none of them is "ok"
        answer, reason = _kind_of(error), " ".join(str(error).split())[:300] or "no answer in time"
    if name == "worker":  # not logged: this probe fails only with the database
        return "unknown" if reason else answer
    _note(name, answer, reason)
    return answer


# SQLite has no error codes, so these are substrings of its messages, and PostgreSQL's codes.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_KINDS = {
    "no_tables": ("no such table", "no such column", "42P01", "42703"),
    "not_writable": ("disk is full", "readonly", "disk I/O", "53100", "25006"),
}


def _kind_of(error: Exception) -> str:
    told = f"{getattr(error.__cause__, 'sqlstate', None)} {error}"
    for kind, marks in _KINDS.items():
        if any(mark in told for mark in marks):
            return kind
    return UNREACHABLE


# What the log has already said, to log each change once, not each probe.
_noted: dict[str, str] = {}


def _note(name: str, answer: str, reason: str) -> None:
    before, _noted[name] = _noted.get(name, OK), answer
    if answer == before:
        return
    fields = {"probe": name, "answer": answer}
    if answer == OK:
        logger.warning("health.probe.recovered", extra=fields)
    else:
        logger.warning("health.probe.failed", extra=fields | {"reason": reason})


# --- What a chat needs ----------------------------------------------------------------------


def _ask_database() -> None:
    """Raise the error that a chat would get, using the same pool or kind of connection.

    A database restart leaves a pool of broken connections, and each chat would get one of them. So
    this checks and replaces them, and asks the database again.
    """
    try:
        _ask_once()
    except (OperationalError, InterfaceError):
        pool = getattr(connection, "pool", None)
        if pool is None or connection.in_atomic_block:
            raise
        connection.close()
        pool.check()
        _ask_once()
    # A process that started without the database could not check whether its secrets fit it. This
    # checks once.
    secret_checks.require_fit()


def _ask_once() -> None:
    if connection.vendor == "sqlite" and not connection.in_atomic_block:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {SQLITE_WAIT_MS}")
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_look_at_tables())
        _WRITE[connection.vendor]()


@cache
def _look_at_tables() -> str:
    """Return a statement that fails if a table or column of ours is missing. It reads no row."""
    looks = []
    for label in ("channels", "billing", "conversations"):
        for model in apps.get_app_config(label).get_models():
            # Qualified with the table: SQLite takes an unknown unqualified name in quotes for a
            # string.
            fields = model._meta.local_concrete_fields
            columns = ", ".join(f't."{field.column}"' for field in fields)
            look = f'SELECT {columns} FROM "{model._meta.db_table}" t WHERE FALSE'  # noqa: S608
            looks.append(f"EXISTS ({look})")
    return f"SELECT {' OR '.join(looks)}"


def _write_on_sqlite() -> None:
    """Write as much as a message does. Only committed data takes up room on the disk."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO gateway_heartbeat (name, beaten_at, filler)"
            " VALUES ('readyz', %(now)s, randomblob(%(size)s))"
            " ON CONFLICT (name) DO UPDATE SET beaten_at = excluded.beaten_at,"
            " filler = excluded.filler",
            {"now": db.param(timezone.now()), "size": ROOM_BYTES},
        )


def _write_on_postgresql() -> None:
    """Raise if this is a standby or the disk is full. Leaves no dead row behind.

    Sorts rows in less memory than they need, so that PostgreSQL writes the rest to a file
    beside the data.
    """
    with connection.cursor() as cursor:
        cursor.execute("UPDATE gateway_heartbeat SET name = name WHERE FALSE")
        cursor.execute("SET LOCAL work_mem = '64kB'")
        cursor.execute(
            "SELECT COUNT(*) FROM (SELECT repeat(md5(n::text), 32) AS filler"
            " FROM generate_series(1, %s) n ORDER BY 1 OFFSET 0) spilled",
            [ROOM_BYTES * 4 // 1024],
        )


_WRITE = {"sqlite": _write_on_sqlite, "postgresql": _write_on_postgresql}


def _ask_worker() -> str:
    seen_at = heartbeat.worker_seen_at()
    return OK if heartbeat.is_worker_alive(seen_at, now=timezone.now()) else "away"


def _ask_cache() -> None:
    caches["shared"].get("readyz")


def _ok_after(ask: Callable[[], object]) -> str:
    ask()
    return OK


_PROBES = {
    # Looked up at call time, so that tests can replace them.
    "database": Probe(lambda: _ok_after(_ask_database)),
    "cache": Probe(lambda: _ok_after(_ask_cache)),
    "worker": Probe(_ask_worker),
}
