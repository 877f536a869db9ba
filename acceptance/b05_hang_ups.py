"""B5: if a caller hangs up, a turn whose call has begun is unaffected."""

from __future__ import annotations

import socket
import struct
import time
from collections import Counter
from functools import partial

from acceptance import b05_slow_readers
from acceptance.checks import Run
from acceptance.rig import Rig
from tests.harness.clients import COMPLETIONS, ENDPOINTS, Client, Endpoint, by_threads
from tests.harness.databases import value
from tests.harness.processes import HOST, wait_until
from tests.harness.rig import CREDIT

CLIENTS = 500  # at each endpoint
CLIENTS_SHORT = 100
AT_ONCE = 32
LATENCY_MS = 2000
SLOW = f"latency:{LATENCY_MS}"
DEADLINE = 5
SETTLED_SECONDS = 15


def check(run: Run) -> None:
    deadlines = dict.fromkeys(("PROVIDER_DEADLINE", "PROVIDER_STREAM_DEADLINE"), str(DEADLINE))
    with run.rig(deadlines) as rig:
        server = rig.start_server()
        channel = rig.create_channel(microcredits=10**5 * CREDIT)
        client = server.client(channel)
        tasks = [
            partial(
                hang_up,
                client,
                endpoint,
                number,
                after=run.random.uniform(0, LATENCY_MS / 1000 + 0.1),
                with_reset=run.random.random() < 0.5,
            )
            for number in range(run.count(CLIENTS, short=CLIENTS_SHORT))
            for endpoint in ENDPOINTS
        ]
        by_threads(AT_ONCE, tasks)
        run.report.figure("hang-ups", len(tasks))
        b05_slow_readers.check(run, rig, channel)
        expect_settled(run, rig)
        expect_completions_stored(run, rig)


def hang_up(
    client: Client, endpoint: Endpoint, number: int, *, after: float, with_reset: bool
) -> None:
    """Send a message and disconnect after some seconds, with a clean close or a reset.

    Every second message is streamed: the caller spends half its time before the first piece, and
    half between pieces.
    """
    is_stream = number % 2 == 1
    pace = f"latency:{LATENCY_MS // 2} gap:{LATENCY_MS // 40}" if is_stream else SLOW
    message = f"{pace} {endpoint.path} n{number}"
    with socket.create_connection((HOST, client.port)) as sock:
        sock.sendall(client.raw(endpoint, message, f"s{number}", is_stream=is_stream))
        time.sleep(after)  # whatever arrives stays in the socket
        if with_reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def expect_settled(run: Run, rig: Rig) -> None:
    """Expect that all calls end, and that no hold is open a while after the last deadline."""
    wait_until(
        lambda: not rig.mock.stats()["in_flight"], seconds=60, what="no call in flight", pause=0.1
    )
    is_open = "SELECT COUNT(*) FROM billing_hold WHERE state = 'held'"
    seconds = wait_until(
        lambda: not value(rig.database, is_open),
        seconds=DEADLINE + SETTLED_SECONDS,
        what="no open hold",
        pause=0.1,
    )
    run.report.figure("settled_s", seconds)


def expect_completions_stored(run: Run, rig: Rig) -> None:
    """Expect that what the provider completed was stored and charged exactly once."""
    completions = rig.mock.completions()
    stateless = [line for line in completions if f" {COMPLETIONS.path} " in line["message"]]
    stored = Counter(
        rig.database.rows(
            "SELECT m.content, m.input_tokens, m.output_tokens FROM conversations_message m "
            "JOIN billing_ledgerentry e ON e.hold_id = m.id "
            "WHERE m.role = 'assistant' AND e.kind = 'charge'"
        )
    )
    completed = Counter(
        # A completion without a session keeps no text.
        (
            "" if line in stateless else line["reply"],
            line["prompt_tokens"],
            line["completion_tokens"],
        )
        for line in completions
    )
    messages = value(rig.database, "SELECT COUNT(*) FROM conversations_message")
    charges = value(rig.database, "SELECT COUNT(*) FROM billing_ledgerentry WHERE kind = 'charge'")
    run.report.expect_equal("messages", messages, 2 * len(completions) - len(stateless))
    run.report.expect_equal("charges", charges, len(completions))
    run.report.expect_equal("not stored", completed - stored, Counter())
    run.report.expect_equal("stored but never completed", stored - completed, Counter())
    run.report.figure("completed", len(completions))
    run.report.figure("without a session", len(stateless))
    run.report.figure("calls", rig.mock.stats()["calls"])
