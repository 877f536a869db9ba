"""2,000 chats at once, each waiting 10 s for its provider: do all of them succeed?

    python -m bench.inflight [--quick]

Two processes, with only settings changed (docs/operations.md says which and why). History is read
all the while, as a widget's page would.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import Any

from bench import page, record, targets
from bench.chat import MESSAGE
from bench.figures import RoundLog, percentile, progress
from bench.load import Figures
from bench.record import Kept, Run, middle
from bench.stand import Stand, run_load
from tests.harness import clients
from tests.harness.costs import backend_cpu_seconds, cpu_seconds, resident_bytes, tree_of
from tests.harness.processes import BASE_DIR
from tests.harness.rig import Server

WORKERS = 2
ROUNDS = 5
WAIT_MS = 10_000
HISTORY_GAP_SECONDS = 0.1
FIRST_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Length:
    chats: int
    ramp_seconds: float
    seconds: float


FULL = Length(chats=2_000, ramp_seconds=12.0, seconds=30.0)
QUICK = Length(chats=400, ramp_seconds=11.0, seconds=14.0)


@dataclass(slots=True)
class Watcher:
    """Reads history and watches memory and threads until told to stop."""

    server: Server
    keys: list[str]
    history_ms: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    most_bytes: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def __enter__(self) -> Watcher:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stopping.set()
        self._thread.join()

    def _run(self) -> None:
        for number, key in enumerate(cycle(self.keys)):
            if self.stopping.wait(HISTORY_GAP_SECONDS):
                return
            self._read(f"/api/history?session_id=inflight-{number % 100}-0", key)
            if number % 5 == 0:
                memory = resident_bytes(tree_of(self.server.running.pid))
                self.most_bytes = max(self.most_bytes, memory)

    def _read(self, path: str, key: str) -> None:
        began = time.perf_counter()
        answer = clients.request(self.server.port, "GET", path, headers={"X-API-Key": key})
        self.history_ms.append(1000 * (time.perf_counter() - began))
        # Not every channel has every session. Both answers are a read by key and session.
        if answer.status not in {200, 404}:
            self.wrong.append(f"history {answer.status}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of a round."""

    length: Length
    through: Figures
    watcher: Watcher
    started_bytes: int
    idle_bytes: int
    cpu_ms: float
    database_cpu_ms: float

    @property
    def ideal(self) -> float:
        return self.length.chats / (WAIT_MS / 1000)

    @property
    def rate(self) -> float:
        return self.through.requests / self.through.seconds

    @property
    def mb_a_thousand(self) -> float:
        """Return the memory of the chats, beyond that of a server that is warm but idle."""
        return (self.watcher.most_bytes - self.idle_bytes) / 2**20 / (self.length.chats / 1000)

    @property
    def history_p95_ms(self) -> float:
        return percentile(self.watcher.history_ms, 95)

    def wrong(self) -> list[str]:
        """Return what must not happen in any round."""
        errors = {one: n for one, n in self.through.statuses.items() if one != "200"}
        return [
            words
            for words, is_so in {
                f"errors: {errors} {self.through.errors}": bool(errors or self.through.errors),
                f"history: {self.watcher.wrong[:3]}": bool(self.watcher.wrong),
            }.items()
            if is_so
        ]

    def as_dict(self) -> dict[str, Any]:
        return {
            "chats": self.length.chats,
            "requests": sum(self.through.statuses.values()),
            "statuses": self.through.statuses,
            "rate_of_ideal": round(self.rate / self.ideal, 4),
            "added_p50_ms": round(percentile(self.through.latencies, 50) - WAIT_MS, 1),
            "added_p99_ms": round(percentile(self.through.latencies, 99) - WAIT_MS, 1),
            "cpu_ms": round(self.cpu_ms, 2),
            "database_cpu_ms": round(self.database_cpu_ms, 2),
            "rss_mb": round(self.watcher.most_bytes / 2**20),
            "started_rss_mb": round(self.started_bytes / 2**20),
            "idle_rss_mb": round(self.idle_bytes / 2**20),
            "rss_mb_a_thousand": round(self.mb_a_thousand),
            "history_p95_ms": round(self.history_p95_ms, 1),
            "histories": len(self.watcher.history_ms),
        }


