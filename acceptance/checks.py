"""What every check gets and reports: expectations, figures, and what is still pending."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from acceptance.rig import Rig
from tests.harness.databases import Database
from tests.harness.rig import Workshop


@dataclass(slots=True)
class Report:
    """The outcome of one check on one database."""

    figures: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)

    def figure(self, name: str, value: object) -> None:
        """Record a measured figure. Floats are rounded."""
        self.figures[name] = f"{value:.2f}" if isinstance(value, float) else str(value)

    def expect(self, is_true: object, otherwise: str) -> None:
        """Record a broken promise and go on, so that one run shows all of them."""
        if not is_true:
            self.failures.append(otherwise)

    def expect_equal(self, what: str, found: object, expected: object) -> None:
        self.expect(found == expected, f"{what}: {found!r}, expected {expected!r}")


@dataclass(slots=True)
class Run:
    """One check on one database: its seed, its size, its report, its rigs."""

    kind: str
    seed: int
    is_long: bool
    workshop: Workshop
    folder: Path
    report: Report = field(default_factory=Report)
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def count(self, full: int, *, short: int | None = None) -> int:
        """Return how many: the promise's number, a tenth on SQLite, fewer in the short set."""
        number = full if self.is_long or short is None else short
        return number if self.kind == "pg" else max(1, number // 10)

    @contextmanager
    def rig(
        self, settings: Mapping[str, str] | None = None, *, database: Database | None = None
    ) -> Iterator[Rig]:
        """Yield a rig with a new database and provider. At its end the books must agree."""
        with tempfile.TemporaryDirectory(dir=self.workshop.folder) as scratch:
            own = database or self.workshop.stock.new(self.kind)
            rig = Rig(self.workshop, own, self.folder, Path(scratch), settings or {})
            try:
                yield rig
                found = rig.verify_ledger()
                self.report.expect(not found, f"verifyledger: {found[:5]}")
            finally:
                rig.close()


@dataclass(frozen=True, slots=True)
class Check:
    """A promise, its id, and the databases on which it applies."""

    id: str
    title: str
    function: Callable[[Run], None]
    kinds: tuple[str, ...] = ("pg", "sqlite")
