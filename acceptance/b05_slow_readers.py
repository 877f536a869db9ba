"""B5: a caller who reads one byte a second delays neither their own turn nor anyone else's."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from acceptance.checks import Run
from acceptance.rig import Rig
from tests.harness.clients import COMPLETIONS, Client, by_threads, tally
from tests.harness.databases import value
from tests.harness.processes import HOST, wait_until
from tests.harness.rig import ChannelKeys

# More readers than the process has slots, and more bytes than a socket's buffers hold.
SLOTS = 2
READERS = 6
SIZE = 6_000_000
BUFFER_BYTES = 4096
# The stream's deadline in this rig, and a little more.
SETTLED_SECONDS = 6.0
OTHERS = 10
CALM_SECONDS = 5.0


def check(run: Run, rig: Rig, channel: ChannelKeys) -> None:
    client = rig.start_server(workers=1, threads=SLOTS).client(channel)
    before = rig.mock.stats()["completed"]
    go_on = threading.Event()
    with ThreadPoolExecutor(READERS) as pool:
        try:
            readers = [pool.submit(read_slowly, client, n, go_on) for n in range(READERS)]
            expect_charged(run, rig, before)
            expect_calm(run, client)
        finally:
            go_on.set()
        bodies = [reader.result() for reader in readers]
    whole = [len(body) for body in bodies if b"data: [DONE]" in body and len(body) > SIZE]
    run.report.expect_equal("slow readers who got all in the end", len(whole), READERS)


def read_slowly(client: Client, number: int, go_on: threading.Event) -> bytes:
    """Ask for a long stream. Read a byte a second until `go_on`, then the rest; return it all."""
    message = f"size:{SIZE} {COMPLETIONS.path} slow {number}"
    received = bytearray()
    with socket.socket() as sock:
        # Before connecting, because the window is offered with the connection.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        sock.settimeout(60)
        sock.connect((HOST, client.port))
        sock.sendall(client.raw(COMPLETIONS, message, "", is_stream=True))
        while not go_on.wait(1):
            received += sock.recv(1)
        while data := sock.recv(1 << 20):
            received += data
    return bytes(received)


def expect_charged(run: Run, rig: Rig, before: int) -> None:
    """Expect all turns charged, and nothing held, while their readers have hardly begun."""
    statement = "SELECT COUNT(*) FROM billing_hold WHERE state = 'held'"
    seconds = wait_until(
        lambda: (
            rig.mock.stats()["completed"] - before == READERS and not value(rig.database, statement)
        ),
        seconds=SETTLED_SECONDS,
        what="turns of slow readers settled",
        pause=0.1,
    )
    run.report.figure("slow readers settled_s", seconds)


def expect_calm(run: Run, client: Client) -> None:
    """Expect the same process to answer others as usual meanwhile, one by one and streamed."""
    asks = [
        partial(client.ask, COMPLETIONS, f"other {COMPLETIONS.path} {n}", "", stream=n % 2 == 1)
        for n in range(OTHERS)
    ]
    answers = by_threads(SLOTS, asks)
    slowest = max(answer.seconds for answer in answers)
    run.report.figure("slowest beside slow readers_s", slowest)
    run.report.expect_equal("beside slow readers", tally(answers), {"200": OTHERS})
    run.report.expect(slowest <= CALM_SECONDS, f"beside slow readers one took {slowest:.1f} s")
