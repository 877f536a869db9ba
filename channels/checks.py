"""Refuses to start without the keys and triggers that the database needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from channels.models import ApiKey, Provider
from common import crypto, db
from common.commands import INSTALLATION


@register(INSTALLATION)
def check_secrets(**kwargs: Any) -> list[CheckMessage]:
    """Malformed secrets must stop the start, not the first request."""
    try:
        crypto.known_key_ids()
        crypto.digest("")
    except ImproperlyConfigured as error:
        return [Error(str(error), id="channels.E002")]
    return []


@register(Tags.database)
def check_key_ring(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Name every encryption key that a stored row needs and ENCRYPTION_KEYS does not hold."""
    if not databases:
        return []
    try:
        stored = _stored_key_ids()
        known = set(crypto.known_key_ids())
    except DatabaseError:
        return []  # no tables yet, or no database: migrations and /readyz speak of that
    except ImproperlyConfigured:
        return []  # check_secrets speaks of that
    return [
        Error(
            f"The database holds keys encrypted with '{key_id}', which is not in ENCRYPTION_KEYS.",
            hint=(
                "Start with the .env (or secrets) this database was made with: add "
                f"'{key_id}:<its key>' at the end of ENCRYPTION_KEYS. Without it those API keys "
                "cannot be shown again."
            ),
            id="channels.E001",
        )
        for key_id in sorted(stored - known)
    ]


_COUNT_TRIGGERS = {
    "sqlite": "SELECT COUNT(*) FROM sqlite_master WHERE type = 'trigger' "
    "AND tbl_name IN ('channels_provider', 'channels_route') AND name LIKE '%_new_mark'",
    # One trigger for all three events.
    "postgresql": "SELECT 3 * COUNT(*) FROM pg_trigger WHERE tgenabled <> 'D' AND tgname IN "
    "('channels_provider_new_mark', 'channels_route_new_mark')",
}


@register(Tags.database)
def check_catalogue_triggers(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Without its triggers, a change of providers or routes would reach no running process."""
    if not databases:
        return []
    if db.count_triggers("channels_catalogueversion", _COUNT_TRIGGERS) in {6, None}:
        return []
    return [
        Error(
            "A change of providers or routes would go unnoticed: triggers are missing.",
            hint="Create them again: `manage.py migrate channels 0006 --skip-checks`, then "
            "`manage.py migrate --skip-checks`. Nothing is lost by it.",
            id="channels.E003",
        )
    ]


def _stored_key_ids() -> set[str]:
    api_keys = ApiKey.objects.order_by().values_list("encryption_key_id", flat=True).distinct()
    providers = (
        Provider.objects.exclude(key_ciphertext=None)
        .order_by()
        .values_list("encryption_key_id", flat=True)
        .distinct()
    )
    return set(api_keys) | set(providers)
