"""How statements that belong together are run: in one view of the database, or uncompiled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from django.db import connection, transaction


@contextmanager
def uncompiled() -> Iterator[None]:
    """Keep PostgreSQL from compiling the statements inside, in a transaction of their own.

    It compiles what it believes to be dear, as reports and searches are at ten million messages.
    There compiling took 250 ms of a search that took 5, and 20 ms of top pages that took 10. In a
    transaction that has begun, it is so from here to its end.
    """
    if connection.vendor != "postgresql":
        # No transaction either: on SQLite it would keep writers out.
        yield
        return
    with nullcontext() if connection.in_atomic_block else transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL jit = off")
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
