"""Checks of the whole installation."""

from __future__ import annotations

import importlib
import importlib.metadata
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.contrib.admin.checks import check_admin_app
from django.core import checks
from django.core.checks import CheckMessage, Error, register

import channels
from common.commands import INSTALLATION

SQLITE_WITH_RETURNING = (3, 35, 0)


@register(INSTALLATION)
def check_channels_package(**kwargs: Any) -> list[CheckMessage]:
    """The Django Channels distribution installs a package that is also called `channels`."""
    found: list[CheckMessage] = []
    if not Path(channels.__file__ or "").is_relative_to(settings.BASE_DIR):
        found.append(
            Error(
                "The package 'channels' is not the one of this project.",
                hint="Uninstall the distribution 'channels' (Django Channels); it is not used.",
                id="gateway.E001",
            )
        )
    if _is_installed("channels"):
        found.append(
            checks.Warning(
                "The distribution 'channels' (Django Channels) is installed beside this project.",
                hint="Uninstall it: its package has the name of one of ours.",
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
    """Django's own check of all admin pages, after loading them: checks run in any order."""
    importlib.import_module(settings.ROOT_URLCONF)
    return check_admin_app(app_configs, **kwargs)


@register(INSTALLATION)
def check_sqlite_version(**kwargs: Any) -> list[CheckMessage]:
    """The guarded statements need RETURNING."""
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
