"""A separate database for each check, copied from one that was migrated once."""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

POSTGRES_SERVER = os.environ.get("CI_POSTGRES_URL") or "postgres://postgres@127.0.0.1:5432/postgres"
Row = tuple[Any, ...]
# Databases that were created here on the server and not dropped yet.
_living: set[Postgres] = set()


class Database(Protocol):
    """The part of a database that checks use directly. Statements use %s for parameters."""

    kind: str
    url: str

    def connect(self) -> psycopg.Connection[Row] | sqlite3.Connection:
        """Open a connection that commits every statement."""
        ...

    def rows(self, statement: str, params: Sequence[Any] = ()) -> list[Row]:
        """Run a statement on a new connection, and commit it."""
        ...

    def drop(self) -> None: ...


def value(database: Database, statement: str, params: Sequence[Any] = ()) -> Any:
    """Return the one value that a statement selects."""
    return database.rows(statement, params)[0][0]


class OnPostgres:
    """A database on any PostgreSQL server."""

    kind = "pg"
    url: str

    def connect(self) -> psycopg.Connection[Row]:
        return psycopg.connect(self.url, autocommit=True)

    def rows(self, statement: str, params: Sequence[Any] = ()) -> list[Row]:
        with self.connect() as connection:
            cursor = connection.execute(statement, params or None)
            return cursor.fetchall() if cursor.description else []


class Postgres(OnPostgres):
    """A database on the server of CI_POSTGRES_URL."""

    def __init__(self, template: str = "") -> None:
        self.name = f"gateway_acceptance_{os.getpid()}_{secrets.token_hex(4)}"
        self.url = urlunsplit(urlsplit(POSTGRES_SERVER)._replace(path=f"/{self.name}"))
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        names = sql.Identifier(self.name), sql.Identifier(template or "template0")
        self._on_server(create.format(*names))
        _living.add(self)

    @staticmethod
    def _on_server(statement: sql.Composed) -> None:
        with psycopg.connect(POSTGRES_SERVER, autocommit=True) as connection:
            connection.execute(statement)

    def alter(self, setting: str, to: str) -> None:
        """Change a session default of this database."""
        statement = sql.SQL("ALTER DATABASE {} SET {} = {}")
        parts = sql.Identifier(self.name), sql.Identifier(setting), sql.Literal(to)
        self._on_server(statement.format(*parts))

    def copy(self) -> Postgres:
        return Postgres(template=self.name)

    def drop(self) -> None:
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        self._on_server(statement.format(sql.Identifier(self.name)))
        _living.discard(self)


class Sqlite:
    """A file in its own folder."""

    kind = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.file = folder / "gateway.sqlite3"
        self.url = f"sqlite:///{self.file}"

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.file, timeout=20, isolation_level=None)

    def rows(self, statement: str, params: Sequence[Any] = ()) -> list[Row]:
        with closing(self.connect()) as connection:
            return connection.execute(statement.replace("%s", "?"), params).fetchall()

    def copy(self) -> Sqlite:
        other = Sqlite(self.folder.with_name(f"sqlite-{secrets.token_hex(4)}"))
        with closing(self.connect()) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copyfile(self.file, other.file)
        return other

    def drop(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class Stock:
    """Migrates one database of each kind, and hands out copies."""

    def __init__(self, folder: Path, migrate: Callable[[Database], None]) -> None:
        self._folder = folder
        self._migrate = migrate
        self._templates: dict[str, Postgres | Sqlite] = {}

    def new(self, kind: str) -> Postgres | Sqlite:
        if kind not in self._templates:
            template = Postgres() if kind == "pg" else Sqlite(self._folder / "sqlite-template")
            self._templates[kind] = template
            self._migrate(template)
        return self._templates[kind].copy()

    def drop(self) -> None:
        for template in self._templates.values():
            template.drop()


def drop_all() -> None:
    """Drop every database left on the server, when a run is being stopped."""
    for database in list(_living):
        database.drop()
