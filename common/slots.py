"""How many requests a process works on at once, and how many calls it has in flight.

Slots bound the work: a request holds one while it needs the CPU and the database, and gives it
back while a provider talks, so that slow answers never hold up quick refusals. The call gate
bounds what is in flight: past it a request is refused at once, and no channel takes more than
half. Both shed load in one process; no limit or money depends on them.
"""

from __future__ import annotations

import io
import os
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from common.errors import Overloaded

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Bodies up to this size are read before a slot is taken; larger ones the application refuses.
PREREAD_BYTES = 1024 * 1024
# How long a request waits for a slot before it is answered 503.
SLOT_WAIT_SECONDS = 30.0
# A call that comes back must settle before its hold expires, with a slot or without.
RETURN_WAIT_SECONDS = 3.0


class _Held(threading.local):
    """The slots that the request on this thread holds one of."""

    slots: Slots | None = None


_held = _Held()


class Slots:
    """WSGI middleware: at most `limit` requests are worked on at once; the others wait.

    The server gives a request its thread before the body has arrived and cannot time a body
    out, so the body is read first, on a thread that holds no slot. Liveness skips the queue.
    A request that waits too long is passed on marked `gateway.overloaded`, for the application
    to answer 503 in its own words.
    """

    def __init__(self, app: WSGIApplication, limit: int) -> None:
        self.app = app
        self._semaphore = threading.Semaphore(limit)
        self._in_flight = 0
        self._idle = threading.Condition()
        # The server copies the process environment, secrets and all, into every request's
        # environ, from where an error page or report could show it.
        self._inherited = tuple(os.environ)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        for name in self._inherited:
            environ.pop(name, None)
        if environ["PATH_INFO"] == "/healthz":
            return self.app(environ, start_response)
        read_body(environ)
        self._count(1)
        try:
            response = self._work(environ, start_response)
        except BaseException:
            self._count(-1)
            raise
        if getattr(response, "streaming", True):
            # Its work is done but for waiting; only draining still counts it.
            return CountedStream(response, lambda: self._count(-1))
        try:
            return [b"".join(response)]
        finally:
            close(response)
            self._count(-1)

    def _work(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        has_slot = self._semaphore.acquire(timeout=SLOT_WAIT_SECONDS)
        environ["gateway.overloaded"] = not has_slot
        if not has_slot:
            return self.app(environ, start_response)
        _held.slots = self
        try:
            return self.app(environ, start_response)
        finally:
            self._leave()

    def _leave(self) -> None:
        if _held.slots is not None:
            _held.slots = None
            self._semaphore.release()

    def _come_back(self) -> None:
        if self._semaphore.acquire(timeout=RETURN_WAIT_SECONDS):
            _held.slots = self

    def _count(self, change: int) -> None:
        with self._idle:
            self._in_flight += change
            if not self._in_flight:
                self._idle.notify_all()

    def drain(self, timeout: float) -> bool:
        """Wait for calls whose client has left: the server itself waits for connections only."""
        with self._idle:
            return self._idle.wait_for(lambda: self._in_flight == 0, timeout)


@contextmanager
def slot_given_back() -> Iterator[None]:
    """Let others work during the block, which only waits; nothing happens outside `Slots`."""
    slots = _held.slots
    if slots is None:
        yield
        return
    slots._leave()
    try:
        yield
    finally:
        slots._come_back()


class CountedStream:
    """A streamed body that says once when it was closed."""

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


def close(body: Iterable[bytes]) -> None:
    """Close a response body, if it can be."""
    if hasattr(body, "close"):
        body.close()


def read_body(environ: WSGIEnvironment) -> None:
    """Replace a body of known, modest length by its bytes."""
    length = environ.get("CONTENT_LENGTH", "")
    if length.isascii() and length.isdigit() and 0 < int(length) <= PREREAD_BYTES:
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(int(length)))


class CallGate:
    """At most `limit` calls in flight, at most half of them for one owner."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._most_for_one = max(1, limit // 2)
        self._by_owner: Counter[Hashable] = Counter()
        self._total = 0
        self._lock = threading.Lock()

    @contextmanager
    def call(self, owner: Hashable) -> Iterator[None]:
        """Hold a place for the block. Raises Overloaded at once where there is none."""
        with self._lock:
            if self._total >= self._limit or self._by_owner[owner] >= self._most_for_one:
                raise Overloaded("Too many messages are being answered at the moment.")
            self._total += 1
            self._by_owner[owner] += 1
        try:
            yield
        finally:
            with self._lock:
                self._total -= 1
                self._by_owner[owner] -= 1
                if not self._by_owner[owner]:
                    del self._by_owner[owner]
