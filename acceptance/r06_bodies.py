"""R6: bodies that are too large, invalid, or never sent cost nothing and delay nobody."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from statistics import median, quantiles

from acceptance.checks import Run
from tests.harness.clients import Client, at_once
from tests.harness.costs import measured
from tests.harness.processes import HOST
from tests.harness.rig import CREDIT

TEN_MB = 10_000_000
AT_ONCE_SECONDS = 0.05
MOST_MIB = 2.0
ROUNDS = 5
LORIS = 200
CHATS = 200
MORE_P95 = 1.2
# A busy machine delays some of everything, so the quietest of these comparisons counts.
TRIES = 4
HOSTILE = (
    b"", b"null", b"[]", b"{", b'"x"', b"\xff\xfe", b"[" * 5000, b'{"message":' * 3000,
    b'{"message": "\\ud800", "session_id": "s"}', b'{"message": "a\\u0000", "session_id": "s"}',
    b'{"message": 1e400, "session_id": "s"}', b'{"message": NaN, "session_id": "s"}',
    b'{"message": {"a": []}, "session_id": "s"}', b'{"message": "m", "session_id": ["s"]}',
    b'{"message": "m", "session_id": "s", "metadata": 5}',
)  # fmt: skip


def check(run: Run) -> None:
    with run.rig() as rig:
        server = rig.start_server(workers=1)
        client = server.client(rig.create_channel(microcredits=10**5 * CREDIT))
        (worker,) = server.worker_pids()
        for kind in [*kinds(client).values()] * ROUNDS:
            answer_to(client.port, kind)  # what a process and its threads allocate once
        # What a body costs, it costs each time. What the process allocates once, for a thread it
        # had not used or a probe, falls into one of these measurements.
        grown: list[float] = []
        while not grown or (grown[-1] > MOST_MIB and len(grown) < TRIES):
            with measured(worker) as growth:
                expect_refusals(run, client)
            grown.append(growth.mib)
        run.report.figure("more_mib", grown[-1])
        run.report.expect(grown[-1] <= MOST_MIB, f"{grown} MiB more for large bodies")
        expect_hostile_json_refused(run, client)
        expect_nobody_slowed(run, client)
        run.report.expect_equal("workers", server.worker_pids(), [worker])


# --- Large bodies -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """A request that sends 10 MB, and its expected status."""

    status: int
    headers: tuple[str, ...]
    pieces: Callable[[], Iterator[bytes]]


def plain() -> Iterator[bytes]:
    for _ in range(TEN_MB // 50_000):
        yield b" " * 50_000


def chunked() -> Iterator[bytes]:
    for piece in plain():
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def kinds(client: Client) -> dict[str, Kind]:
    key = f"X-API-Key: {client.key}"
    as_json, length = "Content-Type: application/json", f"Content-Length: {TEN_MB}"
    packed = gzip.compress(b" " * TEN_MB, 0)
    return {
        "declared": Kind(413, (key, as_json, length), plain),
        "without a key": Kind(413, (as_json, length), plain),
        "chunked": Kind(413, (key, as_json, "Transfer-Encoding: chunked"), chunked),
        "chunked, without a key": Kind(401, (as_json, "Transfer-Encoding: chunked"), chunked),
        "without a length": Kind(411, (key, as_json), plain),
        "understated": Kind(400, (key, as_json, "Content-Length: 10"), plain),
        "gzip": Kind(
            413,
            (key, as_json, "Content-Encoding: gzip", f"Content-Length: {len(packed)}"),
            lambda: iter([packed]),
        ),
        "multipart": Kind(
            415, (key, "Content-Type: multipart/form-data; boundary=x", "Content-Length: 50000"),
            lambda: iter([b" " * 50_000]),
        ),
    }  # fmt: skip


def answer_to(port: int, kind: Kind) -> tuple[int, float]:
    """Send such a request. Returns the status, and the seconds until the answer arrived.

    Sends on a separate thread, because the answer arrives before the end of the body.
    """
    head = "\r\n".join(["POST /api/chat HTTP/1.1", f"Host: {HOST}", *kind.headers, "", ""])
    with socket.create_connection((HOST, port), timeout=30) as connection:

        def send() -> None:
            with suppress(OSError):
                connection.sendall(head.encode())
                for piece in kind.pieces():
                    connection.sendall(piece)

        sender = threading.Thread(target=send)
        started = time.monotonic()
        sender.start()
        status = int(connection.recv(4096).split(b" ", 2)[1])
        seconds = time.monotonic() - started
        with suppress(OSError):  # the server may have closed it
            connection.shutdown(socket.SHUT_RDWR)
        sender.join()
        return status, seconds


def expect_refusals(run: Run, client: Client) -> None:
    slowest = 0.0
    for name, kind in kinds(client).items():
        found = [answer_to(client.port, kind) for _ in range(ROUNDS)]
        run.report.expect_equal(name, {status for status, _ in found}, {kind.status})
        seconds = median(seconds for _, seconds in found)
        slowest = max(slowest, seconds)
        run.report.expect(seconds < AT_ONCE_SECONDS, f"{name}: after {1000 * seconds:.0f} ms")
    run.report.figure("slowest_ms", 1000 * slowest)


def expect_hostile_json_refused(run: Run, client: Client) -> None:
    for body in HOSTILE:
        answer = client.post(body)
        run.report.expect_equal(f"{body[:40]!r}", answer.status, 400)


# --- Slow ones ----------------------------------------------------------------------------------


def expect_nobody_slowed(run: Run, client: Client) -> None:
    """Two hundred sockets never finish a request while others chat."""
    ratios = []
    for number in range(TRIES):
        before = p95(client, f"before {number}")
        with ExitStack() as closing:
            for connection in at_once([partial(loris, client, n) for n in range(LORIS)]):
                closing.enter_context(connection)
            ratios.append(p95(client, f"beside {number}") / before)
        if ratios[-1] <= MORE_P95:
            break
    run.report.figure("p95 beside slow-loris", ratios[-1])
    run.report.expect(min(ratios) <= MORE_P95, f"p95 beside slow-loris x {ratios}")


def loris(client: Client, number: int) -> socket.socket:
    """Send half a request: half a head, a stranger's body, a form, or our own body."""
    length = "Content-Length: 1000\r\n"
    ours = f"Content-Type: application/json\r\nX-API-Key: {client.key}\r\n{length}"
    sent = (
        "POST /api/chat HTTP/1.1\r\nHost: x\r\n",
        f"POST /api/chat HTTP/1.1\r\nHost: x\r\n{length}\r\n{{",
        f"POST /accounts/login/ HTTP/1.1\r\nHost: x\r\n{length}\r\nx",
        f"POST /api/chat HTTP/1.1\r\nHost: x\r\n{ours}\r\n{{",
    )[number % 4]
    connection = socket.create_connection((HOST, client.port))
    connection.sendall(sent.encode())
    return connection


def p95(client: Client, name: str) -> float:
    answers = [client.chat("latency:20 hello", f"{name} {number}") for number in range(CHATS)]
    seconds: Sequence[float] = [answer.seconds for answer in answers]
    failed = [answer for answer in answers if not answer.is_success]
    if failed:
        raise RuntimeError(f"a chat beside slow-loris: {json.dumps(str(failed[0]))}")
    return quantiles(seconds, n=20)[-1]
