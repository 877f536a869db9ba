"""The chat under load: what the gateway costs, and what it adds to a direct call.

Everything shares one machine. So each round runs every case once, a direct call and one through the
gateway right after it. Only differences and medians over the rounds are reported.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench import micro, page, record
from bench.figures import RoundLog, percentile, progress
from bench.load import Figures, Plan
from bench.record import Figure, Kept, middle
from bench.stand import Stand, prompt_of, run_load
from tests.harness.costs import backend_cpu_seconds, cpu_seconds, resident_bytes, tree_of
from tests.harness.processes import BASE_DIR
from tests.harness.rig import Server

WORKERS = 2
THREADS = 64
MESSAGE = micro.MESSAGE
MODEL = "bench-model"
# About what the gateway sends upstream: the prompt, one and a half earlier turns, the message.
DIRECT_PROMPT_CHARACTERS = 8_500


@dataclass(frozen=True, slots=True)
class Case:
    """How slow the provider is, and how many callers ask at once."""

    name: str
    latency_ms: int
    connections: int
    is_stream: bool = False


CASES = (
    Case("0 ms, c=8", 0, 8),
    Case("0 ms, c=32", 0, 32),
    Case("50 ms, c=8", 50, 8),
    Case("50 ms, c=32", 50, 32),
    Case("streams, c=32", 50, 32, is_stream=True),
)


@dataclass(frozen=True, slots=True)
class Length:
    """How long to measure."""

    rounds: int
    seconds: float
    direct_seconds: float


FULL = Length(rounds=5, seconds=4.0, direct_seconds=1.5)
QUICK = Length(rounds=3, seconds=1.4, direct_seconds=0.6)

Round = dict[str, Any]
# The figures kept of each case, and those of streams in addition.
FIGURES = (
    *("rps", "cpu_ms", "database_cpu_ms", "added_p50_ms", "added_p99_ms"),
    *("direct_p50_ms", "direct_p99_ms", "rss_mb"),
)
RELAY = ("relay_p50_ms", "relay_p99_ms")


def completion_body(*, is_stream: bool = False) -> str:
    """Return a chat completion request as large as what the gateway sends upstream."""
    messages = [
        {"role": "system", "content": prompt_of(DIRECT_PROMPT_CHARACTERS)},
        {"role": "user", "content": MESSAGE},
    ]
    body: dict[str, Any] = {"model": MODEL, "messages": messages, "max_tokens": 1000}
    if is_stream:
        body["stream"] = True
    return json.dumps(body, separators=(",", ":"))


class Bench:
    """A running gateway beside a provider, and the rounds measured so far."""

    def __init__(self, stand: Stand, server: Server, length: Length, log: RoundLog) -> None:
        self.stand = stand
        self.server = server
        self.length = length
        self.log = log
        self.rounds: list[Round] = []

    def run(self) -> None:
        total = self.length.rounds * len(CASES)
        for number in range(self.length.rounds):
            for at, case in enumerate(CASES):
                done = number * len(CASES) + at
                progress(
                    f"round {number + 1} of {self.length.rounds}: {case.name} ({done}/{total})"
                )
                self.stand.provider.set_latency(case.latency_ms)
                measured = {"round": number, "case": case.name} | self.measure(case, number)
                self.rounds.append(measured)
                self.log.write(measured)
        progress("")

    def measure(self, case: Case, number: int) -> Round:
        """Ask the provider directly, then through the gateway."""
        direct = require_success(run_load(self.direct_plan(case)))
        pids = tree_of(self.server.running.pid)
        url = self.stand.rig.database.url
        cpu, database_cpu = cpu_seconds(pids), backend_cpu_seconds(url)
        through = require_success(run_load(self.plan(case, number)))
        count = sum(through.statuses.values())
        waits = (through.first_deltas, direct.first_deltas)
        if not case.is_stream:
            waits = (through.latencies, direct.latencies)
        return {
            "rps": through.requests / through.seconds,
            "cpu_ms": 1000 * (cpu_seconds(pids) - cpu) / count,
            "database_cpu_ms": 1000 * (backend_cpu_seconds(url) - database_cpu) / count,
            "p50_ms": percentile(waits[0], 50),
            "p99_ms": percentile(waits[0], 99),
            "direct_p50_ms": percentile(waits[1], 50),
            "direct_p99_ms": percentile(waits[1], 99),
            "added_p50_ms": percentile(waits[0], 50) - percentile(waits[1], 50),
            "added_p99_ms": percentile(waits[0], 99) - percentile(waits[1], 99),
            "relay_p50_ms": percentile(through.relays, 50),
            "relay_p99_ms": percentile(through.relays, 99),
            "direct_rps": direct.requests / direct.seconds,
            "load_cpu_ms": through.cpu_ms / count,
            "rss_mb": resident_bytes(pids) / 2**20,
            "requests": count,
        }

    def plan(self, case: Case, number: int) -> dict[str, Any]:
        return self.stand.plan(
            connections=case.connections,
            run=f"{number}-{CASES.index(case)}",
            message=MESSAGE,
            seconds=self.length.seconds,
            is_stream=case.is_stream,
        )

    def direct_plan(self, case: Case) -> dict[str, Any]:
        return self.stand.as_dict(
            Plan(
                port=self.stand.provider.port,
                connections=case.connections,
                seconds=self.length.seconds if case.is_stream else self.length.direct_seconds,
                path="/v1/chat/completions",
                keys=[],
                message="",
                run="",
                direct_body=completion_body(is_stream=case.is_stream),
                is_stream=case.is_stream,
            )
        )

    def of(self, case: Case, name: str) -> list[float]:
        """Return one figure of a case in all rounds."""
        return [float(one[name]) for one in self.rounds if one["case"] == case.name]


def require_success(measured: Figures) -> Figures:
    """Raise if any answer was not 200, because errors are cheap and would spoil the figures."""
    if set(measured.statuses) != {"200"} or not measured.requests:
        raise RuntimeError(f"not all answers are 200: {measured.statuses} {measured.errors}")
    return measured


# --- The figures --------------------------------------------------------------------------------


def digits_of(name: str) -> int:
    """Return how many decimals of a figure are kept."""
    return 0 if name.startswith(("rps", "rss")) else 2


def figures_of(bench: Bench, statements: float) -> Iterator[Figure]:
    """Yield the medians over the rounds."""
    for case in CASES:
        for name in FIGURES + RELAY * case.is_stream:
            yield middle(case.name, name, bench.of(case, name), digits_of(name))
    yield Figure("", "statements", round(statements, 1))


def method(bench: Bench) -> str:
    length, requests = bench.length, sum(int(one["requests"]) for one in bench.rounds)
    return (
        f"{length.rounds} rounds of {length.seconds:g} s, {WORKERS} workers of {THREADS} threads, "
        f"{requests:,} requests. Median (lowest to highest)."
    )


def statements_a_request(stand: Stand) -> float:
    """Count statements in one process, where every one is visible."""
    stops = micro.ask(stand, requests=80, number=999)["stops"]
    counts: Sequence[float] = [
        calls for name, (_, _, calls) in stops.items() if micro.is_statement(name)
    ]
    return sum(counts)


def run(length: Length, *, is_kept: bool) -> None:
    """Measure, print, and append to docs/data if `is_kept`."""
    log, begun = RoundLog("chat"), record.begin("chat")
    progress("setting up a database, a provider and a gateway")
    with Stand("pg") as stand:
        queries = statements_a_request(stand)
        server = stand.rig.start_server(workers=WORKERS, threads=THREADS)
        bench = Bench(stand, server, length, log)
        bench.run()
    kept = Kept(replace(begun, method=method(bench)), list(figures_of(bench, queries)))
    page.show(kept, is_kept=is_kept)
    print(f"All rounds: {log.path.relative_to(BASE_DIR)}")
