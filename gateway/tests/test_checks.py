"""System checks of the whole installation."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import psycopg
import pytest
from django.core import checks
from django.core.checks import CheckMessage
from django.db import OperationalError
from pytest_django import Settings

import channels
from gateway import checks as ours


def run() -> list[CheckMessage]:
    return [found for found in checks.run_checks() if str(found.id).startswith("gateway.")]


def ids() -> list[str]:
    return [str(message.id) for message in run()]


def test_this_installation_is_sound() -> None:
    assert ids() == []


@pytest.mark.parametrize("file", ["/elsewhere/site-packages/channels/__init__.py", "", None])
def test_another_package_of_the_name_channels_is_an_error(
    monkeypatch: pytest.MonkeyPatch, file: str | None
) -> None:
    monkeypatch.setattr(channels, "__file__", file)
    (message,) = run()
    assert (message.id, message.is_serious()) == ("gateway.E001", True)
    assert "Django Channels" in str(message.hint)


@pytest.mark.parametrize("name", ["channels", "Channels"])
def test_the_channels_distribution_beside_ours_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    metadata = tmp_path / f"{name}-4.3.2.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 4.3.2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (message,) = run()
    assert (message.id, message.is_serious()) == ("gateway.W001", False)


def test_a_distribution_without_a_name_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A half-removed package leaves a folder without metadata behind."""
    (tmp_path / "gone-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert ids() == []


@pytest.mark.parametrize(
    ("engine", "version", "expected"),
    [
        ("django.db.backends.sqlite3", (3, 34, 1), ["gateway.E002"]),
        ("django.db.backends.sqlite3", (3, 35, 0), []),
        ("django.db.backends.postgresql", (3, 34, 1), []),
    ],
)
def test_an_old_sqlite_is_an_error_where_it_is_used(
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    engine: str,
    version: tuple[int, int, int],
    expected: list[str],
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", engine)
    assert [message.id for message in ours.check_sqlite_version()] == expected


def test_our_package_is_in_this_repository(settings: Settings) -> None:
    assert Path(str(channels.__file__)).is_relative_to(settings.BASE_DIR)


# --- The database ---------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_database_that_answers_is_no_finding() -> None:
    assert ours.check_database_answers(databases=["default"]) == []
    assert ours.check_prepared_statements(databases=["default"]) == []


def test_the_database_is_asked_only_where_it_is_named() -> None:
    assert ours.check_database_answers() == []
    assert ours.check_prepared_statements() == []


def test_a_database_that_is_away_fails_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr("gateway.checks.connection.ensure_connection", away)
    (message,) = ours.check_database_answers(databases=["default"])
    assert (message.id, message.is_serious()) == ("gateway.E003", True)
    assert "connection refused" in message.msg


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (psycopg.errors.DuplicatePreparedStatement('"_pg3_0" already exists'), ["gateway.E004"]),
        (psycopg.errors.InvalidSqlStatementName('"_pg3_0" does not exist'), ["gateway.E004"]),
        (psycopg.OperationalError("away"), []),  # another check reports this
    ],
)
def test_a_pooler_that_loses_prepared_statements_is_an_error_with_the_switch(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, error: Exception, expected: list[str]
) -> None:
    """As with pgbouncer 1.18 and transaction pooling."""

    class Client:
        def __enter__(self) -> Client:
            return self

        def __exit__(self, *exception: object) -> None: ...

        def execute(self, statement: str, *, prepare: bool) -> None:
            raise error

    options = {"prepare_threshold": 1}
    monkeypatch.setitem(settings.DATABASES["default"], "OPTIONS", options)
    monkeypatch.setattr(ours, "_direct_connection", Client)
    found = ours.check_prepared_statements(databases=["default"])
    assert [message.id for message in found] == expected
    assert all("DATABASE_PREPARED_STATEMENTS=false" in str(message.hint) for message in found)
    options.clear()  # DATABASE_PREPARED_STATEMENTS=false
    assert ours.check_prepared_statements(databases=["default"]) == []


@pytest.mark.parametrize(("url", "expected"), [("", ["gateway.W003"]), ("https://gw.test", [])])
def test_a_deployment_without_a_public_address_is_warned(
    settings: Settings, url: str, expected: list[str]
) -> None:
    settings.PUBLIC_URL = url
    assert [message.id for message in ours.check_public_url()] == expected
    assert not {"gateway.W003"} & set(ids())
