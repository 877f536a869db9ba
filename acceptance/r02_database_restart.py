"""R2: PostgreSQL dies and returns under load. Some get 503, and each turn is whole or absent.

A message whose COMMIT was lost with its connection is answered 503. It is either stored and
charged, or neither. A session whose message was lost may stay leased until the lease ends, so its
caller goes on in a new session.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

import psycopg

from acceptance.b06_kill import expect_no_half_turns
from acceptance.checks import Run
from acceptance.rig import Rig
from tests.harness.clients import Answer, Client, tally
from tests.harness.databases import Row, value
from tests.harness.own_postgres import OwnPostgres, own_postgres
from tests.harness.processes import wait_until
from tests.harness.rig import CREDIT, ChannelKeys, Server

RESTARTS, RESTARTS_SHORT = 5, 2
PER_SECOND = 50
SESSIONS = 100
LATENCY_MS = (100, 300)
# Enough that the pace is kept while nothing is answered.
CLIENTS = 400
READY_SECONDS = 5.0
# For a message that normally takes 0.3 s at most.
NORMAL_SECONDS = 2.0
# All processes together keep at most 32.
CONNECTIONS = 40
# Long enough that a caller who keeps asking the server for connections has slowed down.
TAKEN_SECONDS = 8.0
CALM_SECONDS = 0.5


def check(run: Run) -> None:
    settings = {"max_connections": str(CONNECTIONS)}
    with own_postgres(run.folder / "postgres.log", settings) as database:
        run.workshop.migrate(database)
        with run.rig(database=database) as rig:
            server = rig.start_server()
            channel = rig.create_channel(microcredits=10**5 * CREDIT)
            scene = Scene(run, rig, database, server, Load(run.seed, server.client(channel)))
            workers = server.worker_pids()
            with scene.load.going_on():
                for number in range(run.count(RESTARTS, short=RESTARTS_SHORT)):
                    restart(scene, f"restart {number + 1}")
                take_all_connections(scene)
            run.report.expect_equal("workers", server.worker_pids(), workers)
            expect_good_answers(scene)
            expect_exact_books(scene, channel)
            expect_no_half_turns(run, rig)


# --- Load ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sent:
    """A message and its answer."""

    message: str
    session: str
    answer: Answer

    @property
    def turn(self) -> tuple[str, str]:
        return self.message, self.session

    @property
    def is_normal(self) -> bool:
        return self.answer.status == 200 and self.answer.seconds <= NORMAL_SECONDS


@dataclass(slots=True)
class Load:
    """Messages at a steady pace. Each session sends one after the other."""

    seed: int
    client: Client
    sent: list[Sent] = field(default_factory=list)
    _sessions: deque[str] = field(default_factory=deque)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Send during the block, then wait for the last answer."""
        self._sessions.extend(f"session {number}" for number in range(SESSIONS))
        stop = threading.Event()
        with ThreadPoolExecutor(CLIENTS) as pool, ThreadPoolExecutor(1) as pacer:
            pacing = pacer.submit(self._send_steadily, pool, stop)
            try:
                yield
            finally:
                stop.set()
            self.sent = [future.result() for future in pacing.result()]

    def _send_steadily(self, pool: ThreadPoolExecutor, stop: threading.Event) -> list[Future[Sent]]:
        random, started = Random(self.seed), time.monotonic()
        futures: list[Future[Sent]] = []
        for number in itertools.count():
            if stop.wait(max(0.0, started + number / PER_SECOND - time.monotonic())):
                break
            message = f"latency:{random.randint(*LATENCY_MS)} message {number}"
            futures.append(pool.submit(self._send, message, f"another session {number}"))
        return futures

    def _send(self, message: str, new_session: str) -> Sent:
        try:
            session = self._sessions.popleft()
        except IndexError:  # all others are in use or were lost
            session = new_session
        answer = self.client.chat(message, session)
        if answer.status == 200:
            self._sessions.append(session)
        return Sent(message, session, answer)


# --- What is done to the database ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outage:
    """When the database went down, and when it accepted connections again."""

    name: str
    began: float
    ended: float


@dataclass(slots=True)
class Scene:
    """A gateway under load, and a database that goes down and returns."""

    run: Run
    rig: Rig
    database: OwnPostgres
    server: Server
    load: Load
    outages: list[Outage] = field(default_factory=list)

    @contextmanager
    def outage(self, name: str) -> Iterator[None]:
        """Record when the block begins and ends. Then the gateway must become ready and stay so."""
        time.sleep(CALM_SECONDS + self.run.random.random() * 0.5)
        in_flight = self.rig.mock.stats()["in_flight"]
        self.run.report.expect(in_flight, f"{name}: no call was in flight")
        began = time.monotonic()
        yield
        ended = time.monotonic()
        self.outages.append(Outage(name, began, ended))
        ready = wait_until(self.server.is_ready, seconds=60, what=f"{name}: ready again")
        self.run.report.figure(f"{name}: ready after_s", ready)
        self.run.report.expect(ready <= READY_SECONDS, f"{name}: ready only after {ready:.1f} s")
        time.sleep(max(0.0, ended + READY_SECONDS + CALM_SECONDS - time.monotonic()))


def restart(scene: Scene, name: str) -> None:
    with scene.outage(name):
        scene.database.stop_immediately()
        scene.database.start()


