"""System checks: refuse to start without the keys and triggers that the database needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from channels import secret_checks
from common import crypto, db
from common.commands import INSTALLATION


@register(INSTALLATION)
def check_secrets(**kwargs: Any) -> list[CheckMessage]:
    """Report malformed secrets at start, so that they do not surface with the first request."""
    try:
        crypto.known_key_ids()
        crypto.digest("")
    except ImproperlyConfigured as error:
        return [Error(str(error), id="channels.E002")]
    return []


@register(Tags.database, "secrets")
def check_stored_secrets(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Report every secret that stored rows need and the settings lack, and every overused key."""
    if not databases:
        return []
    try:
        problems = secret_checks.find_problems()
    except DatabaseError:
        return []  # no tables yet, or no database: migrations and /readyz report that
    except ImproperlyConfigured:
        return []  # check_secrets reports that
    ids = {secret_checks.RING: "channels.E001", secret_checks.PEPPER: "channels.E004"}
    found: list[CheckMessage] = [
        Error(problem.words, hint=problem.hint, id=ids[problem.setting]) for problem in problems
    ]
    return found + _worn_out()


def _worn_out() -> list[CheckMessage]:
    """Warn about an encryption key that was used so often that its nonces may soon collide."""
    return [
        Warning(
            f"The encryption key '{row.name}' has encrypted about {row.encryptions:,} values; "
            f"it is safe up to twice {secret_checks.MOST_ENCRYPTIONS:,}.",
            hint="Put a new key in front of ENCRYPTION_KEYS (docs/how-to/rotate-secrets.md).",
            id="channels.W001",
        )
        for row in secret_checks.list_recorded()
        if row.encryptions >= secret_checks.MOST_ENCRYPTIONS
    ]


_COUNT_TRIGGERS = {
    "sqlite": "SELECT COUNT(*) FROM sqlite_master WHERE type = 'trigger' "
    "AND tbl_name IN ('channels_provider', 'channels_route', 'channels_routetraits') "
    "AND name LIKE '%_new_mark'",
    # One trigger for all three events.
    "postgresql": "SELECT 3 * COUNT(*) FROM pg_trigger WHERE tgenabled <> 'D' AND tgname IN "
    "('channels_provider_new_mark', 'channels_route_new_mark', 'channels_routetraits_new_mark')",
}


@register(Tags.database)
def check_catalogue_triggers(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Report missing triggers: without them no process would notice changed providers or routes."""
    if not databases:
        return []
    if db.count_triggers("channels_catalogueversion", _COUNT_TRIGGERS) in {9, None}:
        return []
    return [
        Error(
            "Changes to providers or routes would go unnoticed: triggers are missing.",
            hint="Create them again: `manage.py migrate channels 0006 --skip-checks`, then "
            "`manage.py migrate --skip-checks`. Nothing is lost.",
            id="channels.E003",
        )
    ]
