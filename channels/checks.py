"""Refuses to start without the keys that the database needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from channels.models import ApiKey, Provider
from common import crypto


@register()
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


def _stored_key_ids() -> set[str]:
    api_keys = ApiKey.objects.order_by().values_list("encryption_key_id", flat=True).distinct()
    providers = (
        Provider.objects.exclude(key_ciphertext=None)
        .order_by()
        .values_list("encryption_key_id", flat=True)
        .distinct()
    )
    return set(api_keys) | set(providers)
