"""Makes the first account of a fresh installation, once."""

from __future__ import annotations

from typing import Any

from common.commands import ScriptCommand
from gateway import provisioning


class Command(ScriptCommand):
    help = "Make a first account with a channel, keys and 1,000 credits, unless there are users."

    def handle(self, *args: Any, **options: Any) -> None:
        result = provisioning.first_run()
        lines = ["Made the first account." if result["created"] else "There are accounts already."]
        lines += [
            f"{name:9} {result[name]}" for name in ("email", "password", "api_key", "test_key")
        ]
        self.report(options, result, "\n".join(lines))
