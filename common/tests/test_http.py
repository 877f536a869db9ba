"""Both ways out for HTTP requests, tested with real sockets on loopback.

Only deadlines that must pass are short. All others only end a test that hangs. A busy machine may
be late, so whatever a deadline must end would never end without it.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pycurl
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from common import http, web
from common.http import HttpError, HttpResponse
from tests.support.stub_server import Handler, Peer, Request, StubServer, answer

MIB = 1024 * 1024
# Every answer or refusal arrives within this time, however busy the machine is.
LATE = 60.0

Serve = Callable[..., StubServer]
DOORS = {"libcurl": http.post, "requests": partial(web.request, "POST")}
_post = http.post
# The same attacks on both. Other tests are about connections that libcurl keeps.
both_doors = pytest.mark.parametrize("_door", DOORS, indirect=True)


@pytest.fixture(autouse=True)
def _door(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way that `post` goes."""
    door = DOORS[getattr(request, "param", "libcurl")]
    monkeypatch.setattr(sys.modules[__name__], "_post", door)


@pytest.fixture(autouse=True)
def _fresh_pools() -> Iterator[None]:
    yield
    http.close_idle()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a stub server that stops when the test ends."""
    running: list[StubServer] = []

    def start(handler: Handler | bytes = b"", **options: Any) -> StubServer:
        server = StubServer(handler, **options).__enter__()
        running.append(server)
        return server

    yield start
    for server in running:
        server.__exit__(None, None, None)


def post(
    url: str, *, seconds: float = LATE, allow_private: bool = True, **options: Any
) -> HttpResponse:
    defaults: dict[str, Any] = {"headers": {}, "body": b"{}", "max_bytes": MIB}
    deadline = time.monotonic() + seconds
    return _post(url, deadline=deadline, allow_private=allow_private, **defaults | options)


def refusal(url: str, **options: Any) -> str:
    """Return the reason why a call fails."""
    with pytest.raises(HttpError) as caught:
        post(url, **options)
    assert str(caught.value) == caught.value.reason
    return caught.value.reason


def post_within(url: str, seconds: float) -> None:
    """Get an answer within a short deadline, in as many tries as a busy machine needs."""
    while True:
        with suppress(HttpError):
            post(url, seconds=seconds)
            return


# --- Answers --------------------------------------------------------------------------------------


@both_doors
def test_posts_the_body_and_returns_the_whole_answer(serve: Serve) -> None:
    server = serve(answer(b"pong", status="201 Created", X_Odd="1"))
    response = post(server.url("/a?b=c"), headers={"X-Sent": "yes"}, body=b"ping")
    assert (response.status, response.body, response.headers["x-odd"]) == (201, b"pong", "1")
    (request,) = server.requests
    assert request.line == "POST /a?b=c HTTP/1.1"
    assert request.body == b"ping"
    assert request.headers["x-sent"] == "yes"
    assert request.headers["content-length"] == "4"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["user-agent"] == "gateway", "no library, no version"
    assert "cookie" not in request.headers


@both_doors
@pytest.mark.parametrize("status", [204, 400, 401, 404, 429, 500, 503, 599])
def test_every_status_is_an_answer_and_never_retried(serve: Serve, status: int) -> None:
    server = serve(answer(b"", status=f"{status} Odd", Retry_After="1"))
    assert post(server.url()).status == status
    assert len(server.requests) == 1


def test_reads_chunked_answers(serve: Serve) -> None:
    chunks = b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\n\r\n"
    server = serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    assert post(server.url()).body == b"abcde"
    assert post(server.url()).body == b"abcde"
    assert server.connection_count == 1


@both_doors
def test_interim_answers_are_skipped(serve: Serve) -> None:
    server = serve(b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + answer(b"x"))
    assert post(server.url()).body == b"x"


@both_doors
@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
    ],
)
@pytest.mark.parametrize("size", [3, 300_000])
def test_reads_answers_after_which_the_server_hangs_up(
    serve: Serve, head: bytes, size: int
) -> None:
    def handle(peer: Peer, request: Request) -> None:
        peer.send(head % size if b"%d" in head else head)
        peer.pause(0.02)  # the body comes in its own packet
        peer.send(b"x" * size)
        peer.sock.shutdown(socket.SHUT_WR)

    server = serve(handle)
    for _ in range(2):
        assert len(post(server.url()).body) == size
    assert server.connection_count == 2


@both_doors
def test_redirects_are_not_followed(serve: Serve) -> None:
    target = serve()
    for status in (301, 302, 303, 307, 308):
        server = serve(answer(b"", status=f"{status} Moved", Location=target.url()))
        response = post(server.url(), headers={"Authorization": "Bearer secret"})
        assert (response.status, response.headers["location"]) == (status, target.url())
    assert target.connection_count == 0


# --- Connections ----------------------------------------------------------------------------------


def test_a_connection_is_kept_for_the_next_call(serve: Serve) -> None:
    server = serve(answer(b"x"))
    for _ in range(5):
        post(server.url())
    assert (server.connection_count, len(server.requests)) == (1, 5)


def test_a_connection_the_server_has_closed_is_replaced(serve: Serve) -> None:
    server = serve(answer(b"x"))
    post(server.url())
    server.peers[0].sock.shutdown(socket.SHUT_RDWR)
    assert post(server.url()).body == b"x"
    assert server.connection_count == 2


def test_a_kept_connection_obeys_the_deadline_of_the_call_that_uses_it(serve: Serve) -> None:
    pauses = [0.0]

    def handle(peer: Peer, request: Request) -> None:
        peer.pause(pauses[0])
        peer.send(answer(b"x"))

    server = serve(handle)
    post_within(server.url(), seconds=0.3)
    connections = server.connection_count
    pauses[0] = 0.4  # longer than the first call's deadline
    assert post(server.url()).body == b"x"
    pauses[0] = LATE
    assert refusal(server.url(), seconds=0.3) == "timeout"
    assert server.connection_count == connections


def test_a_connection_with_an_unread_answer_is_not_kept(serve: Serve) -> None:
    server = serve(answer(b"x" * 300_000))
    assert refusal(server.url(), max_bytes=10) == "too_large"
    assert len(post(server.url()).body) == 300_000
    assert server.connection_count == 2


def test_late_bytes_of_one_answer_are_never_part_of_the_next(serve: Serve) -> None:
    given_up, came_late = threading.Event(), threading.Event()

    def handle(peer: Peer, request: Request) -> None:
        if request.body == b"slow":
            given_up.wait(LATE)
        try:
            peer.send(answer(b"to " + request.body))
        finally:
            if request.body == b"slow":
                came_late.set()

    server = serve(handle)
    assert refusal(server.url(), seconds=0.2, body=b"slow") == "timeout"
    for number in range(5):
        body = b"%d" % number
        assert post(server.url(), body=body).body == b"to " + body
        given_up.set()
        assert came_late.wait(LATE)


def test_many_threads_each_get_their_own_answer(serve: Serve) -> None:
    threads, calls = 24, 10

    def handle(peer: Peer, request: Request) -> None:
        peer.send(answer(b"to " + request.body))

    server = serve(handle)
    barrier = threading.Barrier(threads)

    def work(thread: int) -> None:
        barrier.wait()
        for call in range(calls):
            body = b"%d-%d" % (thread, call)
            assert post(server.url(), body=body).body == b"to " + body

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    assert len(server.requests) == threads * calls
    assert server.connection_count <= threads


@both_doors
def test_limits_of_one_thread_are_not_those_of_another(serve: Serve) -> None:
    """Calls with and without a short deadline, and with and without permission, run together."""

    def handle(peer: Peer, request: Request) -> None:
        if request.body == b"wait":
            peer.pause(LATE)
        peer.pause(0.01)
        peer.send(answer(b"x"))

    server = serve(handle)
    barrier = threading.Barrier(12)

    def work(index: int) -> set[str]:
        barrier.wait()
        if index % 3 == 0:
            return {refusal(server.url(), seconds=0.3, body=b"wait")}
        if index % 3 == 1:
            return {refusal(server.url(), allow_private=False) for _ in range(20)}
        return {post(server.url()).body.decode() for _ in range(20)}

    with ThreadPoolExecutor(12) as pool:
        results = list(pool.map(work, range(12)))
    assert results == [{"timeout"}, {"private_address"}, {"x"}] * 4


# --- Deadlines ------------------------------------------------------------------------------------


@both_doors
def test_a_server_that_never_answers_times_out(serve: Serve) -> None:
    server = serve(lambda peer, request: None)
    assert refusal(server.url(), seconds=0.3) == "timeout"


@both_doors
def test_a_body_that_drips_times_out(serve: Serve) -> None:
    def handle(peer: Peer, request: Request) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        peer.drip(b"x" * 1000, every=0.02)

    assert refusal(serve(handle).url(), seconds=0.4) == "timeout"


@both_doors
def test_a_chunked_body_that_drips_times_out(serve: Serve) -> None:
    def handle(peer: Peer, request: Request) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        peer.drip(b"1\r\nx\r\n" * 1000, every=0.01)

    assert refusal(serve(handle).url(), seconds=0.4) == "timeout"


@both_doors
def test_headers_that_trickle_time_out(serve: Serve) -> None:
    def handle(peer: Peer, request: Request) -> None:
        peer.drip(b"HTTP/1.1 200 OK\r\n" + b"X-Header: y\r\n" * 1000, every=0.02)

    assert refusal(serve(handle).url(), seconds=0.4) == "timeout"


@both_doors
def test_endless_interim_answers_time_out(serve: Serve) -> None:
    def handle(peer: Peer, request: Request) -> None:
        while peer.pause(0.01):
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    assert refusal(serve(handle).url(), seconds=0.4) == "timeout"


@both_doors
def test_a_server_that_does_not_read_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert refusal(url, seconds=0.4, body=b"x" * 32 * MIB) == "timeout"


@both_doors
def test_a_deadline_that_has_passed_sends_nothing(serve: Serve) -> None:
    server = serve()
    assert refusal(server.url(), seconds=-1) == "timeout"
    assert server.requests == []
    post(server.url())
    assert refusal(server.url(), seconds=-1) == "timeout"
    assert len(server.requests) == 1


@pytest.fixture
def silent_address() -> Iterator[tuple[str, int]]:
    """An address that never accepts a connection, because its queue is full."""
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))  # noqa: S104  # for every loopback address
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        yield "127.0.0.1", port
        for sock in waiting:
            sock.close()


@both_doors
@pytest.mark.parametrize("address_count", [1, 5])
def test_connecting_counts_against_the_deadline_over_all_addresses(
    silent_address: tuple[str, int], monkeypatch: pytest.MonkeyPatch, address_count: int
) -> None:
    _, port = silent_address
    addresses = [f"127.0.0.{1 + number}" for number in range(address_count)]
    resolve_to(monkeypatch, "name.test", *addresses, port=port)
    assert refusal(f"http://name.test:{port}/", seconds=0.4) == "timeout"


# --- Answers that are invalid ---------------------------------------------------------------------


@both_doors
def test_a_refused_connection_is_told_apart() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert refusal(f"http://127.0.0.1:{unused.getsockname()[1]}/") == "connection"


@both_doors
def test_a_name_that_does_not_resolve_is_told_apart() -> None:
    # Longer than a label may be, so that no name server is asked.
    assert refusal("http://" + "a" * 64 + ".test/") == "connection"


@both_doors
def test_an_answer_of_exactly_the_cap_is_taken(serve: Serve) -> None:
    server = serve(answer(b"x" * 1000))
    assert len(post(server.url(), max_bytes=1000).body) == 1000
    assert refusal(server.url(), max_bytes=999) == "too_large"


@both_doors
@pytest.mark.parametrize(
    "head", [b"Content-Length: 1000000000000", b"Transfer-Encoding: chunked", b"Connection: close"]
)
def test_an_endless_body_is_cut_at_the_cap(serve: Serve, head: bytes) -> None:
    piece = b"10000\r\n" + b"x" * 65_536 + b"\r\n" if b"chunked" in head else b"x" * 65_536

    def handle(peer: Peer, request: Request) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        while peer.pause(0):
            peer.send(piece)

    server = serve(handle)
    assert refusal(server.url(), max_bytes=MIB) == "too_large"
    # On top of that there is only what the kernel's buffers held.
    assert server.peers[0].sent_bytes < 16 * MIB


@both_doors
def test_an_endless_body_of_a_redirect_is_cut_too(serve: Serve) -> None:
    def handle(peer: Peer, request: Request) -> None:
        peer.send(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nConnection: close\r\n\r\n")
        while peer.pause(0):
            peer.send(b"x" * 65_536)

    assert refusal(serve(handle).url(), max_bytes=MIB) == "too_large"


@both_doors
@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "x-gzip, identity"])
def test_compressed_answers_are_refused(serve: Serve, encoding: str) -> None:
    server = serve(answer(b"\x1f\x8b" + b"x" * 50, Content_Encoding=encoding))
    assert refusal(server.url()) == "encoding"


@both_doors
def test_an_identity_encoding_is_none(serve: Serve) -> None:
    assert post(serve(answer(b"x", Content_Encoding="identity")).url()).body == b"x"


@both_doors
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\x00\xff\xfe" * 100,
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 " + b"O" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_a_broken_answer_is_told_apart(serve: Serve, said: bytes) -> None:
    def handle(peer: Peer, request: Request) -> None:
        peer.send(said)
        peer.sock.shutdown(socket.SHUT_WR)

    assert refusal(serve(handle).url()) == "broken"


@both_doors
def test_a_reset_connection_is_broken(serve: Serve) -> None:
    def handle(peer: Peer, request: Request) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx")
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        peer.sock.close()

    assert refusal(serve(handle).url()) == "broken"


@both_doors
@pytest.mark.parametrize(
    "url",
    [
        "", "x", "//host/", "http://", "http:///x", "http://[::1/", "http://[]/", "http://host:99999/",
        "http://host:-1/", "ftp://127.0.0.1/", "file:///etc/passwd", "gopher://127.0.0.1:70/",
        "http://" + "a" * 64 + ".test/", "http://a..b/", "http://\udcff/", "http://\x00/",
        "http://%00/", "http+unix://%2Fvar%2Frun%2Fdocker.sock/x",
    ],
)  # fmt: skip
def test_an_impossible_address_fails_like_any_other_call(url: str) -> None:
    assert refusal(url) in {"address", "broken", "connection", "private_address"}


@both_doors
@pytest.mark.parametrize(
    "value", ["a\r\nX-Evil: 1", "a\nb", "\r\n\r\nGET / HTTP/1.1", "中", "a\0b"]
)
def test_a_header_value_cannot_smuggle_anything(serve: Serve, value: str) -> None:
    server = serve()
    assert refusal(server.url(), headers={"Authorization": f"Bearer {value}"}) == "broken"
    assert server.requests == []


# --- Private addresses ----------------------------------------------------------------------------


def resolve_to(
    monkeypatch: pytest.MonkeyPatch, host: str, *addresses: str, port: int | None = None
) -> None:
    """Make a name resolve to these addresses without asking a name server."""
    ports = [port] if port else [80, 443]
    found = ",".join(f"[{address}]" if ":" in address else address for address in addresses)
    names = [f"{host}:{port}:{found}" for port in ports]
    monkeypatch.setitem(http._OPTIONS, pycurl.RESOLVE, names)
    families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]

    def resolve(_: str, port: int) -> list[tuple[int, Any]]:
        return [(family, (it, port)) for family, it in zip(families, addresses, strict=True)]

    monkeypatch.setattr(web, "_resolve", resolve)


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record where connections are tried. All of them fail, and no packet leaves the machine."""
    tried: list[str] = []

    def record(address: Any) -> int:
        tried.append(address.addr[0])
        return pycurl.SOCKET_BAD

    def refuse(_: int, address: Any, seconds: float) -> socket.socket:
        tried.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(http, "_new_socket", record)
    monkeypatch.setattr(web, "_connect", refuse)
    return tried


