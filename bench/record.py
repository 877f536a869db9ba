"""The kept runs and their figures: docs/data/runs.csv, and a file of figures for each benchmark.

A line of `runs.csv` is a run with its conditions. A line of another file is one figure, and finds
its run by `at`. Lines are only appended.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import median
from typing import Any

from bench import figures
from tests.harness.processes import BASE_DIR

DATA = BASE_DIR / "docs" / "data"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a benchmark, and its conditions. `load` is the load average before the start."""

    bench: str
    at: str
    commit: str
    machine: str
    load: str
    method: str = ""
    note: str = ""

    def __str__(self) -> str:
        return f"{self.at}, {self.commit}, {self.machine}, load average {self.load} before"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a run: its case, its size if sizes are compared, and the median and spread."""

    case: str
    name: str
    value: float
    low: float | None = None
    high: float | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """A run with all its figures."""

    run: Run
    figures: Sequence[Figure]

    def get(self, case: str, name: str, size: int | None = None) -> Figure | None:
        """Return the figure of exactly this case, name, and size."""
        wanted = (case, name, size)
        return next((one for one in self.figures if (one.case, one.name, one.size) == wanted), None)

    def like(self, case: str, name: str) -> list[Figure]:
        """Return the figures whose case and name match these patterns, as of file names."""
        return [
            one
            for one in self.figures
            if fnmatchcase(one.case, case) and fnmatchcase(one.name, name)
        ]


def begin(bench: str) -> Run:
    """Return a run and its conditions. Call it first: later the benchmark's load would count."""
    at = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
    return Run(bench, at, figures.commit(), figures.machine(), f"{os.getloadavg()[0]:.1f}")


def middle(case: str, name: str, values: Sequence[float], digits: int = 2) -> Figure:
    """Return the figure of several rounds: their median, the lowest, and the highest."""
    value, low, high = (round(one, digits) for one in (median(values), min(values), max(values)))
    return Figure(case, name, value, low, high)


def append(kept: Kept, folder: Path = DATA) -> None:
    """Add a run and its figures to the data files."""
    _append(folder / "runs.csv", Run, [asdict(kept.run)])
    stamp = {"at": kept.run.at, "commit": kept.run.commit}
    told = [stamp | asdict(one) for one in kept.figures]
    _append(folder / f"{kept.run.bench}.csv", Figure, told, before=("at", "commit"))


def _append(
    path: Path, kind: type[Any], lines: Iterable[dict[str, Any]], before: Sequence[str] = ()
) -> None:
    is_new = not path.exists()
    columns = [*before, *(field.name for field in fields(kind))]
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows({name: _cell(line[name]) for name in columns} for line in lines)


def _cell(value: Any) -> Any:
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else value


def runs(bench: str, folder: Path = DATA) -> list[Kept]:
    """Return all runs of a benchmark with their figures, the oldest first."""
    found: dict[str, list[Figure]] = {}
    for line in lines(folder / f"{bench}.csv"):
        found.setdefault(line["at"], []).append(_figure(line))
    kept = [Run(**line) for line in lines(folder / "runs.csv") if line["bench"] == bench]
    return [Kept(run, found.get(run.at, [])) for run in sorted(kept, key=lambda run: run.at)]


def _figure(line: dict[str, str]) -> Figure:
    return Figure(
        line["case"],
        line["name"],
        float(line["value"]),
        float(line["low"]) if line["low"] else None,
        float(line["high"]) if line["high"] else None,
        int(line["size"]) if line["size"] else None,
    )


def lines(path: Path) -> Iterator[dict[str, str]]:
    if path.exists():
        with path.open(newline="") as file:
            yield from csv.DictReader(file)
