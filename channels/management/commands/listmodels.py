"""Prints the models of the catalogue."""

from __future__ import annotations

from typing import Any

from channels import catalogue
from common.commands import READER_CHECKS, ScriptCommand


class Command(ScriptCommand):
    help = "List the models a channel can use, as /api/models does."
    requires_system_checks = READER_CHECKS

    def handle(self, *args: Any, **options: Any) -> None:
        models = catalogue.list_models()
        lines = [f"{m['id']:32} {m['context_window']:>8,} tokens  {m['name']}" for m in models]
        self.report(options, {"models": models}, "\n".join(lines))