LOOPBACK_SPELLINGS = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0x7F.0.0.0x1",
    "0177.0.0.1", "017700000001", "127.0.0.1.", "0.0.0.0", "0",  # noqa: S104
    "localhost", "[::1]",
    "[0:0:0:0:0:0:0:1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "user@127.0.0.1",
    "%31%32%37.0.0.1", "\u2460\u2461\u2466.0.0.1", "127\u30020.0.1",
]  # fmt: skip


@both_doors
@pytest.mark.parametrize("host", LOOPBACK_SPELLINGS)
def test_loopback_is_refused_however_it_is_spelled(
    serve: Serve, host: str, attempts: list[str]
) -> None:
    reason = refusal(f"http://{host}:8000/v1", allow_private=False)
    assert attempts == []
    if host.isascii() and "%" not in host and not host.endswith("."):
        assert reason == "private_address"


@both_doors
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_loopback_is_reached_where_it_is_allowed(serve: Serve, host: str) -> None:
    try:
        server = serve(answer(b"x"), host=host.strip("[]"))
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert post(server.url(host=host)).body == b"x"
    assert refusal(server.url(host=host), allow_private=False) == "private_address"
    assert server.connection_count == 1


PRIVATE_ADDRESSES = [
    "169.254.169.254",  # metadata services
    "fd00:ec2::254",
    "100.100.100.200",
    "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "127.255.255.254",
    "0.1.2.3", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "240.0.0.1",
    "255.255.255.255", "224.0.0.1", "239.255.255.255",
    "::", "::1", "fe80::1", "fc00::1", "fdff::1", "ff02::1", "ff0e::1", "2001:db8::1",
    "::ffff:10.0.0.1", "::ffff:169.254.169.254",
    # They look public, at least to some Pythons, but belong to a cloud's own services, to relays,
    # or to nobody.
    "168.63.129.16", "::ffff:168.63.129.16", "192.0.0.192", "192.0.0.9", "192.0.0.170",
    "192.88.99.1", "5f00::1", "3fff::1", "3fff:fff:ffff::1", "100::1", "100:0:0:1::1",
    "2001::1", "2001:1::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:30::1", "2001:1ff::1",
    "4000::1", "8000::1", "1::1", "fe00::1",
]  # fmt: skip
# Forms that an IPv6 network may translate to the IPv4 address inside: NAT64 (RFC 6052, RFC 8215),
# 6to4 (RFC 3056), SIIT (RFC 2765), and IPv4-compatible addresses (RFC 4291). fec0 is site-local.
TRANSLATED_ADDRESSES = [
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2002:a9fe:a9fe::", "2002:7f00:1::1",
    "::ffff:0:7f00:1", "::7f00:1", "fec0::1",
]  # fmt: skip


