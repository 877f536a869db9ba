"""Verifies the ledger."""

from __future__ import annotations

from functools import partial
from typing import Any

from tqdm import tqdm

from common.commands import READER_CHECKS, ScriptCommand
from gateway.verification import verify


class Command(ScriptCommand):
    help = "Verify that balances, holds, entries, messages and usage agree; exit 1 if they do not."
    requires_system_checks = READER_CHECKS

    def handle(self, *args: Any, **options: Any) -> None:
        is_silent = options["json"] or None  # None: silent unless standard error is a terminal
        run = verify(track=partial(tqdm, desc="ledger", disable=is_silent))
        seconds = (run.finished_at - run.started_at).total_seconds()
        result = {
            "entries": run.entry_count,
            "differences": run.difference_count,
            "details": run.details,
            "seconds": round(seconds, 1),
        }
        verdict = (
            f"{run.entry_count:,} entries in {seconds:.1f} s: {run.difference_count:,} differences."
        )
        self.report(options, result, "\n".join([*run.details, verdict]))
        if run.difference_count:
            raise SystemExit(1)
