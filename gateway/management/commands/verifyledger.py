"""Proves the books."""

from __future__ import annotations

from itertools import chain
from typing import Any

from billing import verification as billing
from common.commands import ScriptCommand
from conversations import verification as conversations

SHOWN = 1_000


class Command(ScriptCommand):
    help = "Prove that balances, holds, entries, messages and usage agree; exit 1 if they do not."

    def handle(self, *args: Any, **options: Any) -> None:
        with billing.snapshot():
            result = billing.summarize()
            differences = list(chain(billing.find_differences(), conversations.find_differences()))
        shown = differences[:SHOWN]
        result |= {"differences": len(differences), "details": shown}
        text = "\n".join(
            [
                *shown,
                f"{result['entries']:,} entries of {result['accounts']:,} accounts: "
                f"{len(differences):,} differences.",
            ]
        )
        self.report(options, result, text)
        if differences:
            raise SystemExit(1)