@both_doors
@pytest.mark.parametrize("address", PRIVATE_ADDRESSES + TRANSLATED_ADDRESSES)
def test_a_name_that_resolves_to_a_private_address_is_refused(
    monkeypatch: pytest.MonkeyPatch, attempts: list[str], address: str
) -> None:
    resolve_to(monkeypatch, "api.name.test", address)
    reason = refusal("https://api.name.test/v1", allow_private=False)
    assert (reason, attempts) == ("private_address", [])


@both_doors
@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "2a00:1450:4001::1", "2001:4860:4860::8888",
        "2001:200::1", "240e::1", "168.63.129.17", "192.0.1.1", "172.32.0.1", "100.128.0.1",
        "223.255.255.255", "198.20.0.1",
    ],
)  # fmt: skip
def test_public_addresses_are_connected_to(
    monkeypatch: pytest.MonkeyPatch, attempts: list[str], address: str
) -> None:
    resolve_to(monkeypatch, "api.name.test", address)
    assert refusal("https://api.name.test/v1", allow_private=False) == "connection"
    assert attempts == [address]


@both_doors
def test_only_the_public_ones_of_several_addresses_are_tried(
    monkeypatch: pytest.MonkeyPatch, attempts: list[str]
) -> None:
    resolve_to(monkeypatch, "name.test", "127.0.0.1", "1.1.1.1", "10.0.0.1", "8.8.8.8", "::1")
    assert refusal("http://name.test/", allow_private=False) in {"connection", "private_address"}
    assert attempts == ["1.1.1.1", "8.8.8.8"]


