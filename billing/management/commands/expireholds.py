"""Releases holds of calls that never returned."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from billing import holds
from common.commands import ScriptCommand


class Command(ScriptCommand):
    help = "Release expired holds. This only tidies up: they already count as released."

    def handle(self, *args: Any, **options: Any) -> None:
        expired = 0
        while batch := holds.expire_holds(now=timezone.now()):
            expired += batch
        self.report(options, {"expired": expired}, f"Released {expired} expired holds.")