def settings(length: Length) -> dict[str, str]:
    """Return the settings of an installation for this many chats in flight."""
    # Half as many again as an even share, because connections do not spread evenly.
    calls = str(int(length.chats / WORKERS * 1.5))
    return {"PROVIDER_CALLS": calls, "PROVIDER_DEADLINE": "60"}


def measure(length: Length) -> Outcome:
    with Stand("pg", settings(length)) as stand:
        server = stand.rig.start_server(workers=WORKERS, threads=64)
        pids, url = tree_of(server.running.pid), stand.rig.database.url
        started = resident_bytes(pids)
        # The first requests load some things once. That is not the memory of a chat in flight.
        run_load(stand.plan(connections=8, run="first", message=MESSAGE, seconds=FIRST_SECONDS))
        idle = resident_bytes(pids)
        stand.provider.set_latency(WAIT_MS)
        plan = stand.plan(
            connections=length.chats,
            run="inflight",
            message=MESSAGE,
            seconds=length.seconds,
            warm_up_seconds=length.ramp_seconds,
        )
        cpu, database_cpu = cpu_seconds(pids), backend_cpu_seconds(url)
        with Watcher(server, stand.keys) as watcher:
            through = run_load(plan)
        count = sum(through.statuses.values())
        return Outcome(
            length=length,
            through=through,
            watcher=watcher,
            started_bytes=started,
            idle_bytes=idle,
            cpu_ms=1000 * (cpu_seconds(pids) - cpu) / count,
            database_cpu_ms=1000 * (backend_cpu_seconds(url) - database_cpu) / count,
        )


def problems(outcomes: Sequence[Outcome]) -> list[str]:
    """Return what went wrong in any round."""
    return [words for one in outcomes for words in one.wrong()]


# What is kept of `as_dict`, with the number of decimals.
KEPT = {
    "rate_of_ideal": 3,
    "added_p50_ms": 1,
    "added_p99_ms": 0,
    "cpu_ms": 2,
    "database_cpu_ms": 2,
    "started_rss_mb": 0,
    "idle_rss_mb": 0,
    "rss_mb": 0,
    "rss_mb_a_thousand": 0,
    "history_p95_ms": 1,
}


def kept_of(run: Run, outcomes: Sequence[Outcome]) -> Kept:
    """Return the run with its method, and the medians over the rounds."""
    told = [one.as_dict() for one in outcomes]
    rounds = f"{len(told)} round{'s' * (len(told) > 1)}"
    method = (
        f"{told[0]['chats']:,} chats of 10 s at once, {WORKERS} processes of 64 threads, "
        f"{sum(one['requests'] for one in told):,} chats and "
        f"{sum(one['histories'] for one in told):,} reads of history in {rounds}; "
        f"median (lowest to highest)."
    )
    found = [middle("", name, [one[name] for one in told], n) for name, n in KEPT.items()]
    return Kept(replace(run, method=method), found)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.inflight")
    parser.add_argument("--quick", action="store_true", help="one round of 400 chats; printed only")
    is_quick = parser.parse_args().quick
    run, log = record.begin("inflight"), RoundLog("inflight")
    outcomes = []
    for number in range(1 if is_quick else ROUNDS):
        progress(f"round {number + 1} of {1 if is_quick else ROUNDS}, about a minute each")
        outcomes.append(measure(QUICK if is_quick else FULL))
        log.write(outcomes[-1].as_dict() | {"load": os.getloadavg()[0]})
    progress("")
    wrong, kept = problems(outcomes), kept_of(run, outcomes)
    for words in wrong:
        print(f"- WRONG: {words}")
    # Errors are cheap, so figures with errors are not kept.
    page.show(kept, is_kept=not is_quick and not wrong)
    print(f"All rounds: {log.path.relative_to(BASE_DIR)}")
    return 1 if wrong or targets.missed(kept) else 0


if __name__ == "__main__":
    sys.exit(main())
