"""Runs statements that read a lot: planned for their values, on one snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

from django.db import connection, transaction

# PostgreSQL JIT-compiles statements that it expects to be expensive, such as reports and searches
# over ten million messages. Compiling took 250 ms of a search that took 5 ms, and 20 ms of top
# pages that took 10 ms. And after five runs of a prepared statement PostgreSQL uses one generic
# plan for all values, which then looked for one account's failures among those of all accounts.
# And with the usual 4 MB of memory, a month's rows of 1,000 channels were sorted on disk, which
# took twice as long as adding them up in memory.
_FOR_VALUES = """
SELECT set_config('jit', 'off', TRUE), set_config('plan_cache_mode', 'force_custom_plan', TRUE),
       set_config('work_mem', '32MB', TRUE)
"""


# Whether code around this has done so already.
_is_planned: ContextVar[bool] = ContextVar("is_planned", default=False)


@contextmanager
def planned_for_values() -> Iterator[None]:
    """Make PostgreSQL plan the statements inside for their values, and run them in memory.

    They run in their own transaction. In a transaction that has already begun, the settings last
    until it ends.
    """
    if connection.vendor != "postgresql" or _is_planned.get():
        # No transaction either: on SQLite it would block writers.
        yield
        return
    with nullcontext() if connection.in_atomic_block else transaction.atomic(), _planned():
        yield


@contextmanager
def _planned() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(_FOR_VALUES)
    before = _is_planned.set(True)
    try:
        yield
    finally:
        _is_planned.reset(before)


@contextmanager
def snapshot() -> Iterator[None]:
    """Give all reads inside one snapshot of the database, without blocking writers.

    PostgreSQL plans them as planned_for_values says.
    """
    if connection.vendor == "postgresql":
        with _repeatable_reads(), transaction.atomic(), _planned():
            yield
    elif connection.in_atomic_block:
        yield
    else:
        # A plain BEGIN reads a snapshot of the write-ahead log. Django's own would take the write
        # lock.
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
            try:
                yield
            finally:
                cursor.execute("ROLLBACK")


@contextmanager
def _repeatable_reads() -> Iterator[None]:
    """Let the BEGIN of the next transaction ask for a snapshot, which saves a statement."""
    if connection.in_atomic_block:
        yield
        return
    # SQLite needs no driver.
    from psycopg import IsolationLevel

    connection.ensure_connection()
    driver: Any = connection.connection
    before = driver.isolation_level, driver.read_only
    driver.isolation_level, driver.read_only = IsolationLevel.REPEATABLE_READ, True
    try:
        yield
    finally:
        if not driver.closed:
            driver.isolation_level, driver.read_only = before
