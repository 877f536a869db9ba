"""Answers read as they arrive, and what both kinds of call guarantee about kept connections."""

from __future__ import annotations

import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from common import http
from common.http import HttpError
from tests.shapes import chunked
from tests.support.stub_server import Peer, Request, StubServer, answer

Ask = Callable[..., bytes]
LATE = 60.0  # ends a test that hangs
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(autouse=True)
def _fresh_connections() -> Iterator[None]:
    yield
    http.close_idle()


def options(seconds: float = LATE, **more: Any) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    usual: dict[str, Any] = {"headers": {}, "body": b"{}", "max_bytes": 2**20}
    return usual | {"deadline": deadline, "allow_private": True} | more


def ask_whole(url: str, **more: Any) -> bytes:
    return http.post(url, **options(**more)).body


def ask_by_line(
    url: str, *, silence: float = LATE, seen: list[bytes] | None = None, **more: Any
) -> bytes:
    seen = [] if seen is None else seen
    with http.post_for_lines(url, **options(**more)) as stream:
        seen.extend(stream.lines(lambda: time.monotonic() + silence))
    return b"\n".join(seen)


either = pytest.mark.parametrize("ask", [ask_whole, ask_by_line])


@either
def test_nothing_is_sent_twice_when_a_kept_connection_ends_without_an_answer(ask: Ask) -> None:
    """libcurl would send it again, and a provider that had started on it would be paid twice."""

    def handle(peer: Peer, request: Request) -> None:
        if request.body == b"last":
            peer.sock.shutdown(socket.SHUT_RDWR)
        else:
            peer.send(answer(b"x"))

    with StubServer(handle) as server:
        assert ask(server.url()) == b"x"
        with pytest.raises(HttpError, match="broken"):
            ask(server.url(), body=b"last")
        assert [request.body for request in server.requests] == [b"{}", b"last"]
        assert server.connection_count == 1
        assert ask(server.url()) == b"x"
        assert server.connection_count == 2


@either
def test_a_kept_connection_that_was_closed_is_replaced_at_once(ask: Ask) -> None:
    with StubServer(answer(b"x")) as server:
        for count in range(1, 4):
            assert ask(server.url()) == ask(server.url()) == b"x"
            assert server.connection_count == count
            server.peers[-1].sock.shutdown(socket.SHUT_RDWR)


@either
def test_what_comes_unasked_on_a_kept_connection_is_no_answer(ask: Ask) -> None:
    with StubServer(answer(b"x")) as server:
        ask(server.url())
        server.peers[0].send(answer(b"from another's mouth"))
        assert ask(server.url()) == b"x"
        assert server.connection_count == 2


@either
def test_fields_after_the_body_are_not_among_the_headers(ask: Ask) -> None:
    said = CHUNKED + chunked(b"x") + b"0\r\nContent-Encoding: gzip\r\n\r\n"
    with StubServer(said) as server:
        assert ask(server.url()) == ask(server.url()) == b"x"


@either
def test_fields_of_an_interim_answer_are_not_among_the_headers(ask: Ask) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nContent-Encoding: gzip\r\n\r\n"
    with StubServer(hints + answer(b"x")) as server:
        assert ask(server.url()) == b"x"