@both_doors
def test_an_address_that_turned_private_is_refused_at_the_next_connection(
    monkeypatch: pytest.MonkeyPatch, attempts: list[str]
) -> None:
    resolve_to(monkeypatch, "rebinding.test", "1.1.1.1")
    assert refusal("http://rebinding.test/", allow_private=False) == "connection"
    resolve_to(monkeypatch, "rebinding.test", "127.0.0.1")
    assert refusal("http://rebinding.test/", allow_private=False) == "private_address"
    assert attempts == ["1.1.1.1"]


def test_a_connection_made_where_private_addresses_are_allowed_serves_no_other_call(
    serve: Serve,
) -> None:
    server = serve(answer(b"x"))
    for _ in range(3):
        assert post(server.url()).body == b"x"
        assert refusal(server.url(), allow_private=False) == "private_address"
    assert (server.connection_count, len(server.requests)) == (1, 3)


@both_doors
def test_private_addresses_are_refused_unless_the_caller_says_so(serve: Serve) -> None:
    server = serve()
    with pytest.raises(HttpError, match="private_address"):
        _post(server.url(), headers={}, body=b"", deadline=time.monotonic() + LATE, max_bytes=1)
    assert server.connection_count == 0


@both_doors
def test_proxy_settings_of_the_environment_are_ignored(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, server = serve(answer(b"proxy")), serve(answer(b"server"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url(""))
    assert post(server.url()).body == b"server"
    assert proxy.connection_count == 0


@both_doors
def test_passwords_of_a_netrc_file_are_not_sent(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server = serve(answer(b"x"))
    post(server.url())
    assert "authorization" not in server.requests[0].headers


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server context for 127.0.0.1, and the certificate file to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stub")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "stub.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, file


def test_tls_works_is_kept_and_obeys_the_deadline(
    serve: Serve, tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def handle(peer: Peer, request: Request) -> None:
        if request.body == b"drip":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            peer.drip(b"x" * 1000, every=0.02)
        peer.send(answer(b"x" * 100_000))

    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))
    server = serve(handle, tls=tls[0])
    url = server.url(scheme="https")
    for _ in range(3):
        assert len(post(url).body) == 100_000
    assert server.connection_count == 1
    assert refusal(url, seconds=0.4, body=b"drip") == "timeout"
    assert refusal(url, allow_private=False) == "private_address"
    assert server.connection_count == 1


def test_certificates_are_read_as_needed_unless_a_file_is_named(
    tls: tuple[ssl.SSLContext, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert http._trusted()[pycurl.CAPATH] == str(tmp_path)
    http._is_hashed.cache_clear()
    (tmp_path / "0a1b2c3d.0").symlink_to(tls[1])
    assert http._trusted() == {pycurl.CAINFO: None, pycurl.CAPATH: str(tmp_path)}
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))
    assert http._trusted() == {pycurl.CAINFO: str(tls[1]), pycurl.CAPATH: str(tmp_path)}


@both_doors
def test_a_certificate_in_a_folder_is_trusted(
    serve: Serve, tls: tuple[ssl.SSLContext, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The file name OpenSSL looks for: the first 4 bytes of the SHA-1 of the subject, CN=stub in
    # DER.
    subject = bytes.fromhex("310d300b06035504030c04") + b"stub"
    digest = hashlib.sha1(subject, usedforsecurity=False).digest()
    (tmp_path / f"{int.from_bytes(digest[:4], 'little'):08x}.0").symlink_to(tls[1])
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    server = serve(answer(b"x"), tls=tls[0])
    assert post(server.url(scheme="https")).body == b"x"


@both_doors
def test_tls_answers_after_which_the_server_hangs_up_are_read(
    serve: Serve, tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def handle(peer: Peer, request: Request) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n")
        peer.pause(0.02)
        peer.send(b"x" * 100_000)

    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))
    assert len(post(serve(handle, tls=tls[0]).url(scheme="https")).body) == 100_000


@both_doors
def test_an_unknown_certificate_gets_no_request(
    serve: Serve, tls: tuple[ssl.SSLContext, Path]
) -> None:
    server = serve(tls=tls[0])
    assert refusal(server.url(scheme="https")) == "tls"
    assert server.requests == []


@both_doors
def test_a_certificate_for_another_name_gets_no_request(
    serve: Serve, tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))
    server = serve(tls=tls[0])
    resolve_to(monkeypatch, "api.name.test", "127.0.0.1", port=server.port)
    assert refusal(server.url(scheme="https", host="api.name.test")) == "tls"
    assert server.requests == []


@both_doors
def test_a_handshake_that_never_ends_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        assert refusal(url, seconds=0.4) == "timeout"


@both_doors
def test_plain_http_where_tls_is_spoken_is_broken(serve: Serve) -> None:
    def handle(peer: Peer, request: Request) -> None:
        raise AssertionError("nothing but a TLS greeting should have come")

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(4096)
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=accept)
        thread.start()
        assert refusal(f"https://127.0.0.1:{listener.getsockname()[1]}/") == "tls"
        thread.join(LATE)
