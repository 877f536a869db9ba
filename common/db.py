"""What the few hand-written SQL statements need to run alike on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connection, connections


def _run(sql: str, params: Any) -> Any:
    """Run a statement and return its open cursor.

    On PostgreSQL the driver's own, as Django's wrappers around it cost as much CPU as a short
    statement itself; Django's where somebody watches statements, as tests do.
    """
    wrapper = connections[DEFAULT_DB_ALIAS]
    if wrapper.vendor != "postgresql" or wrapper.execute_wrappers or wrapper.queries_logged:
        cursor = wrapper.cursor()
        cursor.execute(sql, params)
        return cursor
    wrapper.ensure_connection()
    wrapper.validate_no_broken_transaction()
    with wrapper.wrap_database_errors:
        return wrapper.connection.execute(sql, params)


def fetch_row(sql: str, params: Mapping[str, Any] | Sequence[Any]) -> tuple[Any, ...] | None:
    """Run one statement and return its first row, or None where it returned none."""
    with _run(sql, params) as cursor:
        row: tuple[Any, ...] | None = cursor.fetchone()
        return row


def fetch_rows(sql: str, params: Mapping[str, Any] | Sequence[Any]) -> list[tuple[Any, ...]]:
    """Run one statement and return all its rows."""
    with _run(sql, params) as cursor:
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def execute(sql: str, params: Mapping[str, Any] | Sequence[Any]) -> int:
    """Run one statement and return how many rows it touched."""
    with _run(sql, params) as cursor:
        return int(cursor.rowcount)


def time_param(moment: datetime) -> Any:
    """Return a time as the database stores it: SQLite keeps text in UTC without an offset."""
    return connection.ops.adapt_datetimefield_value(moment)


def time_value(stored: Any) -> datetime:
    """Return a time that a statement gave back as an aware datetime in UTC."""
    moment = stored if isinstance(stored, datetime) else datetime.fromisoformat(stored)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def release_connection() -> None:
    """Give the connection back to the pool before a slow call.

    Only where there is a pool: an idle SQLite handle costs nobody anything, and opening it
    again would cost a third of a millisecond on every request.
    """
    if connection.vendor == "postgresql" and not connection.in_atomic_block:
        connection.close()


def count_triggers(table: str, statements: Mapping[str, str]) -> int | None:
    """Return what a database's own COUNT says, chosen by its vendor, for system checks.

    None where the table is not there yet, or the database is away: /readyz speaks of that.
    """
    try:
        with connection.cursor() as cursor:
            if table not in connection.introspection.table_names(cursor):
                return None
            cursor.execute(statements[connection.vendor])
            return int(cursor.fetchone()[0])
    except DatabaseError:
        return None
