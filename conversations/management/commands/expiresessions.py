"""Closes stale sessions, and erases text past its retention and of deleted accounts."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from common.commands import ScriptCommand
from conversations.archive import account_end, retention


class Command(ScriptCommand):
    help = (
        "Close sessions past their lifetime, and erase text past SESSION_RETENTION_DAYS and of "
        "deleted accounts."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        accounts = account_end.erase_all_closed(now=now)
        closed, erased = retention.expire_stale_sessions(now=now)
        self.report(
            options,
            {"closed_sessions": closed, "erased_messages": erased, "erased_accounts": accounts},
            f"Closed {closed} sessions, erased the text of {erased} messages and finished "
            f"{accounts} deleted accounts.",
        )
