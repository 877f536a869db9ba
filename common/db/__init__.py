"""Hand-written SQL on both SQLite and PostgreSQL: values, statements, and several run as one.

A round trip to the database costs as much CPU as a short statement, on both sides. So `Steps` runs
related statements as one, in which a `Step` reads what the steps before it returned. PostgreSQL
gets all steps as one WITH of data-modifying statements, which is atomic. SQLite has neither such
statements nor round trips: there each step is a separate statement, all in one transaction, with
the rows of earlier steps bound as values. The SQL of each step, and so each rule it guards, is the
same for both (docs/decisions/0017).

What a step's author must know:
- A step returns at most one row. It sees each earlier step's row as a table with that step's name.
  It does nothing after a refused step only if it says so: `FROM counted`, or
  `WHERE EXISTS (SELECT 1 FROM counted)`. A refusal rolls nothing back.
- All steps depend on the first: if it returns no row, no other step may do anything, and there is
  no result.
- PostgreSQL gives all steps one snapshot: a step sees an earlier step's write only through
  RETURNING, so no two steps may write the same row. After waiting for a row lock, PostgreSQL checks
  the guard of an UPDATE again on the latest version of the row.
- A step reads another app's step by an imported constant (`Returned`). `Steps` checks every name
  when the statement is put together, at import, so that a wrong name stops the start.
- PostgreSQL runs a step when another step reads it, or at the end. So locks are taken in the order
  of the steps only if each step reads the one before.
https://www.postgresql.org/docs/current/queries-with.html#QUERIES-WITH-MODIFYING
"""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connection, connections, transaction

T = TypeVar("T")
Row = tuple[Any, ...]


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


def fetch_row(sql: str, params: Mapping[str, Any] | Sequence[Any]) -> Row | None:
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


