"""Writes a backup of the database to a new file: complete, consistent, only for this user."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import connection

from common.commands import INSTALLATION, ScriptCommand

# A table that every gateway database has. A backup without it has backed up nothing.
LANDMARK = "django_migrations"


class Command(ScriptCommand):
    """Back up a database in use, while requests are served."""

    help = (
        "Write a backup of the database to FILE, which must not exist yet: a copy of the database "
        "for SQLite, an archive of pg_dump for PostgreSQL. docs/operations.md says how to restore "
        "it and what else to keep: .env."
    )
    # Run no other checks: a database that fails one needs a backup all the more.
    requires_system_checks = (INSTALLATION,)

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", type=Path, metavar="FILE", help="the new file")

    def handle(self, *args: Any, **options: Any) -> None:
        target: Path = options["file"]
        write = _write_sqlite if connection.vendor == "sqlite" else _write_postgresql
        with _new_file(target) as draft:
            write(draft)
        size = target.stat().st_size
        result = {"file": str(target), "database": connection.vendor, "bytes": size}
        text = (
            f"Wrote {target} ({size:,} bytes). Keep .env with it: without its secrets no key works."
        )
        self.report(options, result, text)


@contextmanager
def _new_file(target: Path) -> Iterator[Path]:
    """Yield a temporary file that becomes `target` only once it is complete."""
    if target.is_symlink() or target.exists():
        raise CommandError(f"{target} exists already; backups are never overwritten.")
    draft = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        _name(draft, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise CommandError(f"{target} cannot be written: {error.strerror or error}.") from None
    finally:
        with suppress(OSError):
            draft.unlink()


def _name(draft: Path, target: Path) -> None:
    """Give the file its name, unless somebody has meanwhile created a file with that name."""
    try:
        os.link(draft, target)  # unlike a rename, never overwrites
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}:
            raise
        # A network share or USB drive without hard links.
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        draft.replace(target)


def _sync_folder(folder: Path) -> None:
    """Flush the new name to disk as well."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_sqlite(draft: Path) -> None:
    """Copy page by page in one read transaction, which neither waits nor blocks others."""
    source = str(connection.settings_dict["NAME"])
    if not Path(source).is_file():
        raise CommandError(f"There is no database at {source}. Is DATA_DIR the right one?")
    try:
        with closing(sqlite3.connect(f"{Path(source).as_uri()}?mode=ro", uri=True)) as database:
            if not _has_tables(database):
                raise CommandError(f"The database at {source} is empty: nothing to back up.")
            database.execute("VACUUM INTO ?", [str(draft)])
        with closing(sqlite3.connect(draft)) as copy:
            (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok" or not _has_tables(copy):
                raise CommandError(f"The copy is damaged: {verdict}.")
    except sqlite3.Error as error:
        raise CommandError(f"The database could not be copied: {error}.") from None


def _has_tables(database: sqlite3.Connection) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return database.execute(query, [LANDMARK]).fetchone() is not None


def _write_postgresql(draft: Path) -> None:
    """Have pg_dump write its archive, from one snapshot and without blocking anybody."""
    program = shutil.which("pg_dump")
    if program is None:
        raise CommandError(
            "pg_dump was not found. Install PostgreSQL's client programs, of the server's version "
            "or newer (on Debian: postgresql-client)."
        )
    if LANDMARK not in connection.introspection.table_names():
        raise CommandError("The database has no tables: nothing to back up.")
    done = subprocess.run(  # noqa: S603  # its arguments are ours
        [program, "--format=custom", "--no-owner", "--no-privileges", f"--file={draft}"],
        env=os.environ | _libpq_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CommandError(f"pg_dump failed:\n{done.stderr.strip()[-2000:]}")


def _libpq_environment() -> dict[str, str]:
    """Return the connection settings for libpq. Arguments would show the password to everybody."""
    given = connection.get_connection_params()
    names = {
        "dbname": "PGDATABASE",
        "user": "PGUSER",
        "password": "PGPASSWORD",
        "host": "PGHOST",
        "port": "PGPORT",
        "sslmode": "PGSSLMODE",
        "sslrootcert": "PGSSLROOTCERT",
        "sslcert": "PGSSLCERT",
        "sslkey": "PGSSLKEY",
        "connect_timeout": "PGCONNECT_TIMEOUT",
    }
    return {names[name]: str(given[name]) for name in names if given.get(name)}
