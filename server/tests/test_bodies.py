"""Request bodies on the wire: half-sent, chunked, too large. Other requests go on meanwhile."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import requests

from server.tests.running import SECONDS, Installation, Running, wait_until

pytestmark = pytest.mark.slow

CHAT = {"message": "Hello", "session_id": "visitor-1"}
# More than the threads of a process (THREADS + PROVIDER_CALLS + spare ones). One process serves.
MANY = 900


class Wire:
    """Raw connections to a server."""

    def __init__(self, port: int, closing: ExitStack) -> None:
        self._port, self._closing = port, closing

    def send(self, *lines: str, body: bytes = b"") -> socket.socket:
        """Send a request's head, and the part of its body that is given."""
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=SECONDS)
        self._closing.callback(connection.close)
        head = "\r\n".join([*lines, "Host: 127.0.0.1", "", ""])
        connection.sendall(head.encode() + body)
        return connection

    def half_sent(self, path: str, *headers: str) -> socket.socket:
        head = [f"POST {path} HTTP/1.1", "Content-Type: application/json", "Content-Length: 100"]
        return self.send(*head, *headers, body=b'{"message"')


def status_of(connection: socket.socket) -> int:
    """Return the status of the answer, waiting for it."""
    return int(connection.recv(65536).split(b" ", 2)[1])


def rest_of(connection: socket.socket) -> bytes:
    """Return everything that arrives until the server closes the connection."""
    found = b""
    while piece := connection.recv(65536):
        found += piece
    return found


@pytest.fixture
def running(start: Callable[..., Running]) -> Running:
    return start(settings={"WORKERS": "1"}).serving()


@pytest.fixture
def wire(running: Running) -> Iterator[Wire]:
    with ExitStack() as closing:
        yield Wire(running.port, closing)


def ask(running: Running, installation: Installation, **options: object) -> requests.Response:
    return requests.post(
        f"http://127.0.0.1:{running.port}/api/chat",
        headers={"X-API-Key": installation.api_key, "Content-Type": "application/json"},
        timeout=SECONDS,
        **options,  # type: ignore[arg-type]
    )


def test_half_sent_bodies_of_strangers_are_refused_at_once_and_hold_nobody_up(
    running: Running, installation: Installation, wire: Wire
) -> None:
    strangers = [wire.half_sent("/api/chat") for _ in range(MANY // 2)]
    strangers += [wire.half_sent("/v1/chat/completions", "X-API-Key: x") for _ in range(MANY // 2)]
    assert running.is_alive()
    assert ask(running, installation, json=CHAT).status_code == 200
    assert {status_of(stranger) for stranger in strangers} == {401}


def test_half_sent_forms_and_bodies_of_customers_are_bounded_and_answered_in_the_end(
    running: Running, installation: Installation, wire: Wire
) -> None:
    forms = [wire.half_sent("/accounts/login/") for _ in range(MANY // 2)]
    key = f"X-API-Key: {installation.api_key}"
    customers = [wire.half_sent("/api/chat", key) for _ in range(30)]
    assert running.is_alive()
    assert ask(running, installation, json=CHAT).status_code == 200
    # Those beyond the limit get an answer at once, the others when their time is over.
    assert {status_of(one) for one in forms} == {400, 503}
    assert {status_of(one) for one in customers} == {400}


def test_a_worker_that_waits_for_clients_that_never_leave_is_replaced(
    running: Running, installation: Installation, wire: Wire
) -> None:
    before = running.workers()
    forms = [wire.half_sent("/accounts/login/") for _ in range(40)]
    assert {status_of(one) for one in forms} == {400}
    assert ask(running, installation, json=CHAT).status_code == 200
    wait_until(lambda: set(running.workers()).isdisjoint(before), "another worker serves")
    assert ask(running, installation, json=CHAT).status_code == 200
    os.kill(running.process.pid, signal.SIGTERM)
    assert running.end()[0] == 0


def in_pieces(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 5000):
        yield body[start : start + 5000]


def test_a_chunked_body_is_taken_as_a_client_sends_one(
    running: Running, installation: Installation
) -> None:
    body = json.dumps(CHAT | {"pad": "x" * 30_000}).encode()
    answer = ask(running, installation, data=in_pieces(body))
    assert answer.status_code == 200
    assert answer.json()["reply"]


@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_client_can_read_why_its_large_body_is_refused(
    running: Running, installation: Installation, *, is_chunked: bool
) -> None:
    body = b" " * 3_000_000
    answer = ask(running, installation, data=in_pieces(body) if is_chunked else body)
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
    answer = requests.post(
        f"http://127.0.0.1:{running.port}/api/chat", data=in_pieces(body), timeout=SECONDS
    )
    assert answer.status_code == 401


def test_two_lengths_and_other_codings_end_the_connection(running: Running, wire: Wire) -> None:
    post, second = "POST /api/chat HTTP/1.1", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    chunked = b"2\r\n{}\r\n0\r\n\r\n"
    coded = wire.send(post, "Transfer-Encoding: gzip, chunked", body=chunked + second)
    answer = rest_of(coded)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"invalid_request" in answer
    # The server drops the declared length, as RFC 9112, 6.3 allows, so nothing can hide in it.
    for lengths in (
        ["Content-Length: 2", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 2"],
    ):
        answer = rest_of(wire.send(post, *lengths, body=chunked + second))
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"connection: close" in answer.lower()


def test_a_body_without_length_is_411(running: Running, wire: Wire) -> None:
    assert status_of(wire.send("POST /api/chat HTTP/1.1")) == 411


def test_the_readiness_probe_needs_nobodys_body(running: Running, wire: Wire) -> None:
    wire.half_sent("/accounts/login/")
    ready = f"http://127.0.0.1:{running.port}/readyz"
    # On a busy machine the database is asked for longer than the probe waits for it.
    wait_until(lambda: requests.get(ready, timeout=SECONDS).status_code == 200, "it is ready")
