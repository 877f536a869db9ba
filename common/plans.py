"""How statements that read much are run: planned for their values, in one view of the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from django.db import connection, transaction

# PostgreSQL compiles what it believes to be dear, as reports and searches are at ten million
# messages: compiling took 250 ms of a search that took 5, and 20 ms of top pages that took 10. And
# it plans a prepared statement for any values once it has run five times: it then looked for an
# account's failures among those of all accounts.
_FOR_VALUES = """
SELECT set_config('jit', 'off', TRUE), set_config('plan_cache_mode', 'force_custom_plan', TRUE)
"""


@contextmanager
def planned_for_values() -> Iterator[None]:
    """Have PostgreSQL plan the statements inside for their values, and compile none of them.

    In a transaction of their own; in one that has begun, it is so from here to its end.
    """
    if connection.vendor != "postgresql":
        # No transaction either: on SQLite it would keep writers out.
        yield
        return
    with nullcontext() if connection.in_atomic_block else transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_FOR_VALUES)
        yield


@contextmanager
def snapshot() -> Iterator[None]:
    """Give all reads inside one view of the database, without keeping writers waiting."""
    if connection.vendor == "postgresql":
        with transaction.atomic():
            if not connection.savepoint_ids:
                with connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield
    elif connection.in_atomic_block:
        yield
    else:
        # A plain BEGIN reads a snapshot of the write-ahead log; Django's own would take the
        # writer's lock.
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
            try:
                yield
            finally:
                cursor.execute("ROLLBACK")
