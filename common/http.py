"""The way out for chats and probes: pooled, with a total deadline, a byte cap, no redirects.

Everything else goes through common/web.py (docs/decisions/0036). This uses libcurl
(docs/decisions/0019), whose deadline covers the whole call, from the name look-up to the last byte,
and which lets us check the address of every socket it opens.
"""

from __future__ import annotations

import io
import math
import os
import re
import select
import socket
import ssl
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar, cast

import pycurl

from common.addresses import is_public_address

CONNECT_TIMEOUT_SECONDS = 5.0
# pycurl's own user agent names its version and that of every library beneath it.
USER_AGENT = "gateway"
# As many kept connections for each address as a process has threads by default.
POOL_SIZE = 64


class HttpError(Exception):
    """There is no usable answer. `reason` is a short stable word for logs and tests."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A complete answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


# --- Connections --------------------------------------------------------------------------------


def _open_public_socket(refused: list[str], purpose: int, address: Any) -> socket.socket | int:
    """Give libcurl a socket for a resolved address, unless the address is private.

    libcurl connects to this very address, so a DNS change after the check has no effect.
    """
    host = str(address.addr[0])
    if is_public_address(host):
        return _new_socket(address)
    refused.append(host)
    return pycurl.SOCKET_BAD


def _new_socket(address: Any) -> socket.socket | int:
    return socket.socket(address.family, address.socktype, address.protocol)


# CURLOPT_QUICK_EXIT, which pycurl does not name. If looking up a name takes longer than the call
# may, closing the handle must not wait for the resolver thread.
# https://curl.se/libcurl/c/CURLOPT_QUICK_EXIT.html
_QUICK_EXIT = 322

_OPTIONS: dict[int, Any] = {
    _QUICK_EXIT: 1,
    pycurl.USERAGENT: USER_AGENT,
    pycurl.NOSIGNAL: 1,  # a signal could reach any thread
    pycurl.POST: 1,
    pycurl.FOLLOWLOCATION: 0,
    pycurl.PROXY: "",  # ignores the environment's proxy
    pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
    pycurl.HTTP_CONTENT_DECODING: 0,
    pycurl.CONNECTTIMEOUT_MS: int(CONNECT_TIMEOUT_SECONDS * 1000),
    # Smaller than the defaults (64 and 16 KiB), because a connection holds them for as long as the
    # provider takes: the minimum for sending, and about one short answer for receiving.
    pycurl.UPLOAD_BUFFERSIZE: 16 * 1024,
    pycurl.BUFFERSIZE: 4 * 1024,
    # If a kept connection ends without an answer, libcurl would send the request again. But the
    # provider may already be working on it. Failing the seek back to the start of the body prevents
    # that.
    pycurl.SEEKFUNCTION: lambda *_: pycurl.SEEKFUNC_FAIL,
}

# https://curl.se/libcurl/c/libcurl-errors.html. Every other code is `broken`.
_REASONS = {
    pycurl.E_OPERATION_TIMEDOUT: "timeout",
    pycurl.E_COULDNT_RESOLVE_HOST: "connection",
    pycurl.E_COULDNT_CONNECT: "connection",
    pycurl.E_FILESIZE_EXCEEDED: "too_large",
    pycurl.E_URL_MALFORMAT: "address",
    pycurl.E_SSL_CONNECT_ERROR: "tls",
    pycurl.E_PEER_FAILED_VERIFICATION: "tls",
    pycurl.E_SSL_CACERT_BADFILE: "tls",
}

_NOT_IN_A_FIELD = re.compile("[\\r\\n\\0]")


def require_plain_fields(headers: Mapping[str, str]) -> list[str]:
    """Return the lines of a head. Raises HttpError if one holds more than a field of ASCII."""
    fields = [f"{name}: {value}" for name, value in headers.items()]
    if not all(map(str.isascii, fields)) or any(map(_NOT_IN_A_FIELD.search, fields)):
        raise HttpError("broken")
    return fields


def require_web_address(url: str) -> None:
    """Raise HttpError unless the URL is an ASCII one of http or https."""
    if not url.lower().startswith(("http://", "https://")) or not url.isascii() or "\0" in url:
        raise HttpError("address")


class _Connection:
    """A libcurl handle and the connection it keeps: for one call at a time, to one address."""

    # The socket, if libcurl does not report it.
    _descriptor = -1
    # Whether the last answer was read to its end, so that another request can follow.
    is_at_rest = True

    def __init__(self, url: str, allow_private: bool) -> None:
        require_web_address(url)
        self._lines: list[bytes] = []
        self._pieces: list[bytes] = []
        self._refused: list[str] = []
        self._curl = pycurl.Curl()
        for option, value in (_OPTIONS | _trusted()).items():
            self._curl.setopt(option, value)
        self._curl.setopt(pycurl.HEADERFUNCTION, self._lines.append)
        self._curl.setopt(pycurl.WRITEFUNCTION, self._pieces.append)
        if not allow_private:
            opens = partial(_open_public_socket, self._refused)
            self._curl.setopt(pycurl.OPENSOCKETFUNCTION, opens)
        self._curl.setopt(pycurl.URL, url)

    def is_closed_by_peer(self) -> bool:
        """Whether the peer closed the kept connection; libcurl itself looks only once a second."""
        descriptor = self._descriptor
        if descriptor < 0:
            descriptor = int(self._curl.getinfo(pycurl.ACTIVESOCKET))
        if descriptor < 0:
            return False
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))

    def prepare(self, headers: Mapping[str, str], body: bytes, max_bytes: int) -> None:
        """Set the next request. Raises HttpError for a header that is not a field of ASCII."""
        fields = require_plain_fields(headers)
        for left in (self._lines, self._pieces, self._refused):
            left.clear()
        # Without this, libcurl sends `Expect` with a long body and waits for permission.
        self._curl.setopt(pycurl.HTTPHEADER, [*fields, "Accept-Encoding: identity", "Expect:"])
        self._curl.setopt(pycurl.POSTFIELDSIZE_LARGE, len(body))
        self._curl.setopt(pycurl.READFUNCTION, io.BytesIO(body).read)
        self._curl.setopt(pycurl.MAXFILESIZE_LARGE, max_bytes)

    def ask(self, deadline: float) -> None:
        """Send the request and receive the whole answer. Raises HttpError or pycurl.error."""
        self._curl.setopt(pycurl.TIMEOUT_MS, _milliseconds_until(deadline))
        self._curl.perform()

    def head(self) -> tuple[int, dict[str, str]]:
        """Return status and headers. Raises HttpError if the body is encoded.

        The headers are those of the last head: interim answers come before it, trailers after it.
        """
        headers: dict[str, str] = {}
        is_open = False
        for line in self._lines:
            name, colon, value = line.decode("latin-1").partition(":")
            if line.startswith(b"HTTP/"):
                headers, is_open = {}, True
            elif not colon:
                is_open = False
            elif is_open:
                headers[name.strip().lower()] = value.strip()
        # A compressed body could expand to any size, and we asked for none.
        if headers.get("content-encoding", "identity") != "identity":
            raise HttpError("encoding")
        return int(self._curl.getinfo(pycurl.RESPONSE_CODE)), headers

    def take(self) -> bytes:
        """Return the part of the body that has arrived since the last call."""
        came = b"".join(self._pieces)
        self._pieces.clear()
        return came

    def peek(self) -> bytes:
        """Return the same without consuming it."""
        return b"".join(self._pieces)

    def reason_of(self, code: int) -> str:
        """Return our word for a libcurl error."""
        if self._refused and code == pycurl.E_COULDNT_CONNECT:
            return "private_address"
        return _REASONS.get(code, "broken")

    def close(self) -> None:
        self._curl.close()


_WANTED = {
    pycurl.POLL_NONE: 0,
    pycurl.POLL_IN: select.POLLIN,
    pycurl.POLL_OUT: select.POLLOUT,
    pycurl.POLL_INOUT: select.POLLIN | select.POLLOUT,
}


class _StreamConnection(_Connection):
    """A connection whose answer is read as it arrives.

    libcurl tells which sockets to wait for
    (https://curl.se/libcurl/c/curl_multi_socket_action.html). We wait with poll, because pycurl's
    own wait uses select, which fails for descriptors above 1,023.
    """

    def __init__(self, url: str, allow_private: bool) -> None:
        super().__init__(url, allow_private)
        self._is_running = False
        self._error: int | None = None
        self._poll = select.poll()
        self._wake_at = math.inf
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)

    def ask(self, deadline: float) -> None:
        """Send the request and wait for the answer to begin. Raises HttpError or pycurl.error.

        The reader sets the deadlines of everything that follows.
        """
        _milliseconds_until(deadline)  # send nothing if it has passed
        self._is_running, self.is_at_rest = True, False
        self._multi.add_handle(self._curl)
        self.wait(deadline)

    def wait(self, deadline: float) -> None:
        """Wait until more has arrived or the answer has ended. Raises HttpError."""
        while self._is_running and not self._pieces:
            self._advance(_milliseconds_until(deadline))
        if self._error is not None and not self._pieces:
            raise HttpError(self.reason_of(self._error))

    def close(self) -> None:
        if self._is_running:
            self._multi.remove_handle(self._curl)
        super().close()
        self._multi.close()

    def _advance(self, most_milliseconds: int) -> None:
        """Wait for libcurl's sockets or its timer, then let it act."""
        until_timer = max(0.0, self._wake_at - time.monotonic()) * 1000
        ready = self._poll.poll(min(math.ceil(min(until_timer, 60_000)), most_milliseconds))
        for descriptor, events in ready:
            self._act(descriptor, _readiness(events))
        if not ready and time.monotonic() >= self._wake_at:
            self._wake_at = math.inf
            self._act(pycurl.SOCKET_TIMEOUT, 0)

    def _act(self, descriptor: int, readiness: int) -> None:
        _, running = self._multi.socket_action(descriptor, readiness)
        if running or not self._is_running:
            return
        self._is_running = False
        _, _, failed = self._multi.info_read()
        self._error = failed[0][1] if failed else None
        self.is_at_rest = self._error is None
        # libcurl no longer reports it once the handle is removed.
        self._descriptor = int(self._curl.getinfo(pycurl.ACTIVESOCKET))
        self._multi.remove_handle(self._curl)

    def _watch(self, wanted: int, descriptor: int, *_: Any) -> None:
        if wanted == pycurl.POLL_REMOVE:
            with suppress(KeyError):
                self._poll.unregister(descriptor)
        else:
            self._poll.register(descriptor, _WANTED[wanted])

    def _set_timer(self, milliseconds: int) -> None:
        self._wake_at = math.inf if milliseconds < 0 else time.monotonic() + milliseconds / 1000


def _readiness(events: int) -> int:
    return (
        (pycurl.CSELECT_IN if events & select.POLLIN else 0)
        | (pycurl.CSELECT_OUT if events & select.POLLOUT else 0)
        | (pycurl.CSELECT_ERR if events & ~(select.POLLIN | select.POLLOUT) else 0)
    )


def _trusted() -> dict[int, str | None]:
    """Trust the certificate authorities that Python trusts.

    OpenSSL reads from a folder only what it needs, but parses a file as a whole for each
    connection, which costs 0.8 MB and 3.5 ms more. So use the folder if it will do, unless the
    operator named a file.
    """
    paths = ssl.get_default_verify_paths()
    is_named = paths.openssl_cafile_env in os.environ
    if paths.capath and _is_hashed(paths.capath) and not is_named:
        return {pycurl.CAINFO: None, pycurl.CAPATH: paths.capath}
    found = {pycurl.CAINFO: paths.cafile, pycurl.CAPATH: paths.capath}
    return {option: path for option, path in found.items() if path}


@cache
def _is_hashed(folder: str) -> bool:
    """Whether OpenSSL can find certificates in a folder, under the names that `c_rehash` gives."""
    return any(Path(folder).glob("*.0"))


def _milliseconds_until(deadline: float) -> int:
    """Return the time left in milliseconds, at least 1. Raises HttpError if none is left."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise HttpError("timeout")
    return math.ceil(left * 1000)


# --- Calls --------------------------------------------------------------------------------------

_Kind = TypeVar("_Kind", bound=_Connection)

# Idle connections. One created where private addresses are allowed never serves a call where they
# are not.
_idle: defaultdict[tuple[type[_Connection], str, bool], list[_Connection]] = defaultdict(list)


@contextmanager
def _connection(kind: type[_Kind], url: str, allow_private: bool) -> Iterator[_Kind]:
    """Lend a connection. Keep it for another call if its answer was read to the end.

    Raises HttpError for any libcurl error inside the block.
    """
    idle = cast(list[_Kind], _idle[kind, url, allow_private])
    connection: _Kind | None = None
    while connection is None:
        try:
            connection = idle.pop()
        except IndexError:  # not `while idle`: another thread may take the last one
            connection = kind(url, allow_private)
            break
        if connection.is_closed_by_peer():
            connection.close()
            connection = None
    try:
        yield connection
    except BaseException as error:
        connection.close()
        if isinstance(error, pycurl.error):
            raise HttpError(connection.reason_of(int(error.args[0]))) from None
        raise
    if connection.is_at_rest and len(idle) < POOL_SIZE:
        idle.append(connection)
    else:
        connection.close()


def close_idle() -> None:
    """Close every idle connection, so that a test begins with none."""
    for idle in list(_idle.values()):
        while idle:
            idle.pop().close()


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

    `deadline` is a time.monotonic() value. It covers the name look-up, connecting, sending,
    headers, and body together. Raises HttpError with reason `timeout`, `connection`, `tls`,
    `private_address`, `address`, `too_large`, `encoding`, or `broken` (the answer ended early or is
    not HTTP). Never retries and never follows a redirect.
    """
    with _connection(_Connection, url, allow_private) as connection:
        connection.prepare(headers, body, max_bytes)
        connection.ask(deadline)
        return HttpResponse(*connection.head(), connection.take())


# The longest line of a stream, and the largest answer that turns out not to be a stream. This much
# is held in memory at once.
MAX_LINE_BYTES = 1024 * 1024


class LineStream:
    """An answer that arrives line by line. The caller of `lines` bounds each wait."""

    def __init__(self, connection: _StreamConnection, deadline: float) -> None:
        self.status, self.headers = connection.head()
        self._connection = connection
        self._deadline = deadline

    def lines(self, next_deadline: Callable[[], float]) -> Iterator[bytes]:
        """Yield lines as they arrive, without their ends (CR, LF, or both).

        `next_deadline` bounds each wait.
        """
        held: list[bytes] = []  # the pieces of an unfinished line, joined once at its end
        size = 0
        was_return = False
        for came in self._pieces(next_deadline):
            piece = came[1:] if was_return and came[:1] == b"\n" else came
            was_return = came[-1:] == b"\r"
            if b"\r" in piece:
                piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            held.append(piece)
            size += len(piece)
            if b"\n" in piece:
                *lines, rest = b"".join(held).split(b"\n")
                held, size = [rest], len(rest)
                yield from lines
            if size > MAX_LINE_BYTES:
                raise HttpError("too_large")
        if size:
            yield b"".join(held)

    def first_bytes(self) -> bytes:
        """Return the part of the body that has arrived unread, without consuming it."""
        return self._connection.peek()

    def read(self) -> bytes:
        """Return the whole body, for an answer that turned out not to be a stream."""
        pieces, size = [], 0
        for piece in self._pieces(lambda: self._deadline):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_LINE_BYTES:
                raise HttpError("too_large")
        return b"".join(pieces)

    def _pieces(self, next_deadline: Callable[[], float]) -> Iterator[bytes]:
        while True:
            self._connection.wait(next_deadline())
            piece = self._connection.take()
            if not piece:
                return
            yield piece


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
    """POST `body` and yield the answer as it arrives; `deadline` bounds the wait for its start.

    Raises HttpError as `post` does, also for failures inside the block.
    """
    with _connection(_StreamConnection, url, allow_private) as connection:
        connection.prepare(headers, body, max_bytes)
        connection.ask(deadline)
        yield LineStream(connection, deadline)
