"""R3: while a provider takes its time, nothing else waits: connection, reader, probe, channel.

One process, because the connection pool and the call gate belong to a process. So it is known
exactly which call is over the cap. The promise's 50 ms for refusals and probes is judged by their
median, because a busy machine delays some of everything; their p95 is reported too. History is
judged by its p95.
"""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

import psycopg

from acceptance.checks import Run
from acceptance.rig import Rig
from tests.harness.clients import CHAT, Answer, Client, by_threads, request, tally
from tests.harness.databases import Postgres, Row
from tests.harness.processes import wait_until
from tests.harness.rig import CREDIT, Server, Wanted

CALLS = 200
# What each of two channels of one account asks for, and what it gets: half of the account's half.
FLOOD = 60
QUARTER = CALLS // 4
HALF = CALLS // 2
POOL = 20
# More than the pool has connections, so that the pool is what limits them.
THREADS = 32
SECONDS, SECONDS_SHORT = 30, 8
# The mock sends a stream in this many pieces, spread over the call.
PIECES = 20
# All calls must be in flight for at least this long. Otherwise the machine was too slow to tell.
LEAST_SECONDS = 2.0
SESSIONS = 64
WARMING_CLIENTS = 16
READERS = 4
LEAST_ANSWERS = 10
PAUSE_SECONDS = 0.1
IDLE_MS = 100
SAMPLES_PER_SECOND = 100
HISTORY_SECONDS = 0.2
AT_ONCE_SECONDS = 0.05


def check(run: Run) -> None:
    settings = {"DATABASE_POOL_SIZE": str(POOL), "PROVIDER_CALLS": str(CALLS)}
    with run.rig(settings) as rig:
        assert isinstance(rig.database, Postgres)
        server = rig.start_server(workers=1, threads=THREADS)
        scene = make_scene(run, rig, server)
        # The first requests of a process, and the first statements of a connection, are slower.
        warm = [partial(scene.reader.chat, "hello", session(n)) for n in range(4 * SESSIONS)]
        by_threads(WARMING_CLIENTS, warm)
        # Now only the gateway uses the database, so everything found belongs to it.
        with sampled(run, rig.database):
            send_slow_calls(scene)
    with run.rig(settings) as rig:
        let_the_only_account_have_all(run, rig, rig.start_server(workers=1, threads=THREADS))


def session(number: int) -> str:
    return f"session {number % SESSIONS}"


@dataclass(frozen=True, slots=True)
class Scene:
    """One gateway process, three accounts, and calls that take `seconds`."""

    run: Run
    rig: Rig
    server: Server
    seconds: float
    reader: Client
    flooding: Sequence[Client]
    others: Sequence[Client]

    def ask_slowly(self, client: Client, name: str, number: int) -> Answer:
        """Make a slow call. Every second one is a stream that drips."""
        is_stream = number % 2 == 1
        milliseconds = int(self.seconds * 1000)
        drips = f"gap:{milliseconds // PIECES} size:{20 * PIECES}"
        order = drips if is_stream else f"latency:{milliseconds}"
        return client.ask(CHAT, f"{order} {name} {number}", f"{name} {number}", stream=is_stream)

    def wait_for_calls(self, count: int) -> None:
        wait_until(
            lambda: self.rig.mock.stats()["in_flight"] == count,
            seconds=self.seconds,
            what=f"exactly {count} calls in flight",
        )


def make_scene(run: Run, rig: Rig, server: Server) -> Scene:
    names = ("reader", "flooding", "flooding", "other", "other")
    wanted = [Wanted(f"{name}@example.com", 10**4 * CREDIT) for name in names]
    reader, *clients = map(server.client, rig.create_channels(wanted))
    return Scene(run, rig, server, seconds_of(run), reader, clients[:2], clients[2:])


def seconds_of(run: Run) -> float:
    return SECONDS if run.is_long else SECONDS_SHORT


# --- The calls ----------------------------------------------------------------------------------


def send_slow_calls(scene: Scene) -> None:
    """Let one account flood the gateway and another take the rest. Look while all are waiting."""
    with ThreadPoolExecutor(2 * FLOOD + HALF) as pool:
        started = time.monotonic()
        # First one channel of the account, which leaves room for the other.
        flood = [send(scene, pool, scene.flooding[0], "flood", FLOOD)]
        scene.wait_for_calls(QUARTER)
        flood.append(send(scene, pool, scene.flooding[1], "flood too", FLOOD))
        scene.wait_for_calls(HALF)
        others = [send(scene, pool, client, "other", QUARTER) for client in scene.others]
        scene.wait_for_calls(CALLS)
        # The first call began later than `started`, so none has ended before this time.
        look_around(scene, started + scene.seconds)
    for name, sent in zip(("flood", "flood too"), flood, strict=True):
        expect_share(scene.run, name, [f.result() for f in sent], QUARTER)
    for sent in others:
        expect_share(scene.run, "another account", [f.result() for f in sent], QUARTER)


def send(
    scene: Scene, pool: ThreadPoolExecutor, client: Client, name: str, count: int
) -> list[Future[Answer]]:
    ask = partial(scene.ask_slowly, client, name)
    return [pool.submit(ask, number) for number in range(count)]


def expect_share(run: Run, name: str, answers: list[Answer], share: int) -> None:
    """Expect that exactly `share` calls were answered, and the rest refused at once."""
    refused = [answer for answer in answers if not answer.is_success]
    run.report.figure(name, tally(answers))
    expected = {"503 overloaded": len(answers) - share} if len(answers) > share else {}
    run.report.expect_equal(f"{name}: refused", tally(refused), expected)
    expect_retry_after(run, name, refused)


