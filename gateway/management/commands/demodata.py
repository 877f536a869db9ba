"""Fills the database with realistic tenants, for trying out and measuring."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from tqdm import tqdm

from common.commands import ScriptCommand
from conversations.usage import rollup
from gateway.demo import tenants as demo_tenants
from gateway.demo.tenants import Maker, Size


class Command(ScriptCommand):
    help = (
        "Fill the database with accounts, channels, conversations and a balanced ledger, to try "
        "the dashboard with much data. Demo data cannot be told apart or removed afterwards."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--channels", type=int, default=1_000)
        parser.add_argument("--messages", type=int, default=1_000_000)
        parser.add_argument("--days", type=int, default=30)
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument(
            "--force", action="store_true", help="even if there is other data already"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        size = Size(*(options[name] for name in ("channels", "messages", "days", "seed")))
        self._check(size, force=options["force"])
        started = time.monotonic()
        is_silent = options["json"] or None  # None: silent unless standard error is a terminal
        count = sum(tqdm(_make(size), total=size.days, desc="days", disable=is_silent))
        seconds = round(time.monotonic() - started, 1)
        result = {"channels": size.channels, "messages": count, "seconds": seconds}
        self.report(options, result, f"Created {count:,} messages in {seconds} s.")

    @staticmethod
    def _check(size: Size, *, force: bool) -> None:
        for name in ("channels", "messages", "days"):
            if getattr(size, name) < 1:
                raise CommandError(f"--{name} must be at least 1.")
        # Does not check DEBUG, which is off in every documented start, including `make run`. Demo
        # data must not be mixed with anybody's real data.
        if not force and demo_tenants.has_data_of_others():
            raise CommandError(
                "This installation has accounts or messages already, and demo data cannot be "
                "removed again. Use an empty DATA_DIR or database; or --force, if all of this is "
                "for trying."
            )


def _plan(
    size: Size, *, rng: random.Random, starts_at: datetime, until: datetime
) -> list[tuple[date, int]]:
    """Return how many messages each day gets: fewer at weekends, slightly more every week."""
    days = [starts_at + timedelta(days=index) for index in range(size.days)]
    weights = []
    for index, day in enumerate(days):
        weekly = 0.55 if day.weekday() >= 5 else 1.0
        passed = min(1.0, max(0.02, (until - day) / timedelta(days=1)))
        weights.append(weekly * passed * (1 + index / size.days / 2) * rng.uniform(0.85, 1.15))
    ends = [round(size.messages * part / sum(weights)) for part in accumulate(weights)]
    return [
        (day.date(), end - begin) for day, begin, end in zip(days, [0, *ends], ends, strict=False)
    ]


def _make(size: Size) -> Iterator[int]:
    """Create everything. Yields the number of messages after each day."""
    rng = random.Random(size.seed)  # noqa: S311  # nothing here is a secret
    now = timezone.now()
    last_day = now.astimezone(UTC).date()
    starts_at = datetime.combine(last_day, datetime.min.time(), UTC) - timedelta(days=size.days - 1)
    tenants = demo_tenants.make_tenants(size, rng=rng, starts_at=starts_at)
    books = demo_tenants.open_books(tenants, size, starts_at=starts_at)
    maker = Maker(tenants, books, rng)
    for day, wanted in _plan(size, rng=rng, starts_at=starts_at, until=now):
        yield maker.make(day, wanted, until=now)
    demo_tenants.finish()
    # The past may have been rolled up already, without these rows.
    rollup.mend(now=now)
    rollup.roll_up(now=now)
