"""B6: kill -9 at any moment loses no credits, charges no lost call, and stores no half turns."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from acceptance.checks import Run
from acceptance.rig import Rig
from tests.harness.clients import Answer, Client, by_threads, tally
from tests.harness.databases import Postgres, value
from tests.harness.processes import wait_until
from tests.harness.rig import CREDIT, ChannelKeys, Server

DEADLINE = 20
SPENDABLE_SECONDS = 15
SERVING_SECONDS = 5
CALLS = 50
FEW = 8
# The parent gives up on workers that keep dying within their first second.
LIFE_SECONDS = 1.2
LONG_SECONDS = 120


def check(run: Run) -> None:
    with run.rig({"PROVIDER_DEADLINE": str(DEADLINE)}) as rig:
        server = rig.start_server()
        calls = run.count(CALLS)
        lost = rig.create_channel(owner="lost@example.com", microcredits=calls * CREDIT)
        admitted_at = kill_in_flight(run, rig, server, lost)
        due_at = admitted_at + DEADLINE + SPENDABLE_SECONDS
        kill_before_capture(run, rig, server)
        if isinstance(rig.database, Postgres):
            kill_during_commit(run, rig, server, rig.database)
        # The time until the lost holds expire is used for more kills.
        kill_at_random(run, rig, server, due_at - SPENDABLE_SECONDS + 5)
        expect_spendable(run, server.client(lost), calls, due_at)
        if run.is_long:
            kill_at_random(run, rig, server, time.monotonic() + LONG_SECONDS)
        expect_no_half_turns(run, rig)


@contextmanager
def started(client: Client, count: int, orders: str) -> Iterator[list[Future[Answer]]]:
    """Keep `count` calls in flight during the block. They have ended when it is left."""
    with ThreadPoolExecutor(count) as pool:
        yield [
            pool.submit(client.chat, f"{orders} call {n}", f"{orders} {n}") for n in range(count)
        ]


def kill_and_time(run: Run, server: Server, what: str) -> None:
    """kill -9 all workers, and expect the server to serve again soon."""
    server.kill_workers()
    killed_at = time.monotonic()
    wait_until(server.is_ready, seconds=30, what="serving again")
    seconds = time.monotonic() - killed_at
    run.report.figure(f"{what}: serving again_s", seconds)
    run.report.expect(seconds <= SERVING_SECONDS, f"{what}: serving only after {seconds:.1f} s")


def turns_of(rig: Rig, channel: ChannelKeys) -> tuple[int, int]:
    """Return how many messages a channel has stored, and how many charges its account has."""
    session = "SELECT id FROM conversations_chatsession WHERE channel_id = %s"
    channel_id = channel.channel_id
    if rig.database.kind == "sqlite":
        channel_id = channel_id.replace("-", "")
    messages = value(
        rig.database,
        f"SELECT COUNT(*) FROM conversations_message WHERE session_id IN ({session})",
        [channel_id],
    )
    charges = value(
        rig.database,
        "SELECT COUNT(*) FROM billing_ledgerentry WHERE kind = 'charge' AND credit_account_id = %s",
        [channel.account_id],
    )
    return messages, charges


def kill_in_flight(run: Run, rig: Rig, server: Server, channel: ChannelKeys) -> float:
    """Kill while every call waits for the provider. Returns when the last was admitted."""
    calls = run.count(CALLS)
    with started(server.client(channel), calls, "latency:60000"):
        wait_until(
            lambda: rig.mock.stats()["in_flight"] == calls, seconds=15, what="all calls in flight"
        )
        admitted_at = time.monotonic()
        kill_and_time(run, server, "in flight")
    run.report.expect_equal("lost calls: messages, charges", turns_of(rig, channel), (0, 0))
    return admitted_at


def kill_before_capture(run: Run, rig: Rig, server: Server) -> None:
    """Kill between the provider's answer and its charge: frozen workers never see the answer."""
    channel = rig.create_channel(owner="capture@example.com", microcredits=100 * CREDIT)
    completed = rig.mock.stats()["completed"] + FEW
    with started(server.client(channel), FEW, "latency:1500"):
        wait_until(lambda: rig.mock.stats()["in_flight"] == FEW, seconds=10, what="calls in flight")
        server.freeze_workers()
        wait_until(lambda: rig.mock.stats()["completed"] == completed, seconds=10, what="answers")
        kill_and_time(run, server, "before capture")
    run.report.expect_equal(
        "killed before capture: messages, charges", turns_of(rig, channel), (0, 0)
    )


SLOW_COMMIT = """
CREATE FUNCTION acceptance_slow_commit() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER acceptance_slow_commit AFTER INSERT ON billing_ledgerentry
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION acceptance_slow_commit()
"""


