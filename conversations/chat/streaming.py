"""A reply as server-sent events. The turn does not depend on its reader.

The turn runs on its own thread and passes pieces on through a queue. If the caller disconnects,
that thread continues to the end: the turn is finished, stored, and charged as if the caller had
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
from common.threads import Threads
from conversations.chat.calls import Answering, Begun, Tell
from server import slots

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

# Short enough for proxies that close silent connections. For this long after a call begins, a
# failure is still answered with its own status. After that, comments keep the connection alive.
KEEP_ALIVE_SECONDS = 10.0
KEEP_ALIVE = b": keep-alive\n\n"
# The most pieces in one write, so that a slow reader does not get everything at once.
MOST_AT_ONCE = 64

# What a turn passes on before its end, and the pieces of text among it.
_PIECES = (str, dict)
_BEFORE_THE_END = (Begun, Answering, *_PIECES)

_threads = Threads()


class Stream(Generic[T]):
    """A running turn. Its items: the start, the provider, pieces, then its result or its error.

    The turn takes its own slot, and the request that starts it gives its slot back.
    """

    def __init__(self, run: Callable[[Tell], T]) -> None:
        self._items: SimpleQueue[Begun | Answering | Delta | T | BaseException] = SimpleQueue()
        self._turn = threading.Lock()
        self._turn.acquire()  # released when the turn has ended
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
        """Return the next item and those already queued behind it. Raises as `next` does."""
        items = [self._items.get(timeout=timeout)]
        while len(items) < MOST_AT_ONCE and not self._items.empty():
            items.append(self._items.get())
        return items

    def finish(self) -> None:
        """Wait until the turn has ended, whether or not anyone still reads."""
        with self._turn:
            pass


class Format(Protocol[T_contra]):
    """How an endpoint writes a stream. Each method returns complete events."""

    def delta(self, delta: Delta) -> bytes:
        """Return the events of a piece."""
        ...

    def end(self, result: T_contra) -> bytes:
        """Return the events after the last piece."""
        ...

    def error(self, error: Exception) -> bytes:
        """Return the events that end a stream that broke off."""
        ...


def event(name: str, data: bytes) -> bytes:
    """Return one event. `data` is JSON on one line."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


def delta(text: str) -> bytes:
    """Return the event for a piece of text."""
    return event("delta", orjson.dumps({"text": text}))


def frames(stream: Stream[T], form: Format[T]) -> Iterator[bytes]:
    """Yield the events of a running stream as they arrive, and comments while none arrive.

    Ends with the result or one error. Closing the iterator early waits for the turn to end.
    """
    try:
        while True:
            try:
                items = stream.next_ones(KEEP_ALIVE_SECONDS)
            except Empty:
                yield KEEP_ALIVE
                continue
            pieces = [form.delta(item) for item in items if isinstance(item, _PIECES)]
            if pieces:
                yield b"".join(pieces)
            last = items[-1]
            if not isinstance(last, _BEFORE_THE_END):
                break
        if isinstance(last, Exception):
            yield form.error(last)
        elif isinstance(last, BaseException):
            raise last
        else:
            yield form.end(last)
    finally:
        stream.finish()
