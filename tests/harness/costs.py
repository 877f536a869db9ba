"""What processes cost: memory, now and at its peak, and CPU."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import psutil
import psycopg


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


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the CPU that living processes have used so far."""
    total = 0.0
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            times = psutil.Process(pid).cpu_times()
            total += times.user + times.system
    return total


def tree_of(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def resident_bytes(pids: Sequence[int]) -> int:
    return sum(psutil.Process(pid).memory_info().rss for pid in pids)


def backend_cpu_seconds(url: str) -> float:
    """Return the CPU of a PostgreSQL database's backends, or 0 for another database."""
    if not url.startswith("postgres"):
        return 0.0
    return sum(single_cpu_seconds(pid) for pid in backend_pids(url))


def single_cpu_seconds(pid: int) -> float:
    """Return the CPU used so far by a process with one thread; 0 if it has ended.

    To the nanosecond if the kernel reports it, else in its ticks of a hundredth of a second.
    https://docs.kernel.org/scheduler/sched-stats.html
    """
    with suppress(OSError, ValueError):
        used = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
        if used:
            return used / 1e9
    return cpu_seconds([pid])


def backend_pids(url: str) -> list[int]:
    statement = (
        "SELECT pid FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        return [cast(int, pid) for (pid,) in connection.execute(statement).fetchall()]