@either
def test_descriptors_above_1023_work(ask: Ask) -> None:
    """select() cannot handle them; a server with a thousand calls in flight has them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 2048:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with StubServer(answer(b"x")) as server:
            assert ask(server.url()) == b"x"
            assert server.peers[0].sock.fileno() > 1023
    finally:
        for descriptor in taken:
            os.close(descriptor)


def test_lines_are_handed_on_as_they_arrive() -> None:
    read = threading.Semaphore(0)

    def handle(peer: Peer, request: Request) -> None:
        peer.send(CHUNKED)
        for number in range(3):
            peer.send(chunked(b"line %d\r\n" % number))
            assert read.acquire(timeout=LATE)
        peer.send(chunked(b"half a li"))
        peer.pause(0.02)
        peer.send(chunked(b"ne\nand a rest") + b"0\r\n\r\n")

    with StubServer(handle) as server:
        for _ in range(2):
            lines = []
            with http.post_for_lines(server.url(), **options()) as stream:
                for line in stream.lines(lambda: time.monotonic() + LATE):
                    lines.append(line)
                    read.release()
            assert lines == [b"line 0", b"line 1", b"line 2", b"half a line", b"and a rest"]
            while read.acquire(blocking=False):
                pass
        assert server.connection_count == 1


def test_each_wait_has_a_deadline_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    read = threading.Semaphore(0)
    ahead = 0.0

    def now() -> float:
        return time.monotonic() + ahead

    monkeypatch.setattr(http, "time", SimpleNamespace(monotonic=now))

    def handle(peer: Peer, request: Request) -> None:
        peer.send(CHUNKED)
        for _ in range(5):
            peer.send(chunked(b"x\n"))
            assert read.acquire(timeout=LATE)
        peer.pause(LATE)

    with StubServer(handle) as server, http.post_for_lines(server.url(), **options()) as stream:
        silence = LATE
        lines = stream.lines(lambda: now() + silence)
        for _ in range(5):
            assert next(lines) == b"x"
            ahead += 2 * LATE  # past the first deadline, and past that of every wait so far
            read.release()
        silence = 0.1
        with pytest.raises(HttpError, match="timeout"):
            next(lines)


def test_what_came_before_a_break_is_handed_on_first() -> None:
    said = CHUNKED + chunked(b"one\ntwo\n") + b"5\r\nth"

    def handle(peer: Peer, request: Request) -> None:
        peer.send(said)
        peer.sock.shutdown(socket.SHUT_RDWR)

    with StubServer(handle) as server:
        seen: list[bytes] = []
        with pytest.raises(HttpError, match="broken"):
            ask_by_line(server.url(), seen=seen)
    assert seen == [b"one", b"two"]


def test_an_answer_that_was_left_early_ends_its_connection() -> None:
    left = threading.Semaphore(0)

    def handle(peer: Peer, request: Request) -> None:
        peer.send(CHUNKED + chunked(b"one\n"))
        assert left.acquire(timeout=LATE)
        peer.send(chunked(b"two\n") + b"0\r\n\r\n")

    with StubServer(handle) as server:
        for count in (1, 2):
            with http.post_for_lines(server.url(), **options()) as stream:
                assert next(stream.lines(lambda: time.monotonic() + LATE)) == b"one"
            left.release()
            assert server.connection_count == count


def test_an_error_of_the_reader_ends_the_connection_and_is_its_own() -> None:
    with StubServer(CHUNKED + chunked(b"x\n") + b"0\r\n\r\n") as server:
        for _ in range(2):
            with (
                pytest.raises(ValueError, match="mine"),
                http.post_for_lines(server.url(), **options()),
            ):
                raise ValueError("mine")
        assert server.connection_count == 2


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"allow_private": False}, "private_address"),
        ({"seconds": -1}, "timeout"),
        ({"headers": {"Authorization": "a\r\nX: b"}}, "broken"),
    ],
)
def test_a_stream_is_refused_for_what_an_answer_is(more: dict[str, Any], reason: str) -> None:
    with StubServer(answer(b"x")) as server:
        with pytest.raises(HttpError, match=reason):
            ask_by_line(server.url(), **more)
        assert server.requests == []
        assert ask_by_line(server.url()) == b"x"


def test_a_stream_is_cut_at_its_cap() -> None:
    def handle(peer: Peer, request: Request) -> None:
        peer.send(CHUNKED)
        while peer.pause(0):
            peer.send(chunked(b"x" * 1000 + b"\n"))

    with StubServer(handle) as server, pytest.raises(HttpError, match="too_large"):
        ask_by_line(server.url(), max_bytes=50_000)


def read_as_one(url: str) -> bytes:
    with http.post_for_lines(url, **options()) as stream:
        return stream.read()


@pytest.mark.parametrize("read", [ask_by_line, read_as_one])
def test_what_is_held_at_once_of_a_stream_is_bounded(
    monkeypatch: pytest.MonkeyPatch, read: Callable[[str], bytes]
) -> None:
    monkeypatch.setattr(http, "MAX_LINE_BYTES", 10)

    def handle(peer: Peer, request: Request) -> None:
        peer.send(CHUNKED + chunked(b"x" * 9 + b"\n") + chunked(b"y" * 11) + chunked(b""))

    with StubServer(handle) as server, pytest.raises(HttpError, match="too_large"):
        read(server.url())


def test_many_threads_read_their_own_lines() -> None:
    def handle(peer: Peer, request: Request) -> None:
        peer.send(CHUNKED)
        for number in range(20):
            peer.send(chunked(b"%s %d\n" % (request.body, number)))
        peer.send(b"0\r\n\r\n")

    def work(thread: int) -> None:
        for call in range(5):
            body = b"%d-%d" % (thread, call)
            said = ask_by_line(server.url(), body=body).split(b"\n")
            assert said == [b"%s %d" % (body, number) for number in range(20)]

    with StubServer(handle) as server:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(work, range(16)))
        assert server.connection_count <= 16
