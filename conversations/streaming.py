"""A reply as server-sent events, while the accounting runs on without its reader.

The turn runs on a thread of its own and hands pieces over through a queue. When the caller
hangs up, that thread goes on to the end: the turn is finished, stored and charged as if they had
stayed. Format: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

import orjson
from django.db import connection

T = TypeVar("T")

# Long enough to cost nothing, short enough for proxies that close silent connections.
KEEP_ALIVE_SECONDS = 15.0
KEEP_ALIVE = b": keep-alive\n\n"


class Stream(Generic[T]):
    """A running turn: pieces of text first, then its result or what it raised."""

    def __init__(self, run: Callable[[Callable[[str], None]], T]) -> None:
        self._items: SimpleQueue[str | T | BaseException] = SimpleQueue()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._work, run))
        self._thread.start()

    def _work(self, run: Callable[[Callable[[str], None]], T]) -> None:
        try:
            self._items.put(run(self._items.put))
        except BaseException as error:  # noqa: BLE001  # handed to the reader, which raises it
            self._items.put(error)
        finally:
            connection.close()

    def next(self, timeout: float | None = None) -> str | T | BaseException:
        """Return the next piece, result or error. Raises queue.Empty after `timeout` seconds."""
        return self._items.get(timeout=timeout)

    def finish(self) -> None:
        """Wait until the turn has ended, whoever still reads."""
        self._thread.join()


def event(name: str, data: bytes) -> bytes:
    """Return one event; `data` is JSON on one line."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


def delta(text: str) -> bytes:
    """Return the event of a piece of text."""
    return event("delta", orjson.dumps({"text": text}))


def frames(
    stream: Stream[T],
    first: str,
    *,
    render_end: Callable[[T], bytes],
    render_error: Callable[[Exception], bytes],
) -> Iterator[bytes]:
    """Yield the events of a stream whose first piece has arrived, each as soon as it does.

    Ends with one `done` or one `error`. Closing it early waits for the turn, not for a reader.
    """
    item: str | T | BaseException = first
    try:
        while isinstance(item, str):
            yield delta(item)
            while True:
                try:
                    item = stream.next(KEEP_ALIVE_SECONDS)
                    break
                except Empty:
                    yield KEEP_ALIVE
        if isinstance(item, Exception):
            yield event("error", render_error(item))
        elif isinstance(item, BaseException):
            raise item
        else:
            yield event("done", render_end(item))
    finally:
        stream.finish()
