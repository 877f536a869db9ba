"""Draws the cost of a chat at each measured commit, read from docs/performance.md."""

from __future__ import annotations

import re

from acceptance.processes import BASE_DIR
from bench import plot

REPORT = BASE_DIR / "docs" / "performance.md"
PLOT = BASE_DIR / "docs" / "cpu-per-commit.png"
_SECTION = re.compile(
    r"^## \d{4}-\d\d-\d\d [\d:]+ UTC, (?P<commit>[^,\n]+),[^\n]*\n"
    r"(?:(?!^## ).*\n)*?"
    r"^\| 0 ms, c=32 \| [^|]+\| (?P<cpu>[\d.]+)[^|]*\| (?P<database>[\d.]+)",
    re.MULTILINE,
)


def draw() -> None:
    """Draw all sections that `make bench` has written, or nothing if there are none."""
    found = list(_SECTION.finditer(REPORT.read_text()))
    if not found:
        return
    lines = {
        name: [(float(at), float(one[group])) for at, one in enumerate(found)]
        for name, group in (("gateway", "cpu"), ("PostgreSQL", "database"))
    }
    labels = {float(at): one["commit"] for at, one in enumerate(found)}
    plot.write(PLOT, "CPU ms a chat, 0 ms provider, 32 connections", lines, labels, log=False)
