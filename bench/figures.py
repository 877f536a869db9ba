"""Medians and their spread, on a machine that is shared and drifts."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg

from tests.harness.databases import POSTGRES_SERVER
from tests.harness.processes import BASE_DIR

RESULTS_DIR = BASE_DIR / "var" / "bench"


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile, or 0.0 without values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    rank = -int(-len(ordered) * percent // 100)
    return ordered[max(0, min(len(ordered), rank) - 1)]


def commit() -> str:
    """Return the checkout's short commit, with a + if files differ from it."""
    try:
        head = short("HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "no commit"
    return f"{head}+" if changed else head


def short(name: str) -> str:
    """Return the short id of a commit, by any name that git knows."""
    return _git("rev-parse", "--short", name)


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=BASE_DIR, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def machine() -> str:
    """Return a description of the machine, on which the figures depend most."""
    memory_gib = psutil.virtual_memory().total / 2**30
    python = platform.python_version()
    parts = [f"{os.cpu_count()} x {processor()}", f"{memory_gib:.0f} GiB", f"Python {python}"]
    return ", ".join(parts + postgres())


def postgres() -> list[str]:
    """Return PostgreSQL's version, if its server answers."""
    try:
        with psycopg.connect(POSTGRES_SERVER, connect_timeout=3) as connection:
            version = connection.info.server_version
    except psycopg.OperationalError:
        return []
    return [f"PostgreSQL {version // 10_000}.{version % 10_000}"]


def processor() -> str:
    with_name = [
        line.partition(":")[2].strip()
        for line in _lines(Path("/proc/cpuinfo"))
        if line.startswith("model name")
    ]
    return with_name[0] if with_name else platform.machine()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


class RoundLog:
    """Writes all rounds of a run to a file, as JSON lines."""

    def __init__(self, name: str) -> None:
        RESULTS_DIR.mkdir(parents=True, exist_ok=True)
        self.path = RESULTS_DIR / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{name}.jsonl"

    def write(self, figures: Mapping[str, Any]) -> None:
        with self.path.open("a") as lines:
            lines.write(json.dumps(figures) + "\n")


def progress(words: str) -> None:
    """Show the current step, on a terminal only. '' clears the line."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{words}", end="", file=sys.stderr, flush=True)
