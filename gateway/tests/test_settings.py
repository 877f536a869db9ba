"""Configuration from the environment: errors stop the start, with a clear text and no secrets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from psycopg_pool.base import AttemptWithBackoff

from gateway import environment, settings

SECRETS = {
    name: os.environ[name] for name in ("SECRET_KEY", "ENCRYPTION_KEYS", "KEY_DIGEST_PEPPER")
}


def load(
    data_dir: Path, *, shown: str = "settings.THREADS, settings.SECRET_KEY", **changes: str
) -> subprocess.CompletedProcess[str]:
    """Load the real settings in a separate process, with these variables."""
    environment = {
        "PATH": os.environ["PATH"],
        "DATA_DIR": str(data_dir),
        "DATABASE_URL": "",
        **dict.fromkeys(("REDIS_URL", "CELERY_BROKER_URL", "PROVIDER_BASE_URL", "THREADS"), ""),
        **SECRETS,
    } | changes
    command = f"from gateway import settings; print({shown})"
    return subprocess.run(
        [sys.executable, "-c", command],
        cwd=django_settings.BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


# --- Numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "value"), [("", 5), (" ", 5), ("1", 1), (" 10 ", 10), ("+7", 7)])
def test_reads_whole_numbers(monkeypatch: pytest.MonkeyPatch, text: str, value: int) -> None:
    monkeypatch.setenv("SOME_SETTING", text)
    assert environment.read_int("SOME_SETTING", 5, low=1, high=10) == value


def test_what_is_not_set_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_SETTING", raising=False)
    assert environment.read_int("SOME_SETTING", 5, low=1, high=10) == 5


@pytest.mark.parametrize("text", ["0", "11", "-1", "many", "5.0", "5s", "1e1", "0x5", "9" * 30])
def test_numbers_out_of_bounds_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("SOME_SETTING", text)
    with pytest.raises(ImproperlyConfigured, match="SOME_SETTING must be a whole number from 1 to"):
        environment.read_int("SOME_SETTING", 5, low=1, high=10)


# --- Databases ------------------------------------------------------------------------------------


def test_without_an_address_the_database_is_a_file_under_data_dir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "DATA_DIR", tmp_path / "new")
    config = settings.database_settings("")
    assert config["ENGINE"] == "django.db.backends.sqlite3"
    assert config["NAME"] == str(tmp_path / "new" / "gateway.sqlite3")
    assert (tmp_path / "new").is_dir()
    assert config["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert config["OPTIONS"]["timeout"] >= 5
    assert "journal_mode=WAL" in config["OPTIONS"]["init_command"]


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_postgresql_gets_a_pool(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv("DATABASE_POOL_SIZE", "7")
    config = settings.database_settings(f"{scheme}://me:p%40ss@db.test:5433/gw?sslmode=require")
    assert config["ENGINE"] == "django.db.backends.postgresql"
    assert (config["USER"], config["PASSWORD"]) == ("me", "p@ss")
    assert (config["HOST"], config["PORT"], config["NAME"]) == ("db.test", 5433, "gw")
    assert config["OPTIONS"]["pool"]["max_size"] == 7
    assert config["OPTIONS"]["sslmode"] == "require"
    assert config["CONN_MAX_AGE"] == 0


def test_a_pool_never_waits_long_before_it_looks_for_its_database_again() -> None:
    pool = settings.database_settings("postgres://127.0.0.1/gw")["OPTIONS"]["pool"]
    attempt, now = AttemptWithBackoff(timeout=pool["reconnect_timeout"]), 1.0
    attempt.update_delay(now)
    while not attempt.time_to_give_up(now):
        assert attempt.delay <= 3
        now += attempt.delay
        attempt.update_delay(now)


def test_a_pool_of_no_connections_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_POOL_SIZE", "0")
    with pytest.raises(ImproperlyConfigured, match="DATABASE_POOL_SIZE"):
        settings.database_settings("postgres://127.0.0.1/gw")


@pytest.mark.parametrize("url", ["mysql://me:the-secret@db.test/gw", "oracle://me:the-secret@x/y"])
def test_other_databases_are_refused_without_quoting_the_address(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"postgres:// or sqlite:///") as caught:
        settings.database_settings(url)
    assert "the-secret" not in str(caught.value)


# --- The whole file -------------------------------------------------------------------------------


def test_the_real_settings_load(tmp_path: Path) -> None:
    result = load(tmp_path)
    assert result.stdout == f"64 {SECRETS['SECRET_KEY']}\n"
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SECRET_KEY", "", "SECRET_KEY is not set"),
        ("ENCRYPTION_KEYS", "", "ENCRYPTION_KEYS is not set"),
        ("KEY_DIGEST_PEPPER", "", "KEY_DIGEST_PEPPER is not set"),
        ("THREADS", "lots", "THREADS must be a whole number from 1 to 4096."),
        ("PROVIDER_DEADLINE", "0", "PROVIDER_DEADLINE must be a whole number from 1 to 3600."),
        ("PROVIDER_BASE_URL", "api.acme.test/v1", "PROVIDER_BASE_URL must start with https://"),
        (
            "PROVIDER_BASE_URL",
            "https://me:pw@acme.test/v1",
            "PROVIDER_BASE_URL must not contain a user",
        ),
        (
            "PROVIDER_BASE_URL",
            "https://acme.test/v1#the-secret",
            "PROVIDER_BASE_URL must not have a f",
        ),
        (
            "PROVIDER_BASE_URL",
            "https://acme.test:0/v1",
            "PROVIDER_BASE_URL must have a port from 1",
        ),
        (
            "PROVIDER_ALLOWED_PARAMETERS",
            "a b",
            "PROVIDER_ALLOWED_PARAMETERS takes names of letters",
        ),
        ("DATABASE_URL", "mysql://me:the-secret@x/y", "DATABASE_URL must start with postgres://"),
    ],
)
def test_a_wrong_setting_stops_the_start(tmp_path: Path, name: str, value: str, words: str) -> None:
    result = load(tmp_path, **{name: value})
    assert result.returncode != 0
    assert f"ImproperlyConfigured: {words}" in result.stderr
    for secret in ("the-secret", *SECRETS.values()):
        assert secret not in result.stderr


@pytest.mark.parametrize(
    ("header", "name"),
    [("", "HTTP_X_FORWARDED_FOR"), ("Client-Address", "HTTP_CLIENT_ADDRESS")],
)
def test_a_proxys_header_is_found_as_wsgi_names_it(tmp_path: Path, header: str, name: str) -> None:
    result = load(tmp_path, shown="settings.TRUSTED_PROXY_META", TRUSTED_PROXY_HEADER=header)
    assert result.stdout == f"{name}\n", result.stderr


def test_secrets_may_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text("from-a-file")
    result = load(tmp_path, SECRET_KEY="", SECRET_KEY_FILE=str(tmp_path / "secret_key"))
    assert result.stdout == "64 from-a-file\n", result.stderr


def test_a_secret_may_begin_with_a_dollar_sign(tmp_path: Path) -> None:
    """Django's generator makes such keys, but the environment library takes `$` for a reference."""
    result = load(tmp_path, SECRET_KEY="$ecret-with-a-dollar")
    assert "ecret-with-a-dollar" not in result.stderr
    assert result.stdout == "64 $ecret-with-a-dollar\n"
