"""How much memory a process uses, now and at its peak."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from acceptance.processes import wait_until


@dataclass(slots=True)
class Growth:
    """How much a process grew at its peak, in MiB."""

    mib: float = 0.0


def kib_of(pid: int, name: str) -> int:
    """Return a figure from /proc/PID/status: VmRSS is the current one, VmHWM the peak."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"{name}:\s+(\d+) kB", text)
    assert found, text
    return int(found[1])


@contextmanager
def measured(pid: int) -> Iterator[Growth]:
    """Measure how much a process grows during the block."""
    growth = Growth()
    # Resets the peak to the current resident size (proc(5), clear_refs).
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = kib_of(pid, "VmRSS")
    yield growth
    growth.mib = max(0, kib_of(pid, "VmHWM") - before) / 1024


def count_in_log(log: Path, text: str, expected: int, seconds: float = 5) -> int:
    """Return how many lines of a log contain a text, waiting for the expected number."""
    with_text: list[str] = []

    def is_there() -> bool:
        with_text[:] = [line for line in log.read_text().splitlines() if text in line]
        return len(with_text) >= expected

    with suppress(TimeoutError):
        wait_until(is_there, seconds=seconds, what=text)
    return len(with_text)
