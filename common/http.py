"""The one door for outgoing HTTP: pooled, with a total deadline, a byte cap and no redirects.

urllib3 is used directly. `requests` is a layer over it that costs as much CPU again and hides
the socket, where the deadline has to be kept: a timeout for each read lets a reply that drips
one byte at a time go on for ever (docs/decisions/0005).
"""

from __future__ import annotations

import io
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

CONNECT_TIMEOUT_SECONDS = 5.0
# As many kept connections per host as a process has threads by default.
POOL_SIZE = 64


class HttpError(Exception):
    """No usable answer came; `reason` is a short stable word for logs and tests."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A whole answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _CallState(threading.local):
    """Limits of the call this thread is making; the sockets of the pool read them from here."""

    deadline = 0.0
    allow_private = False


_call = _CallState()


class _DeadlineReader(socket.SocketIO):
    """Reads a socket, giving each read only the time that is left to the whole call."""

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_remaining_seconds())  # type: ignore[attr-defined]  # SocketIO's own
        return super().readinto(buffer)


class _DeadlineSocket:
    """A connected socket whose reads and writes end at the deadline of the current call."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def makefile(self, mode: str = "rb", *args: Any, **kwargs: Any) -> io.BufferedReader:
        # As socket.makefile does: the file keeps the socket open after its own close(), which
        # http.client calls at once where the server will close the connection.
        self._sock._io_refs += 1
        return io.BufferedReader(_DeadlineReader(self._sock, "r"), 16 * 1024)

    def sendall(self, data: Any, *args: Any) -> None:
        self._sock.settimeout(_remaining_seconds())
        self._sock.sendall(data, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def _remaining_seconds() -> float:
    remaining = _call.deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError("the deadline of the call has passed")
    return remaining


class _GuardedConnection(HTTPConnection):
    """Checks the address at connect time, when a name can no longer be pointed elsewhere."""

    def _new_conn(self) -> socket.socket:
        return _connect(self._dns_host, self.port or self.default_port)

    def connect(self) -> None:
        super().connect()
        self.sock = _DeadlineSocket(self.sock)  # delegates to a socket


class _GuardedTlsConnection(HTTPSConnection):
    """The same for TLS; the handshake runs on the plain socket, under the connect timeout."""

    def _new_conn(self) -> socket.socket:
        return _connect(self._dns_host, self.port or self.default_port)

    def connect(self) -> None:
        super().connect()
        self.sock = _DeadlineSocket(self.sock)  # delegates to a socket


def _connect(host: str, port: int) -> socket.socket:
    """Resolve once, refuse private addresses unless allowed, connect to what was checked.

    All addresses together have the time that is left to the call. The look-up of the name is
    bounded by the system's resolver alone.
    """
    addresses = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    last_error: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        if not _call.allow_private and not is_public_address(str(address[0])):
            last_error = PermissionError("private address")
            continue
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(min(CONNECT_TIMEOUT_SECONDS, _remaining_seconds()))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as error:
            sock.close()
            last_error = error
    raise last_error or OSError("the name has no address")


# IPv6 addresses that stand for IPv4 ones (NAT64, 6to4, SIIT, IPv4-compatible) or are local under
# an old name: with the right router, a way round every check of the IPv4 address itself.
_TRANSLATED = [
    ipaddress.ip_network(network)
    for network in (
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2002::/16",
        "::ffff:0:0:0/96",
        "::/96",
        "fec0::/10",
    )
]


def is_public_address(text: str) -> bool:
    """Tell whether an IP address is reachable on the public internet under its own name."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is None and any(address in network for network in _TRANSLATED):
        return False
    return (mapped or address).is_global and not (mapped or address).is_multicast


def _new_pool() -> urllib3.PoolManager:
    pool = urllib3.PoolManager(num_pools=32, maxsize=POOL_SIZE, retries=False)
    http_pool = type(
        "GuardedPool", (urllib3.HTTPConnectionPool,), {"ConnectionCls": _GuardedConnection}
    )
    tls_pool = type(
        "GuardedTlsPool", (urllib3.HTTPSConnectionPool,), {"ConnectionCls": _GuardedTlsConnection}
    )
    pool.pool_classes_by_scheme = {"http": http_pool, "https": tls_pool}
    return pool


# Two pools, so that a connection made where private addresses are allowed is never handed to a
# call where they are not.
_pools = {True: _new_pool(), False: _new_pool()}


def post(
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes,
    deadline: float,
    max_bytes: int,
    allow_private: bool = False,
) -> HttpResponse:
    """POST `body` and return the whole answer, whatever its status.

    `deadline` is a time.monotonic() value that bounds connecting, sending, headers and body
    together. Raises HttpError with reason `timeout`, `connection`, `private_address`,
    `address`, `too_large`, `encoding` or `broken` (the answer ended early or is no HTTP).
    Never retries and never follows a redirect.
    """
    with _translated_errors(), _open(url, headers, body, deadline, allow_private) as response:
        return HttpResponse(
            status=response.status,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=b"".join(_chunks(response, max_bytes)),
        )


class LineStream:
    """An answer that arrives line by line; each wait is bounded by what `lines` is told."""

    def __init__(self, response: urllib3.BaseHTTPResponse, max_bytes: int) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.headers.items()}
        self._response = response
        self._max_bytes = max_bytes

    def lines(self, next_deadline: Callable[[], float]) -> Iterator[bytes]:
        """Yield lines as they arrive, without their ends; `next_deadline` bounds each wait."""
        buffer = b""
        for chunk in self._chunks(next_deadline):
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                yield line.removesuffix(b"\r")
        if buffer:
            yield buffer

    def read(self) -> bytes:
        """Return the whole body, where it turned out not to be a stream."""
        return b"".join(_chunks(self._response, self._max_bytes))

    def _chunks(self, next_deadline: Callable[[], float]) -> Iterator[bytes]:
        received = 0
        while True:
            _call.deadline = next_deadline()
            chunk = self._response.read1(64 * 1024)
            if not chunk:
                return
            received += len(chunk)
            if received > self._max_bytes:
                raise HttpError("too_large")
            yield chunk


@contextmanager
def post_for_lines(
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes,
    deadline: float,
    max_bytes: int,
    allow_private: bool = False,
) -> Iterator[LineStream]:
    """POST `body` and give the answer as it arrives; `deadline` bounds the wait for its headers.

    Raises HttpError as `post` does, also for what goes wrong inside the block.
    """
    with _translated_errors(), _open(url, headers, body, deadline, allow_private) as response:
        yield LineStream(response, max_bytes)


@contextmanager
def _open(
    url: str, headers: Mapping[str, str], body: bytes, deadline: float, allow_private: bool
) -> Iterator[urllib3.BaseHTTPResponse]:
    """Send the request and yield the answer; its connection is kept only if it was read whole."""
    if not url.lower().startswith(("http://", "https://")):
        raise HttpError("address")  # urllib3 would take it for plain http and send the key so
    _call.deadline, _call.allow_private = deadline, allow_private
    response = _pools[allow_private].urlopen(
        "POST",
        url,
        body=body,
        headers={"Accept-Encoding": "identity", **headers},
        timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=None),
        redirect=False,
        preload_content=False,
        decode_content=False,
    )
    try:
        # A compressed body could unpack to any size, and none was asked for.
        if response.headers.get("content-encoding", "identity") != "identity":
            raise HttpError("encoding")
        yield response
    except BaseException:
        response.close()
        raise
    # urllib3 gives a connection back when its answer has been read to the end; whoever left
    # early must not leave the rest to the next call.
    response.close()


def _chunks(response: urllib3.BaseHTTPResponse, max_bytes: int) -> Iterator[bytes]:
    received = 0
    while chunk := response.read(64 * 1024):
        received += len(chunk)
        if received > max_bytes:
            raise HttpError("too_large")
        yield chunk


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Turn whatever urllib3 and the socket raise into HttpError with its reason."""
    try:
        yield
    except HttpError:
        raise
    except (HTTPError, OSError, ValueError) as error:
        # ValueError: urllib3 and http.client raise it for header values and URLs they refuse.
        raise HttpError(_reason_of(error)) from error


def _reason_of(error: BaseException) -> str:
    if time.monotonic() >= _call.deadline:
        return "timeout"
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, PermissionError):
            return "private_address"
        if isinstance(seen, TimeoutError):
            return "timeout"
        if isinstance(seen, ConnectionRefusedError | socket.gaierror):
            return "connection"
        seen = seen.__cause__ or seen.__context__
    return "broken"
