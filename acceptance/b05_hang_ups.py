"""B5: a caller who hangs up changes nothing about a turn whose call has begun."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections import Counter
from functools import partial

from acceptance.checks import Run
from acceptance.clients import by_threads
from acceptance.databases import value
from acceptance.processes import HOST, wait_until
from acceptance.rig import CREDIT, Rig

CLIENTS = 500
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
        clients = run.count(CLIENTS, short=200)
        moments = [run.random.uniform(0, LATENCY_MS / 1000 + 0.1) for _ in range(clients)]
        resets = [run.random.random() < 0.5 for _ in range(clients)]
        by_threads(
            AT_ONCE,
            [
                partial(hang_up, server.port, channel.api_key, n, moments[n], resets[n])
                for n in range(clients)
            ],
        )
        run.report.figure("hang-ups", clients)
        expect_settled(run, rig)
        expect_completions_stored(run, rig)


def hang_up(port: int, key: str, number: int, after: float, with_reset: bool) -> None:
    """Send a message and leave after so many seconds, with a tidy close or a reset.

    Every second one is streamed: half of its time before the first piece, half between pieces.
    """
    is_stream = number % 2 == 1
    pace = f"latency:{LATENCY_MS // 2} gap:{LATENCY_MS // 40}" if is_stream else SLOW
    fields = {"message": f"{pace} n{number}", "session_id": f"s{number}", "stream": is_stream}
    body = json.dumps(fields)
    head = (
        f"POST /api/chat HTTP/1.1\r\nHost: {HOST}\r\nX-API-Key: {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((HOST, port)) as sock:
        sock.sendall((head + body).encode())
        time.sleep(after)  # whatever comes back is left in the socket
        if with_reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def expect_settled(run: Run, rig: Rig) -> None:
    """All calls end, and no hold is open a while after the last deadline."""
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
    """What the provider completed is exactly what was stored and charged, once each."""
    completed = Counter(line["reply"] for line in rig.mock.completions())
    stored = Counter(
        reply
        for (reply,) in rig.database.rows(
            "SELECT m.content FROM conversations_message m JOIN billing_ledgerentry e "
            "ON e.hold_id = m.id WHERE m.role = 'assistant' AND e.kind = 'charge'"
        )
    )
    messages = value(rig.database, "SELECT COUNT(*) FROM conversations_message")
    charges = value(rig.database, "SELECT COUNT(*) FROM billing_ledgerentry WHERE kind = 'charge'")
    run.report.expect_equal("messages stored", messages, 2 * len(rig.mock.completions()))
    run.report.expect_equal("charges", charges, len(rig.mock.completions()))
    run.report.expect_equal("not stored", completed - stored, Counter())
    run.report.expect_equal("stored but never completed", stored - completed, Counter())
    run.report.figure("completed", len(rig.mock.completions()))
    run.report.figure("calls", rig.mock.stats()["calls"])
