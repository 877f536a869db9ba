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

import orjson
from django.db import connection

from channels.callers import Caller
from channels.providers.base import Delta
from common.threads import Threads
from conversations.chat.answer import Asked, Format, answer
from conversations.chat.calls import Answer, Answering, Begun, Replay
from server import slots

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


# The items of a stream.
Item = Begun | Answering | Delta | Answer | Replay | BaseException


class Stream:
    """A running turn. Its items: the start, the provider, pieces, then its answer or its error.

    The turn takes its own slot, and the request that starts it gives its slot back.
    """

    def __init__(self, caller: Caller, asked: Asked, *, request_id: str) -> None:
        self._items: SimpleQueue[Item] = SimpleQueue()
        self._turn = threading.Lock()
        self._turn.acquire()  # released when the turn has ended
        context = contextvars.copy_context()
        work = partial(self._work, caller, asked, request_id, slots.handed_over())
        _threads.start(partial(context.run, work))

    def _work(
        self,
        caller: Caller,
        asked: Asked,
        request_id: str,
        holding: Callable[[], AbstractContextManager[None]],
    ) -> None:
        tell = self._items.put
        try:
            with holding():
                told = answer(caller=caller, asked=asked, request_id=request_id, tell=tell)
            self._items.put(told)
        except BaseException as error:  # noqa: BLE001  # handed to the reader, which raises it
            self._items.put(error)
        finally:
            try:
                connection.close()
            finally:
                self._turn.release()

    def next(self, timeout: float | None = None) -> Item:
        """Return the next item, result or error. Raises queue.Empty after `timeout` seconds."""
        return self._items.get(timeout=timeout)

    def next_ones(self, timeout: float) -> list[Item]:
        """Return the next item and those already queued behind it. Raises as `next` does."""
        items = [self._items.get(timeout=timeout)]
        while len(items) < MOST_AT_ONCE and not self._items.empty():
            items.append(self._items.get())
        return items

    def finish(self) -> None:
        """Wait until the turn has ended, whether or not anyone still reads."""
        with self._turn:
            pass


def event(name: str, data: bytes) -> bytes:
    """Return one event. `data` is JSON on one line."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


def delta(text: str) -> bytes:
    """Return the event for a piece of text."""
    return event("delta", orjson.dumps({"text": text}))


def frames(stream: Stream, form: Format) -> Iterator[bytes]:
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
            assert isinstance(last, Answer), "a replay is no running stream"
            yield form.end(last)
    finally:
        stream.finish()
