"""Creates the first account of a fresh installation, once."""

from __future__ import annotations

from typing import Any

from common.commands import ScriptCommand
from gateway import provisioning

# Shown instead of the password after the first time.
NOT_AGAIN = "shown once; set another by: manage.py changepassword EMAIL"


class Command(ScriptCommand):
    help = "Create a first account with a channel, keys and 1,000 credits, unless there are users."

    def handle(self, *args: Any, **options: Any) -> None:
        result = provisioning.first_run()
        lines = [
            "Created the first account." if result["created"] else "There are accounts already."
        ]
        shown = result | {"password": result["password"] or NOT_AGAIN}
        lines += [
            f"{name:9} {shown[name]}" for name in ("email", "password", "api_key", "test_key")
        ]
        self.report(options, result, "\n".join(lines))