def kill_during_commit(run: Run, rig: Rig, server: Server, database: Postgres) -> None:
    """Kill during a commit, which a trigger stretches to a second.

    A settlement is one statement, so its commit is not visible as a statement. The trigger's sleep
    shows that the commit has begun.
    """
    owners = [f"commit-{n}@example.com" for n in range(FEW)]
    channels = [rig.create_channel(owner=owner, microcredits=9 * CREDIT) for owner in owners]
    database.rows(SLOW_COMMIT)
    committing = (
        "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = %s AND wait_event = 'PgSleep'"
    )
    with ThreadPoolExecutor(FEW) as pool:
        for channel in channels:
            pool.submit(server.client(channel).chat, "commit", "commit")
        seen = wait_until(
            lambda: value(database, committing, [database.name]) == FEW, seconds=10, what="commits"
        )
        server.kill_workers()
        run.report.figure("all committing after_s", seen)
    wait_until(lambda: not value(database, committing, [database.name]), seconds=10, what="ended")
    database.rows("DROP FUNCTION acceptance_slow_commit CASCADE")
    wait_until(server.is_ready, seconds=10, what="serving again")
    outcomes = {turns_of(rig, channel) for channel in channels}
    run.report.figure("killed in commit: outcomes", outcomes)
    run.report.expect(outcomes <= {(0, 0), (2, 1)}, f"killed in commit: {outcomes}")


def kill_at_random(run: Run, rig: Rig, server: Server, until: float) -> None:
    """Kill at random moments while answers are immediate, to hit calls at every stage."""
    owner = f"random-{until:.0f}@example.com"
    channel = rig.create_channel(owner=owner, microcredits=10**6 * CREDIT)
    client = server.client(channel)
    stop = threading.Event()
    answers: list[Answer] = []

    def load(number: int) -> None:
        sent = 0
        while not stop.is_set():
            sent += 1
            answers.append(client.chat(f"load {number} {sent}", f"load {number} {sent}"))
            if answers[-1].status != 200:
                time.sleep(0.02)

    kills = 0
    with ThreadPoolExecutor(FEW) as pool:
        for number in range(FEW):
            pool.submit(load, number)
        while time.monotonic() < until:
            time.sleep(LIFE_SECONDS + run.random.random() * 0.3)
            server.kill_workers()
            kills += 1
            wait_until(server.is_ready, seconds=10, what="serving again", pause=0.005)
        stop.set()
    summarize_random(run, rig, channel, answers, kills)


def summarize_random(
    run: Run, rig: Rig, channel: ChannelKeys, answers: list[Answer], kills: int
) -> None:
    """Expect each success charged once and stored. A lost answer may be, but never half."""
    successes = {a.json["message_id"].replace("-", "") for a in answers if a.status == 200}
    charged = [
        str(hold_id).replace("-", "")
        for (hold_id,) in rig.database.rows(
            "SELECT hold_id FROM billing_ledgerentry WHERE kind = 'charge' "
            "AND credit_account_id = %s",
            [channel.account_id],
        )
    ]
    run.report.figure("random kills", kills)
    run.report.figure("under load", tally(answers))
    run.report.figure("stored though the answer was lost", len(charged) - len(successes))
    run.report.expect(successes <= set(charged), "an answered message was not charged")
    run.report.expect_equal("charged twice", len(charged) - len(set(charged)), 0)
    run.report.expect_equal("messages", turns_of(rig, channel)[0], 2 * len(charged))
    strange = [a for a in answers if a.status not in (0, 200, 503)]
    run.report.expect(not strange, f"answers under kills: {tally(strange)}")


def expect_spendable(run: Run, client: Client, calls: int, due_at: float) -> None:
    """Expect that 15 s after the lost calls' deadline their whole balance is spendable again."""
    time.sleep(max(0.0, due_at - time.monotonic()))
    run.report.figure("spent after the deadline_s", time.monotonic() - due_at + SPENDABLE_SECONDS)
    run.report.expect_equal("available", client.remaining(), f"{calls}.000000")
    answers = by_threads(FEW, [partial(client.chat, "again", f"again {n}") for n in range(calls)])
    run.report.expect_equal("spending it all", tally(answers), {"200": calls})


def expect_no_half_turns(run: Run, rig: Rig) -> None:
    """Expect that every session alternates user, assistant, user, ... from 0 on."""
    halves = rig.database.rows(
        "SELECT session_id, COUNT(*) FROM conversations_message GROUP BY session_id "
        "HAVING COUNT(*) <> 2 * SUM(CASE WHEN role = 'user' THEN 1 ELSE 0 END) "
        "OR COUNT(*) <> MAX(position) + 1"
    )
    run.report.expect_equal("half turns", halves, [])
