"""Loading the application runs the checks: a broken set-up must not serve."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

OLD, NEW = (f"{name}:{base64.b64encode(name.encode() * 16).decode()}" for name in ("k1", "k2"))
PEPPER = base64.b64encode(b"p" * 32).decode()
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
    environment = {
        "PATH": os.environ["PATH"],
        "DJANGO_SETTINGS_MODULE": "gateway.settings",
        "DATA_DIR": str(data_dir),
        "SECRET_KEY": SECRET_KEY,
        "ENCRYPTION_KEYS": OLD,
        "KEY_DIGEST_PEPPER": PEPPER,
        "LOG_LEVEL": "WARNING",
        **dict.fromkeys(("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "GATEWAY_CHECKED"), ""),
    } | changes
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=settings.BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
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
    for secret in (SECRET_KEY, PEPPER, OLD.partition(":")[2], NEW.partition(":")[2]):
        assert secret not in result.stderr


def test_serves_although_the_database_is_away(installation: Path) -> None:
    """A directory in the place of the database file: it can never be opened."""
    result = run(LOAD, installation, DATABASE_URL=f"sqlite:///{installation}")
    assert (result.returncode, result.stdout) == (0, "serving Handler\n"), result.stderr
