"""Creates the ready-made staff groups."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from common.commands import ScriptCommand
from dashboard.staff import groups


class Command(ScriptCommand):
    help = "Create the staff groups Support, Billing, Catalogue and Auditor if they are missing."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--reset", action="store_true", help="also reset the permissions of existing groups"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        outcomes = groups.make_groups(reset=options["reset"])
        result = {one.name: one.permission_count for one in outcomes}
        new = [one.name for one in outcomes if one.is_new]
        self.report(options, result, f"Created: {', '.join(new) or 'none, all exist'}.")
