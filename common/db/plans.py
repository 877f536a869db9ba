"""Runs statements that read a lot: planned for their values, on one snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from django.db import connection, transaction

# PostgreSQL JIT-compiles statements that it expects to be expensive, such as reports and searches
# over ten million messages. Compiling took 250 ms of a search that took 5 ms, and 20 ms of top
# pages that took 10 ms. And after five runs of a prepared statement PostgreSQL uses one generic
# plan for all values, which then looked for one account's failures among those of all accounts.
_FOR_VALUES = """
SELECT set_config('jit', 'off', TRUE), set_config('plan_cache_mode', 'force_custom_plan', TRUE)
"""


@contextmanager
def planned_for_values() -> Iterator[None]:
    """Make PostgreSQL plan the statements inside for their values, without JIT compilation.

    They run in their own transaction. In a transaction that has already begun, the settings last
    until it ends.
    """
    if connection.vendor != "postgresql":
        # No transaction either: on SQLite it would block writers.
        yield
        return
    with nullcontext() if connection.in_atomic_block else transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_FOR_VALUES)
        yield


@contextmanager
def snapshot() -> Iterator[None]:
    """Give all reads inside one snapshot of the database, without blocking writers."""
    if connection.vendor == "postgresql":
        with transaction.atomic():
            if not connection.savepoint_ids:
                with connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
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
