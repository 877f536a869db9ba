"""What the few hand-written SQL statements need to run alike on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import connection


def fetch_row(sql: str, params: Mapping[str, Any] | Sequence[Any]) -> tuple[Any, ...] | None:
    """Run one statement and return its first row, or None where it returned none."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        row: tuple[Any, ...] | None = cursor.fetchone()
        return row


def fetch_rows(sql: str, params: Mapping[str, Any] | Sequence[Any]) -> list[tuple[Any, ...]]:
    """Run one statement and return all its rows."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def execute(sql: str, params: Mapping[str, Any] | Sequence[Any]) -> int:
    """Run one statement and return how many rows it touched."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
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
