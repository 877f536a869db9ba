"""The chat beside two other gateways, in turns: what a request costs each of them.

    python -m bench --peers [--quick]

All are up at once, and one is loaded at a time. Each peer's turn follows one of ours, and only
those two are compared, so that a drift of the machine affects both alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench import chat, page, peer_servers, record
from bench.chat import Length, Round, require_success
from bench.figures import RoundLog, percentile, progress
from bench.load import Plan
from bench.peer_servers import LITELLM, LITELLM_WORKERS, PORTKEY, Launch
from bench.record import Figure, Kept, middle
from bench.stand import Stand, run_load
from tests.harness.costs import backend_cpu_seconds, cpu_seconds, resident_bytes, tree_of
from tests.harness.processes import BASE_DIR, Running
from tests.harness.rig import Server

CONNECTIONS = 32
GATEWAY = "gateway"
FIGURES = ("rps", "cpu_ms", "database_cpu_ms", "p50_ms", "p99_ms", "rss_mb")
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


# --- The figures --------------------------------------------------------------------------------


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


SERVERS = {
    GATEWAY: f"gateway, {chat.WORKERS} workers of {chat.THREADS} threads",
    LITELLM: f"LiteLLM {peer_servers.LITELLM_VERSION}, {LITELLM_WORKERS} workers",
    PORTKEY: f"Portkey {peer_servers.PORTKEY_VERSION}, 1 process",
}


def figures_of(rounds: Sequence[Mapping[str, Any]]) -> Iterator[Figure]:
    """Yield the medians over the rounds, and the ratios of turns that belong together."""
    for name in SERVERS:
        for figure in FIGURES:
            values = of(rounds, name, figure)
            if any(values):
                yield middle(name, figure, values, chat.digits_of(figure))
        if name != GATEWAY:
            yield middle(name, "cpu_ratio", ratios(rounds, name))
    yield Figure("", "others_cores", round(max(float(one["others_cores"]) for one in rounds), 2))


def method(rounds: Sequence[Mapping[str, Any]], length: Length) -> str:
    requests = sum(int(one["requests"]) for one in rounds)
    return (
        f"{length.rounds} rounds of {length.seconds:g} s a turn: gateway, LiteLLM, gateway, "
        f"Portkey; 0 ms, c={CONNECTIONS}, {requests:,} requests. Median (lowest to highest). "
        f"{'; '.join(SERVERS.values())}."
    )


def run(length: Length, *, is_kept: bool) -> None:
    """Measure, print, and append to docs/data if `is_kept`."""
    # Before anything runs: installing is a load too.
    begun = record.begin("peers")
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
    rounds = turns.rounds
    kept = Kept(replace(begun, method=method(rounds, length)), list(figures_of(rounds)))
    page.show(kept, is_kept=is_kept)
    print(f"All rounds: {log.path.relative_to(BASE_DIR)}")
