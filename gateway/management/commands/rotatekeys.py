"""Re-encrypts all stored secrets with the newest encryption key and pepper."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.core.management.base import CommandParser
from tqdm import tqdm

from channels.secret_checks import PEPPER, RING
from common.commands import ScriptCommand
from gateway import rotation


class Command(ScriptCommand):
    help = (
        "Rewrite what is stored under an older key of ENCRYPTION_KEYS or an older pepper under "
        "the newest ones, then say which are still needed. Safe to run while the gateway serves, "
        "and to interrupt: it continues where it stopped. See docs/how-to/rotate-secrets.md."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--drop-unreadable",
            action="store_true",
            help="forget ciphertexts that cannot be read, so that they no longer need a key: API "
            "keys, invitations and codes keep working, provider keys must be entered again",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        total = sum(store.count() for store in rotation.stores())
        rewritten, unreadable = 0, []
        is_silent = options["json"] or None  # None: silent unless standard error is a terminal
        with tqdm(total=total, desc="rows", disable=is_silent) as bar:
            for batch in rotation.rewrite_all(drop_unreadable=options["drop_unreadable"]):
                bar.update(batch.seen)
                rewritten += batch.rewritten
                unreadable += batch.unreadable
        kept = rotation.forget_unused()
        left = rotation.count_left()
        result = {
            "rewritten": rewritten,
            "unreadable": unreadable,
            **{setting: self._of(setting, left) for setting in (RING, PEPPER)},
            "still_needed": [f"{setting} {name}" for setting, name in kept],
        }
        self.report(options, result, _describe(result))
        if kept or (unreadable and not options["drop_unreadable"]):
            raise SystemExit(1)

    @staticmethod
    def _of(setting: str, left: Counter[rotation.Secret]) -> dict[str, int]:
        """Return how many rows use each secret of a setting. Includes the newest in any case."""
        counts = {rotation.newest(setting): 0}
        for (whose, name), count in sorted(left.items()):
            if whose == setting:
                counts[name or "older than these ids"] = count
        return counts


def _describe(result: dict[str, Any]) -> str:
    lines = [f"Rewrote {result['rewritten']:,} rows. Rows that need each secret now:"]
    for setting in (RING, PEPPER):
        lines += [f"  {setting} {name}: {count:,}" for name, count in result[setting].items()]
    lines += [f"Cannot be read: {text}" for text in result["unreadable"]]
    if result["still_needed"]:
        lines.append(f"Keep: {', '.join(result['still_needed'])}. Then run this again.")
    else:
        lines.append("Older keys and peppers can be taken out of the settings.")
    return "\n".join(lines)
