"""An event loop as cheap as Python allows: one selector, one heap of timers, callbacks.

A measuring tool must cost little compared with what it measures. asyncio's own loop and transports
would double the CPU of the mock provider and of the load generator.
"""

from __future__ import annotations

import heapq
import itertools
import selectors
import socket
import time
from collections.abc import Callable

READ_BYTES = 256 * 1024
_READ = selectors.EVENT_READ


class Loop:
    """Runs callbacks of sockets and timers until it is stopped."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._running = False

    def on_readable(self, sock: socket.socket, callback: Callable[[], None]) -> None:
        self._selector.register(sock, _READ, callback)

    def forget(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)
        sock.close()

    def at(self, moment: float, callback: Callable[[], None]) -> None:
        """Call back at a time.perf_counter() value."""
        heapq.heappush(self._timers, (moment, next(self._order), callback))

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        self._running = True
        select, timers, clock = self._selector.select, self._timers, time.perf_counter
        while self._running:
            wait = max(0.0, timers[0][0] - clock()) if timers else None
            for key, _ in select(wait):
                key.data()
            while timers and timers[0][0] <= clock():
                heapq.heappop(timers)[2]()


def content_length(head: bytes) -> int:
    """Return the body's length according to a message's head, or 0 if it does not say."""
    at = head.find(b"ontent-") if b"ontent-" in head else -1
    while at >= 0:
        if head[at + 7 : at + 14].lower() == b"length:":
            return int(head[at + 14 : head.find(b"\r\n", at)])
        at = head.find(b"ontent-", at + 7)
    return 0
