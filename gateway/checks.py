"""System checks of the whole installation."""

from __future__ import annotations

import importlib
import importlib.metadata
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
from django.apps import AppConfig
from django.conf import settings
from django.contrib.admin.checks import check_admin_app
from django.core import checks
from django.core.checks import CheckMessage, Error, register
from django.db import DatabaseError, InterfaceError, connection

import channels
from common.commands import INSTALLATION
from gateway import environment
from gateway.command_line import where

SQLITE_WITH_RETURNING = (3, 35, 0)


@register(INSTALLATION)
def check_channels_package(**kwargs: Any) -> list[CheckMessage]:
    """Refuse the Django Channels distribution, which installs a package also called `channels`."""
    found: list[CheckMessage] = []
    if not Path(channels.__file__ or "").is_relative_to(settings.BASE_DIR):
        found.append(
            Error(
                "The package 'channels' is not this project's.",
                hint="Uninstall the distribution 'channels' (Django Channels); it is not used.",
                id="gateway.E001",
            )
        )
    if _is_installed("channels"):
        found.append(
            checks.Warning(
                "The distribution 'channels' (Django Channels) is installed beside this project.",
                hint="Uninstall it: its package has the same name as one of ours.",
                id="gateway.W001",
            )
        )
    return found


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@register(checks.Tags.admin)
def check_admin_pages(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Run Django's own check of all admin pages, after loading them: checks run in any order."""
    importlib.import_module(settings.ROOT_URLCONF)
    return check_admin_app(app_configs, **kwargs)


@register(INSTALLATION)
def check_sqlite_version(**kwargs: Any) -> list[CheckMessage]:
    """Refuse an SQLite without RETURNING, which the guarded statements need."""
    uses_sqlite = settings.DATABASES["default"]["ENGINE"].endswith("sqlite3")
    if not uses_sqlite or sqlite3.sqlite_version_info >= SQLITE_WITH_RETURNING:
        return []
    return [
        Error(
            f"SQLite {sqlite3.sqlite_version} is too old.",
            hint="Use a Python with SQLite 3.35 or newer, or set DATABASE_URL to PostgreSQL.",
            id="gateway.E002",
        )
    ]


@register(checks.Tags.database)
def check_database_answers(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Report an unreachable database. Without this, all database checks would pass."""
    if not databases:
        return []
    try:
        connection.ensure_connection()
    except (DatabaseError, InterfaceError) as error:
        return [
            Error(
                f"{where()} cannot be used: {str(_reason_behind(error)).strip()}",
                hint="Is the server running, and is DATABASE_URL right?",
                id="gateway.E003",
            )
        ]
    return []


def _reason_behind(error: Exception) -> Exception:
    """Return the driver's error, because a pool only says that it timed out."""
    if "pool" not in settings.DATABASES["default"].get("OPTIONS", {}):
        return error
    try:
        _direct_connection().close()
    except psycopg.Error as reason:
        return reason
    return error


# Not tagged Tags.database: all our commands run those checks, and this opens two connections.
@register("pooling")
def check_prepared_statements(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Find a pgbouncer with transaction pooling that does not support prepared statements.

    It hands a connection from one client to the next, with the first client's prepared statement of
    that name still on it. Nearly every request would fail.
    """
    options = settings.DATABASES["default"].get("OPTIONS", {})
    if not databases or not options.get("prepare_threshold"):
        return []
    try:
        with _direct_connection() as one, _direct_connection() as other:
            for client in (one, other, one):
                client.execute("SELECT 1 AS prepared", prepare=True)
    except (
        psycopg.errors.DuplicatePreparedStatement,
        psycopg.errors.InvalidSqlStatementName,
        psycopg.errors.FeatureNotSupported,
    ) as error:
        return [
            Error(
                f"Prepared statements fail on this connection: {str(error).strip()}.",
                hint="DATABASE_URL leads to a pgbouncer that pools transactions and is older than "
                "1.21, or has max_prepared_statements = 0. Set DATABASE_PREPARED_STATEMENTS=false.",
                id="gateway.E004",
            )
        ]
    except psycopg.Error:
        return []  # check_database_answers reports that
    return []


def _direct_connection() -> psycopg.Connection[Any]:
    params = connection.get_connection_params() | {"prepare_threshold": 0}
    for of_django in ("pool", "server_side_binding", "cursor_factory", "context"):
        params.pop(of_django, None)
    return psycopg.connect(**params, autocommit=True)


@register(INSTALLATION)
def check_names_of_settings(**kwargs: Any) -> list[CheckMessage]:
    """Warn of misspelled settings. The gateway would start as if they were not set."""
    return [
        checks.Warning(
            f"{name} is not a setting" + (f"; is {near} meant?" if near else "."),
            hint="docs/operations.md lists them all.",
            id="gateway.W002",
        )
        for name, near in environment.unknown_names().items()
    ]


@register(deploy=True)
def check_public_url(**kwargs: Any) -> list[CheckMessage]:
    """Warn without PUBLIC_URL. Links in e-mails must not depend on a request's Host header."""
    if settings.PUBLIC_URL:
        return []
    return [
        checks.Warning(
            "PUBLIC_URL is not set: links in e-mails take host and port from the request.",
            hint="Set it to the address that people open: https://gateway.example.com.",
            id="gateway.W003",
        )
    ]
