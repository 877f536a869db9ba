"""What the management commands share: a --json switch, and errors without a traceback."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from django.core.checks import Tags
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS

from common.errors import ApiError
from common.money import InvalidAmount, parse_credits

# The tag of our own checks, which look at secrets, packages, and libraries, not at pages.
INSTALLATION = "installation"
# The checks that run before a command that only reads.
READER_CHECKS = (INSTALLATION, Tags.models)


class ScriptCommand(BaseCommand):
    """A command for people and, with --json, for scripts."""

    # The checks that run before a command that writes. They include the database ones, which Django
    # leaves out: its encryption keys are known and the ledger's triggers exist. They exclude the
    # pages, because loading all of them takes half a second.
    requires_system_checks: tuple[str, ...] = (*READER_CHECKS, Tags.database)

    def get_check_kwargs(self, options: dict[str, Any]) -> Any:
        """Name the database: without a name, database checks look at none."""
        return {"tags": self.requires_system_checks, "databases": [DEFAULT_DB_ALIAS]}

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def report(self, options: dict[str, Any], result: Any, text: str) -> None:
        """Print the result as JSON, or the text for people."""
        self.stdout.write(json.dumps(result, ensure_ascii=False) if options["json"] else text)


def credits_argument(text: str) -> int:
    """Parse an amount of credits from the command line into micro-credits."""
    try:
        return parse_credits(text)
    except InvalidAmount as error:
        raise ArgumentTypeError(str(error)) from None


def time_argument(text: str) -> datetime:
    """Parse a time from the command line. Without an offset it is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"'{text}' is not a time such as 2027-01-31T00:00:00Z.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@contextmanager
def clear_errors(*expected: type[Exception]) -> Iterator[None]:
    """Turn refused input into a CommandError that names the field and the rule."""
    try:
        yield
    except ValidationError as error:
        raise CommandError(_describe(error)) from None
    except expected as error:
        raise CommandError(str(error)) from None
    except ApiError as error:
        raise CommandError(error.message) from None


def _describe(error: ValidationError) -> str:
    if not hasattr(error, "error_dict"):
        return " ".join(error.messages)
    return " ".join(
        " ".join([*([] if name == NON_FIELD_ERRORS else [f"{name}:"]), *messages])
        for name, messages in error.message_dict.items()
    )
