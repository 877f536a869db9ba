"""A reply as server-sent events, while the accounting runs on without its reader.

The turn runs on a thread of its own and hands pieces over through a queue. When the caller
hangs up, that thread goes on to the end: the turn is finished, stored and charged as if they had
stayed. Format: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar

import orjson
from django.db import connection

from channels.providers.base import Delta
from common import slots
from common.threads import Threads
from conversations.calls import Answering, Begun, Tell

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

# Short enough for proxies that close silent connections. For so long after a call has begun, a
# failure can still be an answer with its status; then comments tell that it goes on.
KEEP_ALIVE_SECONDS = 10.0
KEEP_ALIVE = b": keep-alive\n\n"
# Pieces in one write: of those that wait for a slow reader not all at once.
MOST_AT_ONCE = 64

_threads = Threads()


class Stream(Generic[T]):
    """A running turn: that it has begun, who answers, pieces, then its result or what it raised.

    It takes a slot for itself, and the request that starts it gives its own back.
    """

    def __init__(self, run: Callable[[Tell], T]) -> None:
        self._items: SimpleQueue[Begun | Answering | Delta | T | BaseException] = SimpleQueue()
        self._turn = threading.Lock()
        self._turn.acquire()  # until it has ended
        context = contextvars.copy_context()
        _threads.start(partial(context.run, self._work, run, slots.handed_over()))

    def _work(
        self, run: Callable[[Tell], T], holding: Callable[[], AbstractContextManager[None]]
    ) -> None:
        try:
            with holding():
                result = run(self._items.put)
            self._items.put(result)
        except BaseException as error:  # noqa: BLE001  # handed to the reader, which raises it
            self._items.put(error)
        finally:
            try:
                connection.close()
            finally:
                self._turn.release()

    def next(self, timeout: float | None = None) -> Begun | Answering | Delta | T | BaseException:
        """Return the next item, result or error. Raises queue.Empty after `timeout` seconds."""
        return self._items.get(timeout=timeout)

    def next_ones(self, timeout: float) -> list[Begun | Answering | Delta | T | BaseException]:
        """Return the next item and those that wait behind it already; raises as `next` does."""
        items = [self._items.get(timeout=timeout)]
        while len(items) < MOST_AT_ONCE and not self._items.empty():
            items.append(self._items.get())
        return items

    def finish(self) -> None:
        """Wait until the turn has ended, whoever still reads."""
        with self._turn:
            pass


class Format(Protocol[T_contra]):
    """How an endpoint writes a stream; each method returns whole events."""

    def delta(self, delta: Delta) -> bytes:
        """Return a piece."""
        ...

    def end(self, result: T_contra) -> bytes:
        """Return what comes after the last piece."""
        ...

    def error(self, error: Exception) -> bytes:
        """Return what ends a stream that broke off."""
        ...


def event(name: str, data: bytes) -> bytes:
    """Return one event; `data` is JSON on one line."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


def delta(text: str) -> bytes:
    """Return the event of a piece of text."""
    return event("delta", orjson.dumps({"text": text}))


def frames(stream: Stream[T], form: Format[T]) -> Iterator[bytes]:
    """Yield the events of a stream that has begun, as soon as they arrive, and comments meanwhile.

    Ends with its result or one error. Closing it early waits for the turn, not for a reader.
    """
    try:
        while True:
            try:
                items = stream.next_ones(KEEP_ALIVE_SECONDS)
            except Empty:
                yield KEEP_ALIVE
                continue
            pieces = [form.delta(item) for item in items if isinstance(item, str | dict)]
            if pieces:
                yield b"".join(pieces)
            last = items[-1]
            if not isinstance(last, Begun | Answering | str | dict):
                break
        if isinstance(last, Exception):
            yield form.error(last)
        elif isinstance(last, BaseException):
            raise last
        else:
            yield form.end(last)
    finally:
        stream.finish()
