"""What a WSGI application returns: in one piece, counted until it is closed, or as plain text."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING

from common.errors import ApiError, Overloaded

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse


class CountedStream:
    """A streamed body that calls `on_close` once, when it is closed."""

    def __init__(self, body: Iterable[bytes], on_close: Callable[[], None]) -> None:
        self._body = body
        self._on_close: Callable[[], None] | None = on_close

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        on_close, self._on_close = self._on_close, None
        if on_close is None:
            return
        try:
            close(self._body)
        finally:
            on_close()


# Downloads that are being read, in a process and for one account. The server has a few hundred
# threads to spare.
MOST_DOWNLOADS = 128
MOST_DOWNLOADS_OF_ONE = 32
TOO_MANY_DOWNLOADS = "Too many downloads are running. Finish one, then try again."

_downloads: Counter[Hashable] = Counter()
# The garbage collector may close one at any moment, also while this thread holds the lock.
_lock = threading.RLock()


class Download:
    """A body that its client reads at its own speed. Its thread waits, and counts, until the end.

    Raises Overloaded if its owner, or everybody together, reads as many as there may be.
    """

    def __init__(self, body: Iterable[bytes], owner: Hashable) -> None:
        self._body = body
        self._whose: tuple[Hashable, ...] = ()
        with _lock:
            is_too_many = _downloads.total() >= MOST_DOWNLOADS
            if is_too_many or _downloads[owner] >= MOST_DOWNLOADS_OF_ONE:
                raise Overloaded(TOO_MANY_DOWNLOADS)
            _downloads[owner] += 1
            self._whose = (owner,)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        close(self._body)
        with _lock:
            whose, self._whose = self._whose, ()
            _downloads.subtract(whose)
            for owner in whose:
                if not _downloads[owner]:
                    del _downloads[owner]

    # For an answer that never reached the server.
    __del__ = close


def whole(body: Iterable[bytes]) -> list[bytes]:
    """Return a complete body in one piece, and close it."""
    try:
        return [b"".join(body)]
    finally:
        close(body)


def close(body: Iterable[bytes]) -> None:
    """Close a response body, if it has a close method."""
    if hasattr(body, "close"):
        body.close()


def plain_answer(error: ApiError, start_response: StartResponse) -> list[bytes]:
    """Answer a page's request in plain text when it cannot be passed on."""
    body = f"{error.message}\n".encode()
    headers = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
    headers |= error.headers
    if error.retry_after:
        headers["Retry-After"] = str(error.retry_after)
    start_response(f"{error.status} {HTTPStatus(error.status).phrase}", [*headers.items()])
    return [body]
