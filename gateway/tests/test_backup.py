"""Backup and restore as docs/operations.md describes them, with real commands."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from django.conf import settings

from tests.support.programs import need_command

pytestmark = pytest.mark.any_database
ROOT = settings.BASE_DIR
PAGE = (ROOT / "docs/operations.md").read_text()
PREPARE = """
from django.core.management import call_command
from billing import grants
from channels import accounts
call_command("migrate", verbosity=0)
account = accounts.ensure_account(owner_email="ann@example.com")
grants.grant_credits(account=account, amount_microcredits=7_000_000, reason="Invoice 17")
"""


def documented(kind: str) -> str:
    """Return the commands of a block of the documentation, unchanged."""
    found = re.search(rf"<!-- restore: {kind} -->\n```sh\n(.*?)```", PAGE, re.DOTALL)
    assert found, kind
    return found[1].replace(".venv/bin/python", sys.executable)


class Installation:
    """A database with an account of 7 credits, and the environment of its commands."""

    def __init__(self, data_dir: Path, database_url: str = "") -> None:
        self.environment = {
            name: os.environ[name]
            for name in ("PATH", "SECRET_KEY", "ENCRYPTION_KEYS", "KEY_DIGEST_PEPPER")
        } | {
            "DATA_DIR": str(data_dir),
            "DATABASE_URL": database_url,
            "REDIS_URL": "",
            "ENV_FILE": os.devnull,
            "DJANGO_SETTINGS_MODULE": "gateway.settings",
        }

    def run(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment | more,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def manage(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "manage.py", *arguments, **more)

    def grant(self, amount: str) -> None:
        done = self.manage(
            "grantcredits", "--owner", "ann@example.com", "--amount", amount, "--reason", "more"
        )
        assert done.returncode == 0, done.stderr

    def prepare(self) -> None:
        done = self.run(sys.executable, "-c", f"import django; django.setup(){PREPARE}")
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    installation = Installation(tmp_path_factory.mktemp("data"))
    installation.prepare()
    return installation


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    url = settings.DATABASES["default"]
    if not url["ENGINE"].endswith("postgresql"):
        pytest.skip("no PostgreSQL in DATABASE_URL")
    need_command("pg_dump", "pg_restore", "psql")
    server = f"postgres://{url['USER']}:{url['PASSWORD']}@{url['HOST']}:{url['PORT']}"
    name = f"backup_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        installation = Installation(tmp_path_factory.mktemp("data"), f"{server}/{name}")
        installation.environment["ADMIN_URL"] = f"{server}/postgres"
        installation.prepare()
        yield installation
        for database in (name, f"{name}_restored"):
            admin.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")


def balances(path: Path) -> list[tuple[int]]:
    with sqlite3.connect(path) as database:
        return database.execute("SELECT balance_microcredits FROM billing_creditaccount").fetchall()


# --- SQLite ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_restore_on_sqlite_as_documented(tmp_path: Path) -> None:
    installation = Installation(tmp_path / "data")
    installation.prepare()
    backup = tmp_path / "a backup with spaces.sqlite3"
    done = installation.manage("backup", str(backup))
    assert done.returncode == 0, done.stderr
    assert "Keep .env with it" in done.stdout
    installation.grant("5")  # after the backup
    restored = installation.run("sh", "-euc", documented("sqlite"), BACKUP=str(backup))
    assert restored.returncode == 0, restored.stderr
    database = tmp_path / "data" / "gateway.sqlite3"
    assert balances(database) == [(7_000_000,)]
    assert balances(tmp_path / "data" / "before-restore" / "gateway.sqlite3") == [(12_000_000,)]
    assert stat.S_IMODE(database.stat().st_mode) == 0o600


def test_a_backup_holds_what_is_only_in_the_log_of_writes(
    sqlite: Installation, tmp_path: Path
) -> None:
    """Nor does the backup wait for a writer: here a write transaction is open."""
    source = Path(sqlite.environment["DATA_DIR"]) / "gateway.sqlite3"
    writer = sqlite3.connect(source, isolation_level=None)
    writer.execute("PRAGMA wal_autocheckpoint = 0")
    writer.execute("UPDATE billing_creditaccount SET low_balance_microcredits = 42")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE billing_creditaccount SET low_balance_microcredits = 43")
    try:
        done = sqlite.manage("backup", str(tmp_path / "one"))
    finally:
        writer.execute("ROLLBACK")
        writer.close()
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(tmp_path / "one") as copy:
        query = "SELECT low_balance_microcredits FROM billing_creditaccount"
        assert copy.execute(query).fetchall() == [(42,)]


def test_a_backup_is_for_its_owner_alone_and_leaves_nothing_else(
    sqlite: Installation, tmp_path: Path
) -> None:
    done = sqlite.run("sh", "-c", f"umask 000; {sys.executable} manage.py backup {tmp_path}/one")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o600


def a_file(path: Path) -> None:
    path.write_text("last night's")


def a_link_to_nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("make", [a_file, a_link_to_nowhere, Path.mkdir])
def test_a_backup_never_overwrites(
    make: Callable[[Path], None], sqlite: Installation, tmp_path: Path
) -> None:
    make(tmp_path / "one")
    before = os.lstat(tmp_path / "one")
    done = sqlite.manage("backup", str(tmp_path / "one"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip().splitlines() == [
        f"CommandError: {tmp_path}/one exists already; backups are never overwritten."
    ]
    assert os.lstat(tmp_path / "one") == before


def test_of_two_backups_to_one_file_one_is_written(sqlite: Installation, tmp_path: Path) -> None:
    codes = []

    def back_up() -> None:
        codes.append(sqlite.manage("backup", str(tmp_path / "one")).returncode)

    threads = [threading.Thread(target=back_up) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [0, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    assert balances(tmp_path / "one") == [(7_000_000,)]


@pytest.mark.parametrize(
    ("data_dir", "words"),
    [("no/such/folder", "There is no database at"), ("empty", "is empty: nothing to back up")],
)
def test_no_database_is_no_backup(
    data_dir: str, words: str, sqlite: Installation, tmp_path: Path
) -> None:
    """For example, if DATA_DIR is not the gateway's. SQLite would create an empty file there."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "gateway.sqlite3").touch()
    done = sqlite.manage("backup", str(tmp_path / "one"), DATA_DIR=str(tmp_path / data_dir))
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "one").exists()