def take_all_connections(scene: Scene) -> None:
    """Leave the gateway without connections for a while, then free them."""
    with scene.outage("all connections taken"), ExitStack() as taken:
        ours: list[psycopg.Connection[Row]] = []
        took = wait_until(
            lambda: take_connections(scene.database, ours, taken),
            seconds=15,
            what="all connections taken",
        )
        scene.run.report.figure("all connections taken after_s", took)
        time.sleep(TAKEN_SECONDS)


def take_connections(
    database: OwnPostgres, ours: list[psycopg.Connection[Row]], taken: ExitStack
) -> bool:
    """End all other connections and take every free one. Returns whether all are ours."""
    if not ours:
        ours.append(taken.enter_context(closing(database.connect())))
    others = "backend_type = 'client backend' AND pid <> ALL(%s)"
    pids = [connection.info.backend_pid for connection in ours]
    ours[0].execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}", [pids]
    )
    with suppress(psycopg.OperationalError):
        while True:
            ours.append(taken.enter_context(closing(database.connect())))
    return len(ours) >= CONNECTIONS


# --- What must be true afterwards ---------------------------------------------------------------


def expect_good_answers(scene: Scene) -> None:
    """Expect 200, or 503 with Retry-After, and only 200 once the database is back."""
    report, sent = scene.run.report, scene.load.sent
    answers = [one.answer for one in sent]
    report.figure("answers", tally(answers))
    strange = [a for a in answers if a.status not in (200, 503)]
    report.expect(not strange, f"answers: {tally(strange)}, {[a.body[:200] for a in strange[:3]]}")
    refused = [a for a in answers if a.status == 503]
    silent = [a for a in refused if "retry-after" not in a.headers]
    report.expect(not silent, f"{len(silent)} of {len(refused)} 503 have no Retry-After")
    nexts = [outage.began for outage in scene.outages[1:]] + [float("inf")]
    for outage, following in zip(scene.outages, nexts, strict=True):
        expect_recovered(scene, outage, following)


def expect_recovered(scene: Scene, outage: Outage, following: float) -> None:
    """Expect that callers noticed the outage, and that a while after it all were answered."""
    report, name = scene.run.report, outage.name
    sent = [one for one in scene.load.sent if one.answer.ended < following]
    felt = sum(one.answer.status != 200 and one.answer.ended >= outage.began for one in sent)
    after = [one for one in sent if one.answer.started >= outage.ended]
    late = [one.answer.started - outage.ended for one in after if not one.is_normal]
    normal = max(late, default=0.0)
    report.figure(f"{name}: refused", felt)
    report.figure(f"{name}: normal after_s", normal)
    report.expect(felt, f"{name}: nobody was refused")
    report.expect(after, f"{name}: nobody asked afterwards")
    report.expect(normal <= READY_SECONDS, f"{name}: normal only after {normal:.1f} s")


TURNS = """
SELECT asked.content, s.session_id, reply.id FROM conversations_message asked
JOIN conversations_message reply
  ON reply.session_id = asked.session_id AND reply.position = asked.position + 1
JOIN conversations_chatsession s ON s.id = asked.session_id
WHERE asked.role = 'user' AND s.channel_id = %s
"""
CHARGES = "SELECT hold_id FROM billing_ledgerentry WHERE kind = 'charge' AND credit_account_id = %s"

OPEN_HOLDS = "SELECT COUNT(*) FROM billing_hold WHERE state = 'held'"


def expect_exact_books(scene: Scene, channel: ChannelKeys) -> None:
    """Expect one turn and one charge for each 200, and that all else is both stored and charged."""
    report = scene.run.report
    turns: defaultdict[tuple[str, str], list[UUID]] = defaultdict(list)
    for message, session, reply_id in scene.database.rows(TURNS, [channel.channel_id]):
        turns[message, session].append(reply_id)
    replies = Counter(reply_id for ids in turns.values() for reply_id in ids)
    charges = Counter(hold_id for (hold_id,) in scene.database.rows(CHARGES, [channel.account_id]))
    report.expect(replies == charges, f"turns that are not charges: {differing(replies, charges)}")
    report.expect_equal("charged twice", [i for i, count in charges.items() if count > 1], [])
    report.expect_equal("turns stored twice", [m for m, ids in turns.items() if len(ids) > 1], [])
    successes = [one for one in scene.load.sent if one.answer.status == 200]
    answered = {one.turn: UUID(one.answer.json["message_id"]) for one in successes}
    lost = [turn for turn, reply_id in answered.items() if turns[turn] != [reply_id]]
    report.expect(not lost, f"{len(lost)} answered 200 and not stored once: {lost[:5]}")
    strange = set(turns) - {one.turn for one in scene.load.sent}
    report.expect_equal("stored and never sent", strange, set())
    report.figure("stored though answered 503", len(charges) - len(answered))
    report.figure("holds left to end by themselves", value(scene.database, OPEN_HOLDS))


def differing(replies: Counter[UUID], charges: Counter[UUID]) -> str:
    """Return the number of ids on only one side, and the first of them."""
    turns, paid = sorted(replies - charges), sorted(charges - replies)
    return f"{len(turns)} not charged {turns[:3]}, {len(paid)} without a turn {paid[:3]}"
