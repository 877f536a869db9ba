"""HTTP requests that no visitor waits for, sent by `requests` with the guards of common/http.py.

docs/decisions/0036 says when to use which. `requests` only limits each read, so a request runs on a
thread of its own, whose socket is shut down at the deadline.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from http.client import HTTPException
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import SSLError, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError as Urllib3Error
from urllib3.exceptions import SSLError as Urllib3SslError

from common.addresses import is_public_address
from common.http import (
    CONNECT_TIMEOUT_SECONDS,
    USER_AGENT,
    HttpError,
    HttpResponse,
    require_plain_fields,
    require_web_address,
)

_CHUNK_BYTES = 64 * 1024


def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes = b"",
    deadline: float,
    max_bytes: int,
    allow_private: bool = False,
) -> HttpResponse:
    """Send a request and return the whole answer, whatever its status.

    `deadline` is a time.monotonic() value. It covers the name look-up, connecting, sending,
    headers, and body together. Raises HttpError with the reasons of `common.http.post`. Never
    retries, never follows a redirect, and keeps no connection.
    """
    require_web_address(url)
    require_plain_fields(headers)
    if deadline <= time.monotonic():
        raise HttpError("timeout")
    call = _Call(deadline, allow_private)
    answer: Future[HttpResponse] = Future()

    def work() -> None:
        try:
            answer.set_result(_send(call, method, url, headers, body, max_bytes))
        except BaseException as error:  # noqa: BLE001  # raised again by the thread that waits
            answer.set_exception(error)

    threading.Thread(target=work, name="web.request", daemon=True).start()
    try:
        return answer.result(timeout=max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        raise HttpError("timeout") from None
    finally:
        call.end()


# --- Connecting -----------------------------------------------------------------------------------


class _Call:
    """Connects a request, and ends it at its deadline."""

    def __init__(self, deadline: float, allow_private: bool) -> None:
        self._deadline = deadline
        self._allow_private = allow_private
        self._lock = threading.Lock()
        self._is_over = False
        self._socket: socket.socket | None = None

    def connect(self, host: str, port: int) -> socket.socket:
        """Return a socket to one of this host's addresses, tried one after the other.

        Checks each address and connects to that very address, so a DNS change after the check has
        no effect. Raises HttpError.
        """
        reason = "connection"
        for family, address in _resolve(host, port):
            if not self._allow_private and not is_public_address(str(address[0])):
                reason = "private_address"
                continue
            try:
                sock = _connect(family, address, min(CONNECT_TIMEOUT_SECONDS, self.seconds_left()))
            except TimeoutError:
                reason = "timeout"
            except OSError:
                reason = "connection"
            else:
                return self._hold(sock)
        raise HttpError(reason)

    def seconds_left(self) -> float:
        """Return the time left. Raises HttpError if none is left."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise HttpError("timeout")
        return left

    def end(self) -> None:
        """Shut down the connection, so that a thread that still reads it stops."""
        with self._lock:
            self._is_over = True
            if self._socket:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
                self._socket.close()

    def _hold(self, sock: socket.socket) -> socket.socket:
        # A second descriptor of the connection, because TLS takes over the first.
        with self._lock:
            if self._is_over:
                sock.close()
                raise HttpError("timeout")
            self._socket = sock.dup()
        sock.settimeout(None)  # `end` bounds all that follows
        return sock


def _resolve(host: str, port: int) -> list[tuple[int, Any]]:
    """Return the addresses of a host with their families. Raises HttpError if there are none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise HttpError("connection") from None
    return [(family, address) for family, _, _, _, address in found]


def _connect(family: int, address: Any, seconds: float) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(seconds)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


# --- Sending --------------------------------------------------------------------------------------


class _Adapter(HTTPAdapter):
    """Connects with our own function, and trusts the certificate authorities that Python trusts."""

    def __init__(self, connect: Callable[[str, int], socket.socket]) -> None:
        self._connect = connect
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        # Named by SSL_CERT_FILE or SSL_CERT_DIR, as for common/http.py.
        super().init_poolmanager(*args, ssl_context=ssl.create_default_context(), **kwargs)

        def new_conn(connection: HTTPConnection) -> socket.socket:
            # urllib3 has no public way to choose the address.
            return self._connect(connection._dns_host.strip("[]"), connection.port or 0)

        def connecting(pool: type[HTTPConnectionPool], kind: type[HTTPConnection]) -> Any:
            own = type("_Connection", (kind,), {"_new_conn": new_conn})
            return type("_Pool", (pool,), {"ConnectionCls": own})

        self.poolmanager.pool_classes_by_scheme = {
            "http": connecting(HTTPConnectionPool, HTTPConnection),
            "https": connecting(HTTPSConnectionPool, HTTPSConnection),
        }

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave the context unchanged. It verifies; `requests` would add its own authorities."""


class _Session(requests.Session):
    """Takes nothing from the environment, and follows no redirect."""

    def __init__(self, adapter: HTTPAdapter) -> None:
        super().__init__()
        self.trust_env = False  # no proxies, no .netrc
        self.headers.clear()
        for scheme in ("http://", "https://"):
            self.mount(scheme, adapter)

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None. For a target, requests would read the whole body, however long it is."""


def _send(
    call: _Call, method: str, url: str, headers: Mapping[str, str], body: bytes, max_bytes: int
) -> HttpResponse:
    own = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", "Connection": "close"}
    try:
        with (
            _Session(_Adapter(call.connect)) as session,
            session.request(
                method,
                url,
                headers=own | dict(headers),
                data=body or None,
                stream=True,
                timeout=call.seconds_left(),
                allow_redirects=False,
            ) as response,
        ):
            return HttpResponse(*_head(response), _read(response, max_bytes))
    except (SSLError, Urllib3SslError):
        raise HttpError("tls") from None
    except (Timeout, TimeoutError):
        raise HttpError("timeout") from None
    except (OSError, ValueError, HTTPException, Urllib3Error):  # requests' own errors are OSErrors
        raise HttpError("broken") from None


def _head(response: requests.Response) -> tuple[int, dict[str, str]]:
    headers = {name.lower(): value for name, value in response.headers.items()}
    # A compressed body could expand to any size, and we asked for none.
    if headers.get("content-encoding", "identity") != "identity":
        raise HttpError("encoding")
    return response.status_code, headers


def _read(response: requests.Response, max_bytes: int) -> bytes:
    pieces, size = [], 0
    for piece in response.raw.stream(_CHUNK_BYTES, decode_content=False):
        pieces.append(piece)
        size += len(piece)
        if size > max_bytes:
            raise HttpError("too_large")
    return b"".join(pieces)
