"""Helpers that let hand-written SQL run on both SQLite and PostgreSQL."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connection, connections

T = TypeVar("T")


@cache
def is_postgresql() -> bool:
    """Return whether the database is PostgreSQL.

    Cached, because looking up the thread's connection is expensive.
    """
    return connection.vendor == "postgresql"


def fetch_rows(sql: str, params: Mapping[str, Any] | Sequence[Any]) -> list[tuple[Any, ...]]:
    """Run one statement and return its rows.

    On PostgreSQL this uses the driver's cursor, because Django's wrappers cost as much CPU as a
    short statement. It uses Django's cursor where something watches the statements, as tests do.
    """
    wrapper: Any = connections[DEFAULT_DB_ALIAS]  # only PostgreSQL's has `pool`
    if not is_postgresql() or wrapper.execute_wrappers or wrapper.queries_logged:
        with wrapper.cursor() as cursor:
            cursor.execute(sql, params)
            return list(cursor.fetchall())
    with wrapper.wrap_database_errors:
        if wrapper.connection is None and (pool := wrapper.pool) and not wrapper.in_atomic_block:
            # One statement, in its own transaction, on a connection borrowed for it alone. Django's
            # path to the pool and back costs more, and would keep the connection.
            if pool.closed:
                pool.open()
            lent = pool.getconn()
            try:
                return list(lent.execute(sql, params).fetchall())
            finally:
                pool.putconn(lent)
        wrapper.ensure_connection()
        wrapper.validate_no_broken_transaction()
        return list(wrapper.connection.execute(sql, params).fetchall())


def fetch_row(sql: str, params: Mapping[str, Any] | Sequence[Any]) -> tuple[Any, ...] | None:
    """Run one statement and return its first row, or None if it returns no row."""
    rows = fetch_rows(sql, params)
    return rows[0] if rows else None


def execute(sql: str, params: Mapping[str, Any] | Sequence[Any]) -> int:
    """Run one statement and return how many rows it affected."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return int(cursor.rowcount)


def param(value: datetime | uuid.UUID) -> Any:
    """Return a time or an id as the database stores it.

    SQLite has neither type, so it stores UTC text without an offset, and hexadecimal digits.
    """
    if is_postgresql():
        return value
    if isinstance(value, uuid.UUID):
        return value.hex
    return connection.ops.adapt_datetimefield_value(value)


def uuids_param(values: Iterable[uuid.UUID]) -> Any:
    """Return ids as one parameter for `among`."""
    return list_param(list(values) if is_postgresql() else [value.hex for value in values])


def list_param(values: list[Any]) -> Any:
    """Return values as one parameter for `among`."""
    return values if is_postgresql() else json.dumps(values)


def among(column: str, name: str) -> str:
    """Return the condition that a column is among the values of a named parameter."""
    if is_postgresql():
        return f"{column} = ANY(%({name})s)"
    return f"{column} IN (SELECT value FROM json_each(%({name})s))"  # noqa: S608  # our own names


def time_value(stored: Any) -> datetime:
    """Return a time read from the database as an aware datetime in UTC."""
    moment = stored if isinstance(stored, datetime) else datetime.fromisoformat(stored)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def release_connection() -> None:
    """Return the connection to the pool before a slow call.

    Does nothing without a pool: an idle SQLite handle is free, and opening it again would cost a
    third of a millisecond on every request.
    """
    if not is_postgresql():
        return
    wrapper = connections[DEFAULT_DB_ALIAS]
    if wrapper.connection and not wrapper.in_atomic_block:
        wrapper.close()


def read_in_pieces(read: Callable[[T | None], Sequence[T]], *, size: int) -> Iterator[Sequence[T]]:
    """Yield what `read` returns. Calls it with None first, then with the last item it returned.

    A piece of fewer than `size` items is the last. Use this for answers that a client reads at its
    own speed: between two reads no connection is held, and only one piece is in memory.
    """
    last = None
    while True:
        piece = read(last)
        release_connection()
        if piece:
            yield piece
        if len(piece) < size:
            return
        last = piece[-1]


def count_triggers(table: str, statements: Mapping[str, str]) -> int | None:
    """Return the result of the COUNT statement for this database's vendor, for system checks.

    Returns None if the table does not exist yet or the database is down; /readyz reports that.
    """
    try:
        with connection.cursor() as cursor:
            if table not in connection.introspection.table_names(cursor):
                return None
            cursor.execute(statements[connection.vendor])
            return int(cursor.fetchone()[0])
    except DatabaseError:
        return None
