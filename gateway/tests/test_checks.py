"""Checks of the installation as a whole."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from django.core import checks
from django.core.checks import CheckMessage
from pytest_django import Settings

import channels


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
    from gateway import checks as ours

    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", engine)
    assert [message.id for message in ours.check_sqlite_version()] == expected


def test_our_package_is_in_this_repository(settings: Settings) -> None:
    assert Path(str(channels.__file__)).is_relative_to(settings.BASE_DIR)
