"""Rolls up the usage of finished hours and days."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from common.commands import ScriptCommand
from conversations.usage import rollup


class Command(ScriptCommand):
    help = (
        "Add up the usage of finished hours and days, as the worker does every ten minutes, and "
        "correct sums that no longer match their messages, as after an import of old ones."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        mended = rollup.mend(now=now)
        added = rollup.roll_up(now=now)
        self.report(
            options,
            {"added": added, "mended": mended},
            f"Added up {added} hours and days, corrected {mended}.",
        )
