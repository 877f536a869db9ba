"""Rolls up the usage of finished hours and days."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from common.commands import ScriptCommand
from conversations.usage import rollup


class Command(ScriptCommand):
    help = (
        "Add up the usage of hours and days that are over, as the worker does every ten minutes, "
        "and make anew what no longer equals its messages: after an import of old ones."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        mended = rollup.mend(now=now)
        added = rollup.roll_up(now=now)
        self.report(
            options,
            {"added": added, "mended": mended},
            f"Added up {added} hours and days, made {mended} anew.",
        )
