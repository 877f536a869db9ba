"""The chat beside two other gateways, in turns: what a request costs each of them.

    python -m bench --peers [--quick]

All are up at once, and one is loaded at a time. Each peer's turn follows one of ours, and only
those two are compared, so that a drift of the machine affects both alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from acceptance.processes import BASE_DIR, Running
from acceptance.rig import Server
from bench import chat, figures, peer_servers
from bench.chat import REPORT, Length, Round, require_success
from bench.figures import RoundLog, percentile, progress, spread
from bench.load import Plan
from bench.peer_servers import LITELLM, LITELLM_WORKERS, PORTKEY, Launch
from bench.stand import (
    Stand,
    backend_cpu_seconds,
    cpu_seconds,
    resident_bytes,
    run_load,
    tree_of,
)

CONNECTIONS = 32
GATEWAY = "gateway"
# Our CPU a request, as a share of the peer's, may be at most this.
TARGETS = {LITELLM: 0.30, PORTKEY: 2.2}
AIMS = {PORTKEY: 1.0}
# Before the first round, because a just-in-time compiler needs this long.
WARM_UP_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Contender:
    """A running server, and the load for its turn of that name and length."""

    name: str
    pid: int
    plan: Callable[[str, float], dict[str, Any]]
    database_url: str = ""


def gateway(stand: Stand, server: Server) -> Contender:
    def plan(turn: str, seconds: float) -> dict[str, Any]:
        return stand.plan(connections=CONNECTIONS, run=turn, message=chat.MESSAGE, seconds=seconds)

    return Contender(GATEWAY, server.running.pid, plan, stand.rig.database.url)


def peer(launch: Launch, running: Running) -> Contender:
    def plan(_turn: str, seconds: float) -> dict[str, Any]:
        return Stand.as_dict(peer_plan(launch, seconds))

    return Contender(launch.name, running.pid, plan)


def peer_plan(launch: Launch, seconds: float) -> Plan:
    """Return the load of a peer: each request is what our gateway sends upstream."""
    return Plan(
        port=launch.port,
        connections=CONNECTIONS,
        seconds=seconds,
        path=peer_servers.PATH,
        keys=[],
        message="",
        run="",
        direct_body=chat.completion_body(),
        direct_headers=dict(launch.headers),
    )


class Turns:
    """Takes turns, and keeps the figures of finished ones."""

    def __init__(self, ours: Contender, peers: Sequence[Contender], log: RoundLog) -> None:
        self.ours = ours
        self.peers = peers
        self.log = log
        self.rounds: list[Round] = []

    def run(self, length: Length) -> None:
        for one in (self.ours, *self.peers):
            progress(f"warming up: {one.name}")
            self.take(one, "warm-up", WARM_UP_SECONDS)
        pairs = [(number, one) for number in range(length.rounds) for one in self.peers]
        for done, (number, against) in enumerate(pairs):
            for one in (self.ours, against):
                words = f"round {number + 1} of {length.rounds}: {one.name}"
                progress(f"{words} ({done}/{len(pairs)})")
                turn = {"round": number, "who": one.name, "against": against.name}
                turn |= self.take(one, f"{number}-{against.name}", length.seconds)
                self.rounds.append(turn)
                self.log.write(turn)
        progress("")

    def take(self, one: Contender, turn: str, seconds: float) -> Round:
        """Load one server, and measure what it and the resting ones use."""
        pids = tree_of(one.pid)
        others = [
            pid
            for other in (self.ours, *self.peers)
            if other is not one
            for pid in tree_of(other.pid)
        ]
        began = time.perf_counter()
        cpu, others_cpu = cpu_seconds(pids), cpu_seconds(others)
        database_cpu = backend_cpu_seconds(one.database_url)
        measured = require_success(run_load(one.plan(turn, seconds)))
        count = sum(measured.statuses.values())
        told = {
            "rps": measured.requests / measured.seconds,
            "cpu_ms": 1000 * (cpu_seconds(pids) - cpu) / count,
            "database_cpu_ms": 1000
            * (backend_cpu_seconds(one.database_url) - database_cpu)
            / count,
            "p50_ms": percentile(measured.latencies, 50),
            "p99_ms": percentile(measured.latencies, 99),
            "rss_mb": resident_bytes(pids) / 2**20,
            "others_cores": (cpu_seconds(others) - others_cpu) / (time.perf_counter() - began),
            "load_cpu_ms": measured.cpu_ms / count,
            "requests": count,
        }
        peer_servers.rest(one.pid)
        return told


# --- The report ---------------------------------------------------------------------------------


def ratios(rounds: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """Return our CPU a request as a share of a peer's, for each round, from adjacent turns."""
    turns = {
        (one["round"], one["who"]): float(one["cpu_ms"]) for one in rounds if one["against"] == name
    }
    return [
        turns[number, GATEWAY] / theirs for (number, who), theirs in turns.items() if who == name
    ]


