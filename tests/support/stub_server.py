"""A raw-socket HTTP server for tests. It sends exactly the bytes that a test specifies."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

BACKLOG = 128


@dataclass
class Request:
    """A request as received. Header names are lower case."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Peer:
    """One accepted connection."""

    sock: socket.socket
    stopping: threading.Event
    buffer: bytes = b""
    sent_bytes: int = field(default=0)

    def read_request(self) -> Request | None:
        """Return the next request, or None if the client disconnected."""
        while b"\r\n\r\n" not in self.buffer:
            if not self._receive():
                return None
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        line, *rows = head.decode("latin-1").split("\r\n")
        pairs = [row.split(": ", 1) for row in rows]
        headers = {name.lower(): value for name, value in pairs}
        length = int(headers.get("content-length", "0"))
        while len(self.buffer) < length:
            if not self._receive():
                return None
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return Request(line, headers, body)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)
        self.sent_bytes += len(data)

    def pause(self, seconds: float) -> bool:
        """Wait, then return whether the server should go on."""
        return not self.stopping.wait(seconds)

    def drip(self, data: bytes, *, every: float) -> None:
        """Send one byte at a time until the client disconnects."""
        for byte in data:
            if not self.pause(every):
                return
            self.send(bytes([byte]))

    def hang_up(self) -> None:
        _close(self.sock)

    def _receive(self) -> bool:
        data = self.sock.recv(64 * 1024)
        self.buffer += data
        return bool(data)


Handler = Callable[[Peer, Request], None]


def answer(body: bytes = b"{}", *, status: str = "200 OK", **headers: str) -> bytes:
    """Return a whole HTTP answer."""
    rows = {"Content-Length": str(len(body))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in rows.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


class StubServer:
    """Listens on loopback. Calls `handler` for every request, in the connection's thread.

    A handler that returns keeps the connection; one that closes the peer's socket ends it.
    """

    def __init__(
        self,
        handler: Handler | bytes = b"",
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        said = handler
        self.handler: Handler = (
            (lambda peer, request: peer.send(said or answer())) if isinstance(said, bytes) else said
        )
        self.requests: list[Request] = []
        self.peers: list[Peer] = []
        self._tls = tls
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.socket(family)
        self._listener.bind((host, 0))
        self._listener.listen(BACKLOG)
        self.port: int = self._listener.getsockname()[1]

    @property
    def connection_count(self) -> int:
        return len(self.peers)

    def url(self, path: str = "/v1/x", *, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def __enter__(self) -> StubServer:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        for sock in [self._listener, *(peer.sock for peer in self.peers)]:
            _close(sock)
        for thread in self._threads:
            thread.join(5)

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            peer = Peer(sock, self._stopping)
            self.peers.append(peer)
            self._start(self._serve, peer)

    def _serve(self, peer: Peer) -> None:
        try:
            if self._tls:
                peer.sock = self._tls.wrap_socket(peer.sock, server_side=True)
            while request := peer.read_request():
                self.requests.append(request)
                self.handler(peer, request)
        except OSError:  # the client disconnected, the test is over, or TLS was refused
            pass
        finally:
            _close(peer.sock)


def _close(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)  # wakes a thread blocked in accept or recv
    except OSError:
        pass
    sock.close()
