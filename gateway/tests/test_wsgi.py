"""Loading the application runs the checks, so a broken set-up does not serve."""

from __future__ import annotations

import base64
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tests.harness.processes import free_port

OLD, NEW = (f"{name}:{base64.b64encode(name.encode() * 16).decode()}" for name in ("k1", "k2"))
PEPPER = base64.b64encode(b"p" * 32).decode()
OTHER_PEPPER = base64.b64encode(b"o" * 32).decode()
SECRET_KEY = "only-for-this-test-" + "x" * 50

PREPARE = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("createchannel", "--owner", "a@example.com", "--name", "Shop")
"""
LOAD = "from gateway.wsgi import application; print('serving', application.__class__.__name__)"


def run(code: str, data_dir: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    return run_python(["-c", code], data_dir, **changes)


def run_python(
    arguments: list[str], data_dir: Path, **changes: str
) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "DJANGO_SETTINGS_MODULE": "gateway.settings",
        "DATA_DIR": str(data_dir),
        "SECRET_KEY": SECRET_KEY,
        "ENCRYPTION_KEYS": OLD,
        "KEY_DIGEST_PEPPER": PEPPER,
        "LOG_LEVEL": "WARNING",
        "ENV_FILE": os.devnull,
        **dict.fromkeys(("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "GATEWAY_CHECKED"), ""),
    } | changes
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=settings.BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory whose database holds keys encrypted with k1."""
    data_dir = tmp_path_factory.mktemp("installation")
    result = run(PREPARE, data_dir)
    assert result.returncode == 0, result.stderr
    return data_dir


@pytest.mark.parametrize("ring", [OLD, f"{NEW},{OLD}"])
def test_serves_with_the_keys_the_database_needs(installation: Path, ring: str) -> None:
    result = run(LOAD, installation, ENCRYPTION_KEYS=ring)
    assert (result.returncode, result.stdout) == (0, "serving Handler\n"), result.stderr


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ENCRYPTION_KEYS", NEW, "encrypted with 'k1', which is not in ENCRYPTION_KEYS"),
        ("ENCRYPTION_KEYS", NEW.replace("k2", "k1"), "The key 'k1' in ENCRYPTION_KEYS is not"),
        ("KEY_DIGEST_PEPPER", OTHER_PEPPER, "KEY_DIGEST_PEPPER is not the one"),
        ("ENCRYPTION_KEYS", "k1:short", "ENCRYPTION_KEYS must be"),
        ("ENCRYPTION_KEYS", ",", "ENCRYPTION_KEYS holds no key"),
        ("ENCRYPTION_KEYS", "", "ENCRYPTION_KEYS is not set"),
        ("KEY_DIGEST_PEPPER", "dG9vIHNob3J0", "KEY_DIGEST_PEPPER must be at least 32"),
        ("SECRET_KEY", "", "SECRET_KEY is not set"),
    ],
)
def test_refuses_to_serve_and_says_why(
    installation: Path, name: str, value: str, words: str
) -> None:
    result = run(LOAD, installation, **{name: value})
    assert result.returncode != 0
    assert result.stdout == ""
    assert words in result.stderr
    for secret in (SECRET_KEY, PEPPER, OTHER_PEPPER, OLD.partition(":")[2], NEW.partition(":")[2]):
        assert secret not in result.stderr


def test_serves_although_the_database_is_away(installation: Path) -> None:
    """The database path is a directory, so it can never be opened."""
    result = run(LOAD, installation, DATABASE_URL=f"sqlite:///{installation}")
    assert (result.returncode, result.stdout) == (0, "serving Handler\n"), result.stderr


# --- Every other process that uses a secret -------------------------------------------------------

PROCESSES = [
    ["manage.py", "createchannel", "--owner", "b@example.com", "--name", "Other"],
    ["manage.py", "issuekey", "{channel}"],
    ["manage.py", "firstrun"],
    ["manage.py", "migrate"],
    ["manage.py", "rotatekeys"],
    ["manage.py", "check", "--database", "default"],
    ["-m", "celery", "-A", "gateway", "worker", "--pool", "solo"],
]


def contents(data_dir: Path) -> dict[str, list[Any]]:
    """Return every row that a process under another secret could have written."""
    tables = ("channels_apikey", "channels_channel", "channels_user", "channels_secretcheck")
    with closing(sqlite3.connect(data_dir / "gateway.sqlite3")) as connection:
        return {
            name: connection.execute(f"SELECT * FROM {name}").fetchall()  # noqa: S608  # ours
            for name in tables
        }


@pytest.mark.slow
@pytest.mark.parametrize("arguments", PROCESSES, ids=lambda arguments: arguments[1])
def test_no_process_works_under_another_pepper(installation: Path, arguments: list[str]) -> None:
    before = contents(installation)
    channel = str(before["channels_channel"][0][0])
    given = [argument.format(channel=channel) for argument in arguments]
    result = run_python(given, installation, KEY_DIGEST_PEPPER=OTHER_PEPPER)
    assert result.returncode != 0
    assert "(channels.E004) KEY_DIGEST_PEPPER is not the one" in result.stderr
    assert "Traceback" not in result.stderr
    assert contents(installation) == before


@pytest.mark.slow
def test_make_run_neither_migrates_nor_starts_under_another_key(
    installation: Path, tmp_path: Path
) -> None:
    data_dir = tmp_path / "data"
    shutil.copytree(installation, data_dir)
    result = run_python(
        ["scripts/serve.py", "--first-run"],
        data_dir,
        ENCRYPTION_KEYS=NEW.replace("k2", "k1"),
        PORT=str(free_port()),
    )
    assert result.returncode == 1
    assert "The key 'k1' in ENCRYPTION_KEYS is not the one" in result.stderr
    assert contents(data_dir) == contents(installation)