def of(rounds: Sequence[Mapping[str, Any]], name: str, figure: str) -> list[float]:
    return [float(one[figure]) for one in rounds if one["who"] == name]


COLUMNS = {
    "requests/s": ("rps", 0),
    "CPU ms": ("cpu_ms", 2),
    "PostgreSQL CPU ms": ("database_cpu_ms", 2),
    "p50 ms": ("p50_ms", 1),
    "p99 ms": ("p99_ms", 1),
    "RSS MB": ("rss_mb", 0),
}


def table(rounds: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "| server | " + " | ".join(COLUMNS) + " |"
    yield "|---" * (len(COLUMNS) + 1) + "|"
    for name, words in SERVERS.items():
        cells = [cell(of(rounds, name, figure), digits) for figure, digits in COLUMNS.values()]
        yield f"| {words} | " + " | ".join(cells) + " |"


def cell(values: Sequence[float], digits: int) -> str:
    return spread(values, digits) if any(values) else ""


SERVERS = {
    GATEWAY: f"gateway, {chat.WORKERS} workers of {chat.THREADS} threads",
    LITELLM: f"LiteLLM {peer_servers.LITELLM_VERSION}, {LITELLM_WORKERS} workers",
    PORTKEY: f"Portkey {peer_servers.PORTKEY_VERSION}, 1 process",
}


def verdicts(rounds: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Return for each peer whether the median ratio meets its target."""
    for name, target in TARGETS.items():
        values = ratios(rounds, name)
        word = "met" if statistics.median(values) <= target else "MISSED"
        aim = f" (aim {AIMS[name]:g})" if name in AIMS else ""
        yield f"- gateway CPU to {name}'s: {spread(values)}, target {target:g}{aim}: {word}"


def report(
    rounds: Sequence[Mapping[str, Any]], length: Length, heading: str, other_load: str
) -> str:
    """Return a section for docs/performance.md."""
    requests = sum(int(one["requests"]) for one in rounds)
    others = max(float(one["others_cores"]) for one in rounds)
    lines = [
        f"## {heading}, beside other gateways (`make bench ARGS=--peers`)",
        "",
        f"{length.rounds} rounds of {length.seconds:g} s a turn: gateway, LiteLLM, gateway, "
        f"Portkey; 0 ms, c={CONNECTIONS}, {requests:,} requests. Median (lowest to highest). "
        f"{other_load}",
        "",
        *table(rounds),
        "",
        f"The servers whose turn it was not used {others:.2f} cores at most.",
        "",
        *verdicts(rounds),
    ]
    return "\n".join(lines) + "\n"


def run(length: Length, *, is_kept: bool) -> None:
    """Measure, print, and append to docs/performance.md if `is_kept`."""
    # Before anything runs: later the checkout may have changed, and installing is a load too.
    heading, other_load = figures.heading(), figures.other_load()
    peer_servers.install()
    log = RoundLog("peers")
    progress("setting up a database, a provider and a gateway")
    with Stand("pg") as stand:
        server = stand.rig.start_server(workers=chat.WORKERS, threads=chat.THREADS)
        url, folder = stand.provider.url, stand.logs
        launches = [
            peer_servers.litellm_launch(url, folder),
            peer_servers.portkey_launch(url, folder),
        ]
        with peer_servers.started(launches, folder) as running:
            peers = [peer(*one) for one in zip(launches, running, strict=True)]
            turns = Turns(gateway(stand, server), peers, log)
            turns.run(length)
    section = report(turns.rounds, length, heading, other_load)
    print(section)
    print(f"All rounds: {log.path.relative_to(BASE_DIR)}")
    if is_kept:
        with REPORT.open("a") as kept:
            kept.write(f"\n{section}")
