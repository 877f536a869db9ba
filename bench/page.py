"""Draws the tables and plots of docs/performance.md from docs/data: `make figures`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial

from bench import plot, record, tables
from bench.record import Kept
from tests.harness.processes import BASE_DIR

PAGE = BASE_DIR / "docs" / "performance.md"
DOCS = BASE_DIR / "docs"
_DRAWN = re.compile(r"(?<=<!-- drawn: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
# The file of a plot, by what grows.
GROWTH_PLOTS = {"messages": "growth.png", "messages of the account itself": "growth-own.png"}


def show(kept: Kept, *, is_kept: bool) -> None:
    """Print a finished run. If it `is_kept`, add it to the data files, and draw the page again."""
    print(tables.section(kept))
    if is_kept:
        record.append(kept)
        draw()


def draw() -> None:
    """Draw the page's tables and plots."""
    PAGE.write_text(drawn(PAGE.read_text()))
    plot_commits(record.runs("chat"))
    plot_growth(tables.newest()["growth"])


def drawn(text: str) -> str:
    """Return the page with its tables as the data files have them."""
    newest = tables.newest()
    count = {bench: len(record.runs(bench)) for bench in newest}
    known: dict[str, Callable[[], Iterator[str]]] = {
        bench: partial(of, newest[bench]) for bench, of in tables.TABLES.items()
    }
    known["targets"] = partial(tables.verdicts, newest)
    known["conditions"] = partial(tables.conditions, newest, count)
    known["pairs"] = partial(tables.pairs, record.runs("pair"))
    return _DRAWN.sub(lambda found: _block(found, known), text)


def _block(found: re.Match[str], known: dict[str, Callable[[], Iterator[str]]]) -> str:
    return found[1] + found[2] + "\n" + "\n".join(known[found[1]]()) + "\n"


def plot_commits(runs: list[Kept]) -> None:
    """Plot what a chat costs at each measured commit."""
    lines = {
        who: [
            (float(at), one.value)
            for at, kept in enumerate(runs)
            if (one := kept.get("0 ms, c=32", name))
        ]
        for who, name in (("gateway", "cpu_ms"), ("PostgreSQL", "database_cpu_ms"))
    }
    labels = {float(at): kept.run.commit for at, kept in enumerate(runs)}
    title = "CPU ms a chat, 0 ms provider, 32 connections"
    plot.write(DOCS / "cpu-per-commit.png", title, lines, labels, log=False)


def plot_growth(kept: Kept) -> None:
    """Plot what a chat and each page cost by size."""
    for case, file in GROWTH_PLOTS.items():
        lines: dict[str, list[tuple[float, float]]] = {}
        for one in kept.like(case, "* cpu_ms"):
            if one.size is not None:
                name = one.name.removesuffix(" cpu_ms").removeprefix("page ")
                lines.setdefault(name, []).append((float(one.size), one.value))
        labels = {x: f"{x:,.0f}" for line in lines.values() for x, _ in line}
        plot.write(DOCS / file, f"CPU ms by {case}", lines, labels, log=True)


if __name__ == "__main__":
    draw()
