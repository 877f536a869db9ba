"""Tidies holds of calls that never came back."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from billing import holds
from common.commands import ScriptCommand


class Command(ScriptCommand):
    help = "Release holds whose time has passed. Only tidies: they count as released already."

    def handle(self, *args: Any, **options: Any) -> None:
        expired = 0
        while batch := holds.expire_holds(now=timezone.now()):
            expired += batch
        self.report(options, {"expired": expired}, f"Released {expired} expired holds.")