def uuid7() -> uuid.UUID:
    """Return a UUID version 7 (RFC 9562, section 5.7): milliseconds first, the rest random.

    Rows created one after the other are neighbours in the index, which keeps inserts cheap in large
    tables. The 74 random bits make ids impossible to guess.
    """
    value = int.from_bytes(os.urandom(10), "big") | (time.time_ns() // 1_000_000 << 80)
    value = value & ~(0xF << 76) | (0x7 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    return uuid.UUID(int=value)


def first_uuid7(moment: datetime) -> uuid.UUID:
    """Return the smallest id that uuid7() can return from `moment` on, to select by primary key."""
    return uuid.UUID(int=int(moment.timestamp() * 1000) << 80)


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


# --- Steps --------------------------------------------------------------------------------------


# What a statement reads from. Our tables have an underscore (`app_model`), steps have none.
_SOURCE = re.compile(r"\b(?:FROM|JOIN)\s+([a-z]+)\b(?!\s*\()")


class UnknownStep(Exception):
    """A statement reads a step that is not among those before it."""


class UnknownColumn(Exception):
    """A statement reads a column that a step does not return."""


@dataclass(frozen=True, slots=True)
class Returned:
    """The row that a step returns, declared for the steps that read it, often in another app.

    In an f-string, `{LOOKED}` is the step's name and `{LOOKED["has_quota"]}` a column's.
    """

    name: str
    columns: Sequence[str]

    def __str__(self) -> str:
        return self.name

    def __getitem__(self, column: str) -> str:
        """Return the column's name. Raises UnknownColumn if the step does not return it."""
        if column not in self.columns:
            raise UnknownColumn(f"{self.name} returns no {column}: {', '.join(self.columns)}")
        return column

    def step(self, sql: str) -> Step:
        """Return the step that returns this row."""
        return Step(self.name, self.columns, sql)


@dataclass(frozen=True, slots=True)
class Step:
    """An INSERT, UPDATE, or DELETE of one row with a RETURNING clause, or a SELECT of one row.

    `returns` names its columns. Parameters are named, as in `%(account)s`. `name` is unique within
    its `Steps`: one word, which no table has.
    """

    name: str
    returns: Sequence[str]
    sql: str

    def __post_init__(self) -> None:
        assert re.fullmatch("[a-z]+", self.name), (
            "`Steps` takes a name with an underscore for a table"
        )

    @property
    def is_write(self) -> bool:
        return not self.sql.lstrip().startswith("SELECT")


# Read beside the result. This one statement is the whole transaction, which then does not wait for
# the disk. https://www.postgresql.org/docs/current/wal-async-commit.html
_UNAWAITED = """
SELECT answer.* FROM ({result}) AS answer
 CROSS JOIN (SELECT set_config('synchronous_commit', 'off', TRUE)) AS unawaited
"""


class Steps:
    """Steps in order, and the SELECT that returns their result.

    With `awaits_disk=False` PostgreSQL answers before its log is on disk. Use it for what may be
    lost if the database crashes within the next moments. Its result has no order. Raises
    UnknownStep or UnknownColumn.
    """

    def __init__(self, *steps: Step, result: str, awaits_disk: bool = True) -> None:
        for at, sql in enumerate((*(step.sql for step in steps), result)):
            _check_reads(sql, steps[:at])
        self._steps = steps
        self._result = result
        self._is_atomic = sum(step.is_write for step in steps) > 1
        parts = [f"{step.name}({', '.join(step.returns)}) AS ({step.sql})" for step in steps]
        whole = result if awaits_disk else _UNAWAITED.format(result=result)
        # On one line: psycopg does not cache statements longer than 4 KiB.
        self._whole = " ".join(f"WITH {', '.join(parts)} {whole}".split())
        self._reads = {
            sql: [step for step in steps[:at] if step.name in set(re.findall(r"\w+", sql))]
            for at, sql in enumerate((*(step.sql for step in steps), result))
        }

    def run(self, params: Mapping[str, Any]) -> list[Row]:
        """Run all steps and return the rows of the result."""
        if is_postgresql():
            return fetch_rows(self._whole, params)
        # A single write is already atomic, and reads must not take the write lock.
        with transaction.atomic(savepoint=False) if self._is_atomic else nullcontext():
            return self._run_each(dict(params))

    def _run_each(self, params: dict[str, Any]) -> list[Row]:
        rows: dict[str, Row | None] = {}
        for step in self._steps:
            row = fetch_row(self._with_values(step.sql, rows), params)
            if row is None and not rows:
                return []
            rows[step.name] = row
            params |= {f"{step.name}_{at}": value for at, value in enumerate(row or ())}
        return fetch_rows(self._with_values(self._result, rows), params)

    def _with_values(self, sql: str, rows: Mapping[str, Row | None]) -> str:
        """Return the statement with the results of earlier steps in front of it."""
        parts = [
            f"{step.name}({', '.join(step.returns)}) AS ({_values_of(step, rows[step.name])})"
            for step in self._reads[sql]
        ]
        return f"WITH {', '.join(parts)} {sql}" if parts else sql


def _check_reads(sql: str, before: Sequence[Step]) -> None:
    """Check that a statement reads only steps before it, and only columns that they return.

    Checks columns that carry the step's name, as in `lease.id`. For others, SQL alone does not show
    which step they belong to.
    """
    columns = {step.name: {*step.returns, "*"} for step in before}
    if unknown := set(_SOURCE.findall(sql)) - columns.keys():
        raise UnknownStep(f"{', '.join(sorted(unknown))}, in {' '.join(sql.split())}")
    for name, column in re.findall(r"\b([a-z]+)\.(\w+|\*)", sql):
        if name in columns and column not in columns[name]:
            raise UnknownColumn(f"{name}.{column}, in {' '.join(sql.split())}")


def _values_of(step: Step, row: Row | None) -> str:
    if row is None:
        return f"SELECT {', '.join('NULL' for _ in step.returns)} WHERE FALSE"
    return f"VALUES ({', '.join(f'%({step.name}_{at})s' for at in range(len(row)))})"
