"""Bulk inserts: COPY on PostgreSQL, one prepared INSERT on SQLite."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import Any

from django.db import connection
from django.db.models import Model

from common import db


def copy(model: type[Model], columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write many rows at once. Columns that are left out get the model's defaults."""
    missing = {
        item.attname: item.get_default()
        for item in model._meta.concrete_fields
        if item.attname not in columns and not item.primary_key
    }
    names = ", ".join([*columns, *missing])
    defaults = tuple(missing.values())
    whole = ((*row, *defaults) for row in rows)
    with connection.cursor() as cursor:
        _WRITERS[connection.vendor](cursor, model._meta.db_table, names, whole)


def _copy_in(cursor: Any, table: str, names: str, rows: Iterable[tuple[Any, ...]]) -> None:
    with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as into:
        for row in rows:
            into.write_row(row)


def _insert_many(cursor: Any, table: str, names: str, rows: Iterable[tuple[Any, ...]]) -> None:
    places = ", ".join(["%s"] * (names.count(",") + 1))
    statement = f"INSERT INTO {table} ({names}) VALUES ({places})"  # noqa: S608  # our own names
    cursor.executemany(statement, (tuple(map(_sqlite_value, row)) for row in rows))


def _sqlite_value(value: Any) -> Any:
    if isinstance(value, uuid.UUID):
        return value.hex
    if isinstance(value, datetime):
        return db.param(value)
    return value.isoformat() if isinstance(value, date) else value


_WRITERS: dict[str, Callable[..., None]] = {"postgresql": _copy_in, "sqlite": _insert_many}
