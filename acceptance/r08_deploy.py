"""R8: a deploy loses nothing, whether a server is stopped or two take turns.

The rolling restart is what a proxy with two instances sees: it sends each message to one of them,
and to the other if nothing listens. Meanwhile a migration does what an upgrade does to the chat's
tables: it adds a column and an index.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from acceptance.checks import Run
from acceptance.rig import Rig
from tests.harness.clients import CHAT, NO_ANSWER, Answer, Client, at_once, tally
from tests.harness.processes import wait_until
from tests.harness.rig import CREDIT, ChannelKeys, Server

CALLS = 50
CALL_SECONDS = 5
EXIT_SECONDS = 35.0
PER_SECOND = 50
CALM_SECONDS, CALM_SECONDS_SHORT = 20.0, 1.0
CLIENTS = 200
STOPS: dict[str, Callable[[Server], None]] = {
    "parent": lambda server: os.kill(server.running.pid, signal.SIGTERM),
    "group": lambda server: os.killpg(server.running.pid, signal.SIGTERM),
}
MIGRATION = (
    "ALTER TABLE conversations_message ADD COLUMN acceptance_note text",
    "CREATE INDEX CONCURRENTLY acceptance_note ON conversations_message (acceptance_note)",
)


def check(run: Run) -> None:
    with run.rig() as rig:
        channel = rig.create_channel(microcredits=10**6 * CREDIT)
        for name, stop in STOPS.items():
            expect_all_answered(run, rig, channel, name, stop)
        expect_rolling_restart(run, rig, channel)


def expect_all_answered(
    run: Run, rig: Rig, channel: ChannelKeys, name: str, stop: Callable[[Server], None]
) -> None:
    """Stop a server with calls in flight, and expect all of them answered."""
    server = rig.start_server(workers=2)
    client = server.client(channel)
    tasks = [partial(slow_call, client, f"{name} {number}", number) for number in range(CALLS)]
    with ThreadPoolExecutor(1) as pool:
        answering = pool.submit(at_once, tasks)
        wait_until(
            lambda: rig.mock.stats()["in_flight"] == CALLS,
            seconds=CALL_SECONDS,
            what="all calls in flight",
        )
        stop(server)
        started = time.monotonic()
        status = server.running.process.wait(2 * EXIT_SECONDS)
        seconds = time.monotonic() - started
        answers = answering.result()
    good = sum(answer.is_success for answer in answers)
    run.report.figure(f"{name}", f"{good} of {CALLS}, exit after {seconds:.1f} s")
    run.report.expect(good == CALLS, f"{name}: {tally(answers)}")
    run.report.expect_equal(f"{name}: exit status", status, 0)
    run.report.expect(seconds <= EXIT_SECONDS, f"{name}: exit after {seconds:.1f} s")


def slow_call(client: Client, session: str, number: int) -> Answer:
    order = f"latency:{1000 * CALL_SECONDS} hello"
    return client.ask(CHAT, order, session, stream=number % 2 == 1)


# --- Two instances ------------------------------------------------------------------------------


def expect_rolling_restart(run: Run, rig: Rig, channel: ChannelKeys) -> None:
    servers = [rig.start_server(workers=2) for _ in range(2)]
    calm = CALM_SECONDS if run.is_long else CALM_SECONDS_SHORT
    with load_on([server.client(channel) for server in servers]) as futures:
        time.sleep(calm)
        for statement in MIGRATION:
            rig.database.rows(statement)
        for server in servers:
            server.running.process.terminate()
            server.running.process.wait(2 * EXIT_SECONDS)
            server.start()
            time.sleep(calm)
    answers = [future.result() for future in futures]
    good = sum(answer.is_success for answer in answers)
    run.report.figure("rolling", f"{good} of {len(answers)}")
    run.report.expect(good == len(answers), f"rolling restart: {tally(answers)}")


@contextmanager
def load_on(clients: list[Client]) -> Iterator[list[Future[Answer]]]:
    """Send messages at a steady pace during the block, and wait for the last answer."""
    stop = threading.Event()
    futures: list[Future[Answer]] = []

    def send_steadily(pool: ThreadPoolExecutor) -> None:
        started = time.monotonic()
        for number in itertools.count():
            if stop.wait(max(0.0, started + number / PER_SECOND - time.monotonic())):
                return
            futures.append(pool.submit(send, clients, number))

    with ThreadPoolExecutor(CLIENTS) as pool:
        pacer = threading.Thread(target=send_steadily, args=(pool,))
        pacer.start()
        try:
            yield futures
        finally:
            stop.set()
            pacer.join()


def send(clients: list[Client], number: int) -> Answer:
    """Send a message to one instance, or to the other if the first is closed, as proxies do."""
    first = clients[number % 2]
    answer = first.chat("latency:50 hello", f"session {number}")
    if answer.status == NO_ANSWER and refused(answer):
        answer = clients[1 - number % 2].chat("latency:50 hello", f"session {number}")
    return answer


def refused(answer: Answer) -> bool:
    """Return whether the connection was refused, so that the message reached nobody."""
    return b"ConnectionRefused" in answer.body
