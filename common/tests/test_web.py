"""What is special about `web.request`: its thread. All attacks are in test_http.py."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from common import web
from common.http import HttpError, HttpResponse
from tests.support.stub_server import Peer, Request, StubServer, answer

LATE = 60.0


def get(url: str, *, seconds: float = LATE) -> HttpResponse:
    deadline = time.monotonic() + seconds
    return web.request(
        "GET", url, headers={}, deadline=deadline, max_bytes=1024, allow_private=True
    )


def wait_for_its_threads() -> None:
    """Wait until no request runs on a thread any more."""
    until = time.monotonic() + LATE
    while any(thread.name == "web.request" for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_gets_without_a_body() -> None:
    with StubServer(answer(b"x")) as server:
        assert get(server.url("/models?a=b")).body == b"x"
    assert server.requests[0].line == "GET /models?a=b HTTP/1.1"
    assert server.requests[0].body == b""


def test_each_request_has_a_connection_of_its_own() -> None:
    with StubServer(answer(b"x")) as server:
        for _ in range(3):
            assert get(server.url()).status == 200
    assert server.connection_count == 3
    assert {request.headers["connection"] for request in server.requests} == {"close"}


def drip_head(peer: Peer, request: Request) -> None:
    peer.drip(b"HTTP/1.1 200 OK\r\n" + b"X-Header: y\r\n" * 10_000, every=0.02)


def drip_body(peer: Peer, request: Request) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
    peer.drip(b"x" * 10_000, every=0.02)


@pytest.mark.parametrize("handle", [drip_head, drip_body])
def test_the_thread_of_a_request_ends_at_its_deadline(handle: Any) -> None:
    with StubServer(handle) as server:
        with pytest.raises(HttpError, match="timeout"):
            get(server.url(), seconds=0.3)
        wait_for_its_threads()


@pytest.fixture
def dripping_handshake() -> Iterator[str]:
    """The address of a server that begins to speak TLS, and goes on a byte at a time."""
    stop = threading.Event()

    def serve(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock:
            try:
                sock.sendall(b"\x16\x03\x03\x40\x00")  # a record of 16 KiB follows
                while not stop.wait(0.02):
                    sock.sendall(b"\x02")
            except OSError:
                stop.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/"
        assert stop.wait(LATE), "the client hung up"
        thread.join(LATE)


def test_a_handshake_that_drips_is_ended_at_the_deadline(dripping_handshake: str) -> None:
    with pytest.raises(HttpError, match="timeout"):
        get(dripping_handshake, seconds=0.3)


@pytest.mark.parametrize("step", ["_resolve", "_connect"])
def test_all_before_the_request_counts_against_the_deadline_and_nothing_is_sent_after_it(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    has_begun, may_go_on = threading.Event(), threading.Event()
    does = getattr(web, step)

    def do_late(*args: Any) -> Any:
        found = does(*args)
        has_begun.set()
        may_go_on.wait(LATE)
        return found

    monkeypatch.setattr(web, step, do_late)
    with StubServer(answer(b"x")) as server:
        with pytest.raises(HttpError, match="timeout"):
            get(server.url(), seconds=1.0)
        assert has_begun.is_set()
        may_go_on.set()
        wait_for_its_threads()
        assert server.requests == []