def test_a_folder_that_is_not_there_is_named(sqlite: Installation, tmp_path: Path) -> None:
    done = sqlite.manage("backup", str(tmp_path / "missing" / "one"))
    assert done.returncode == 1
    assert done.stderr.strip().endswith("one cannot be written: No such file or directory.")


# --- PostgreSQL -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.postgres
def test_a_restore_on_postgresql_as_documented(postgresql: Installation, tmp_path: Path) -> None:
    backup = tmp_path / "gateway.backup"
    done = postgresql.manage("backup", str(backup), "--json")
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    postgresql.grant("5")
    url = postgresql.environment["DATABASE_URL"]
    commands = documented("postgresql").replace(
        "gateway_restored", f"{url.rpartition('/')[2]}_restored"
    )
    restored = postgresql.run(
        "sh", "-euc", commands, BACKUP=str(backup), RESTORED_URL=f"{url}_restored"
    )
    assert restored.returncode == 0, restored.stderr
    with psycopg.connect(f"{url}_restored") as database:
        query = "SELECT balance_microcredits FROM billing_creditaccount"
        assert database.execute(query).fetchall() == [(7_000_000,)]
        with pytest.raises(psycopg.Error, match="ledger"):
            database.execute("DELETE FROM billing_ledgerentry")


@pytest.mark.postgres
def test_what_pg_dump_says_is_said(postgresql: Installation, tmp_path: Path) -> None:
    fake = tmp_path / "bin" / "pg_dump"
    fake.parent.mkdir()
    fake.write_text(
        "#!/bin/sh\nenv > $(dirname $0)/env\necho 'server version mismatch' >&2\nexit 1\n"
    )
    fake.chmod(0o755)
    path = f"{fake.parent}:{os.environ['PATH']}"
    url = postgresql.environment["DATABASE_URL"].replace("postgres:@", "postgres:s%40cret@")
    done = postgresql.manage("backup", str(tmp_path / "one"), PATH=path, DATABASE_URL=url)
    assert done.returncode == 1
    assert "pg_dump failed:\nserver version mismatch" in done.stderr
    assert not (tmp_path / "one").exists()
    assert "PGPASSWORD=s@cret" in (fake.parent / "env").read_text()


@pytest.mark.postgres
def test_a_missing_pg_dump_is_named(postgresql: Installation, tmp_path: Path) -> None:
    done = postgresql.manage("backup", str(tmp_path / "one"), PATH=str(tmp_path))
    assert done.returncode == 1
    assert "pg_dump was not found" in done.stderr