def let_the_only_account_have_all(run: Run, rig: Rig, server: Server) -> None:
    """Expect that an only account may use everything, and a channel half of it."""
    wanted = [Wanted("only@example.com", 10**4 * CREDIT)] * 2
    clients = list(map(server.client, rig.create_channels(wanted)))
    scene = Scene(run, rig, server, seconds_of(run), clients[0], clients, ())
    more = HALF + HALF // 10
    with ThreadPoolExecutor(2 * more) as pool:
        sent = [send(scene, pool, client, "only", more) for client in clients]
        scene.wait_for_calls(CALLS)
    for futures in sent:
        expect_share(run, "the only account", [f.result() for f in futures], HALF)


def expect_retry_after(run: Run, name: str, refused: list[Answer]) -> None:
    silent = sum("retry-after" not in answer.headers for answer in refused)
    run.report.expect(not silent, f"{name}: {silent} of {len(refused)} 503 have no Retry-After")


# --- What others see meanwhile ------------------------------------------------------------------


def look_around(scene: Scene, until: float) -> None:
    """Until the first call can have ended: read history, ask for one more call, and probe."""
    report, reader, left = scene.run.report, scene.reader, until - time.monotonic()
    report.figure("all in flight for_s", left)
    report.expect(left >= LEAST_SECONDS, f"all were in flight for only {left:.1f} s")
    repeat = partial(repeatedly, until)
    with ThreadPoolExecutor(READERS + 2) as pool:
        histories = [pool.submit(repeat, partial(read_history, reader)) for _ in range(READERS)]
        refusals = pool.submit(repeat, lambda _: reader.chat("one more", session(0)))
        probes = pool.submit(repeat, lambda _: request(scene.server.port, "GET", "/healthz"))
    read = [answer for future in histories for answer in future.result()]
    expect_quick(scene.run, "history", 200, read, p95=HISTORY_SECONDS)
    expect_quick(scene.run, "past the cap", 503, refusals.result(), median=AT_ONCE_SECONDS)
    expect_retry_after(scene.run, "past the cap", refusals.result())
    expect_quick(scene.run, "healthz", 200, probes.result(), median=AT_ONCE_SECONDS)


def repeatedly(until: float, ask: Callable[[int], Answer]) -> list[Answer]:
    """Ask again and again, with a pause between. Only answers that ended in time count."""
    answers: list[Answer] = []
    while time.monotonic() < until:
        answers.append(ask(len(answers)))
        time.sleep(PAUSE_SECONDS)
    return [answer for answer in answers if answer.ended < until]


def read_history(reader: Client, number: int) -> Answer:
    return reader.get(f"/api/history?session_id={quote(session(number))}")


def expect_quick(
    run: Run,
    name: str,
    status: int,
    answers: list[Answer],
    *,
    median: float = math.inf,
    p95: float = math.inf,
) -> None:
    """Expect answers of one status, within this many seconds."""
    run.report.expect_equal(f"{name}: statuses", {a.status for a in answers}, {status})
    seconds = sorted(answer.seconds for answer in answers)
    if len(seconds) < LEAST_ANSWERS:
        run.report.expect(False, f"{name}: only {len(seconds)} answers")
        return
    *_, at_95 = statistics.quantiles(seconds, n=20)
    at_50 = statistics.median(seconds)
    run.report.figure(
        f"{name}: p50, p95 of {len(seconds)}_ms", f"{at_50 * 1000:.0f}, {at_95 * 1000:.0f}"
    )
    run.report.expect(at_50 <= median, f"{name}: half took more than {at_50 * 1000:.0f} ms")
    run.report.expect(at_95 <= p95, f"{name}: one in twenty took more than {at_95 * 1000:.0f} ms")


# --- What the database sees ---------------------------------------------------------------------

# Now, at the moment of the query, not when the statement began.
LOOK = """
SELECT state LIKE 'idle in transaction%%', query,
       EXTRACT(EPOCH FROM clock_timestamp() - state_change) * 1000
FROM pg_stat_activity
WHERE datname = %s AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


@dataclass(slots=True)
class Samples:
    """How many connections the gateway had, and the longest time one sat idle in a transaction."""

    count: int = 0
    most_connections: int = 0
    idle_ms: float = 0.0
    idle_after: str = ""

    def take(self, connection: psycopg.Connection[Row], name: str) -> None:
        sessions = connection.execute(LOOK, [name]).fetchall()
        self.count += 1
        self.most_connections = max(self.most_connections, len(sessions))
        for is_idle, query, milliseconds in sessions:
            if is_idle and milliseconds > self.idle_ms:
                self.idle_ms, self.idle_after = float(milliseconds), query

    def judge(self, run: Run) -> None:
        run.report.figure("samples", self.count)
        run.report.figure("connections at most", self.most_connections)
        run.report.figure("idle in transaction at most_ms", round(self.idle_ms))
        run.report.expect(self.most_connections <= POOL, f"{self.most_connections} connections")
        words = f"idle in transaction for {self.idle_ms:.0f} ms after {self.idle_after[:200]}"
        run.report.expect(self.idle_ms <= IDLE_MS, words)


@contextmanager
def sampled(run: Run, database: Postgres) -> Iterator[None]:
    """Sample the database's sessions a hundred times a second in the block, then judge them."""
    samples, stop = Samples(), threading.Event()

    def sample() -> None:
        with closing(database.connect()) as connection:
            while not stop.wait(1 / SAMPLES_PER_SECOND):
                samples.take(connection, database.name)

    with ThreadPoolExecutor(1) as pool:
        sampling = pool.submit(sample)
        try:
            yield
        finally:
            stop.set()
            sampling.result()
            samples.judge(run)
