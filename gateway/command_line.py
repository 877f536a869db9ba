"""Runs a management command. An operator's mistake ends it with a few lines, not a traceback.

A traceback is for bugs. `--traceback` shows it for everything.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError, ProgrammingError

NO_TABLES = ("no such table", "no such column", "42P01", "42703")


def run(arguments: Sequence[str]) -> None:
    """Run the command. Exits with 1 and a message if settings or database are at fault."""
    shows_all = "--traceback" in arguments
    try:
        _connect_directly()
        execute_from_command_line([*arguments])
    except ImproperlyConfigured as error:
        _stop(error, str(error), shows_all)
    except (OperationalError, InterfaceError, ProgrammingError) as error:
        words = database_words(error)
        if words is None:
            raise
        _stop(error, words, shows_all)


def _connect_directly() -> None:
    """Bypass the pool. A command needs one connection, and gets the driver's error at once."""
    settings.DATABASES[DEFAULT_DB_ALIAS].get("OPTIONS", {}).pop("pool", None)


def _stop(error: Exception, words: str, shows_all: bool) -> NoReturn:
    if shows_all:
        raise error
    sys.exit(words)


def database_words(error: Exception) -> str | None:
    """Return a message for a database error, including the driver's reason, or None for a bug."""
    told = f"{getattr(error.__cause__, 'sqlstate', None)} {error}"
    if any(mark in told for mark in NO_TABLES):
        return f"The database lacks a table or column; run: python manage.py migrate\n{error}"
    if isinstance(error, ProgrammingError):
        return None
    return f"{where()} cannot be used:\n{str(error).strip()}"


def where() -> str:
    """Return which database is used, without the password."""
    config = settings.DATABASES[DEFAULT_DB_ALIAS]
    if config["ENGINE"].endswith("sqlite3"):
        return f"The database {config['NAME']}"
    place = f"{config['HOST'] or 'the local socket'}:{config['PORT'] or 5432}"
    return f"The database '{config['NAME']}' at {place} (DATABASE_URL, user '{config['USER']}')"
