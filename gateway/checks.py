"""Checks of the whole installation."""

from __future__ import annotations

import importlib.metadata
import sqlite3
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, register

import channels

SQLITE_WITH_RETURNING = (3, 35, 0)


@register()
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
    names = {(dist.metadata["Name"] or "").lower() for dist in importlib.metadata.distributions()}
    if "channels" in names:
        found.append(
            checks.Warning(
                "The distribution 'channels' (Django Channels) is installed beside this project.",
                hint="Uninstall it: its package has the name of one of ours.",
                id="gateway.W001",
            )
        )
    return found


@register()
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
