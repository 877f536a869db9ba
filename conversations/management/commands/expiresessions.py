"""Closes stale sessions and erases text past its retention."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from common.commands import ScriptCommand
from conversations.archive import retention


class Command(ScriptCommand):
    help = "Close sessions past their lifetime and erase text past SESSION_RETENTION_DAYS."

    def handle(self, *args: Any, **options: Any) -> None:
        closed, erased = retention.expire_stale_sessions(now=timezone.now())
        self.report(
            options,
            {"closed_sessions": closed, "erased_messages": erased},
            f"Closed {closed} sessions, erased the text of {erased} messages.",
        )
