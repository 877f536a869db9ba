"""Refuses to start if the database would allow changes to ledger entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register

from common import db

_COUNT_TRIGGERS = {
    # The third counts once its migration has run, because `migrate` runs this check first.
    "sqlite": "SELECT COUNT(*) + NOT EXISTS (SELECT 1 FROM django_migrations WHERE app = 'billing' "
    "AND name = '0007_refuse_ledger_replacements') FROM sqlite_master WHERE type = 'trigger' "
    "AND name IN ('billing_ledgerentry_no_update', 'billing_ledgerentry_no_delete', "
    "'billing_ledgerentry_no_replace')",
    # Two do there what three do on SQLite.
    "postgresql": "SELECT COUNT(*) + 1 FROM pg_trigger WHERE tgenabled <> 'D' AND tgname IN "
    "('billing_ledgerentry_no_change', 'billing_ledgerentry_no_truncate')",
}


@register(Tags.database)
def check_ledger_triggers(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Report missing ledger triggers, which a table rebuild or a restore by hand can lose."""
    if not databases or db.count_triggers("billing_ledgerentry", _COUNT_TRIGGERS) in {3, None}:
        return []
    return [
        Error(
            "The ledger can be edited: the triggers that refuse UPDATE and DELETE are missing.",
            hint="Create them again with `manage.py migrate billing ... --skip-checks`, run with "
            "each of `0001 --fake`, `0002`, `0006 --fake`, `0007`, then with `--fake` alone.",
            id="billing.E001",
        )
    ]
