"""Request bodies: how many a process reads at once, and for how long.

The server gives a request its thread once the headers are there. A read blocks that thread until
the body is complete or the client disconnects; nothing can interrupt it. So a process reads few
bodies at once, and few of them for one owner. If a read takes too long, another thread sends the
response while the blocked thread keeps waiting. A process with many threads blocked on clients that
never leave asks to be replaced.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from common.errors import InvalidRequest, Overloaded

logger = logging.getLogger("gateway.api")

# Reads at once in a process, and for one owner. Includes reads that have been answered but still
# block their thread.
MOST_READS = 256
MOST_READS_OF_ONE = 64
# How long a body may take from the first read to its last byte. The short limit applies while half
# of the places are taken.
PATIENCE_SECONDS = 10.0
SHORT_PATIENCE_SECONDS = 1.0
WATCH_SECONDS = 0.25
# A process with this many answered reads still blocked is worn.
WORN_READS = 32

# After a refusal, the gateway goes on reading what the server does not take from the socket itself,
# so that the client can read the answer. These limit how many at once, and for how long.
DRAIN_BYTES = 64 * 1024
MOST_DRAINS = 16
DRAIN_SECONDS = 2.0

TOO_SLOW = f"The body did not arrive within {PATIENCE_SECONDS:.0f} seconds. Send it without pauses."
TOO_MANY = "Too many request bodies are arriving right now. Try again shortly."


def size_of(environ: dict[str, Any]) -> int | None:
    """Return the declared length of a body: 0 if there is none, None if it is chunked."""
    if "HTTP_TRANSFER_ENCODING" in environ:
        return None
    declared = environ.get("CONTENT_LENGTH") or "0"
    return int(declared) if declared.isascii() and declared.isdigit() else 0


@dataclass(eq=False, slots=True)
class Read:
    """A body being read: its request, its start, and the headers of a late answer."""

    environ: dict[str, Any]
    since: float
    late_headers: Mapping[str, str]
    is_late: bool = False


class Bodies:
    """All request bodies that one process is reading.

    `answer_late` answers for a request whose own thread is blocked, with an error and its headers.
    """

    def __init__(self, answer_late: Callable[[Read], None], on_worn: Callable[[], None]) -> None:
        self._answer_late = answer_late
        self._on_worn = on_worn
        self._reads: dict[Read, None] = {}  # oldest first
        self._by_owner: Counter[Hashable] = Counter()
        self._drains = threading.BoundedSemaphore(MOST_DRAINS)
        self._lock = threading.Lock()
        self._some = threading.Event()
        self._watch: threading.Thread | None = None

    def read(
        self,
        environ: dict[str, Any],
        size: int,
        *,
        owner: Hashable,
        late_headers: Mapping[str, str] = MappingProxyType({}),
    ) -> bytes:
        """Return up to `size` bytes of a body. Raises Overloaded if no place is free.

        If the body takes too long, another thread answers the client, with `late_headers`. Then
        this raises the same InvalidRequest, and the response of this thread is discarded
        (`gateway.answered` in the environ).
        """
        read = Read(environ, time.monotonic(), late_headers)
        with self._lock:
            if len(self._reads) >= MOST_READS or self._by_owner[owner] >= MOST_READS_OF_ONE:
                raise Overloaded(TOO_MANY)
            self._reads[read] = None
            self._by_owner[owner] += 1
            if self._watch is None:
                self._watch = threading.Thread(target=self._keep_watch, daemon=True)
                self._watch.start()
        if not self._some.is_set():
            self._some.set()
        try:
            body: bytes = environ["wsgi.input"].read(size)
        finally:
            with self._lock:
                del self._reads[read]
                self._by_owner[owner] -= 1
                if not self._by_owner[owner]:
                    del self._by_owner[owner]
        if len(body) < size or environ.get("CONTENT_LENGTH") == str(size):
            environ["gateway.body_read"] = True
        if read.is_late:
            environ["gateway.answered"] = True
            raise InvalidRequest(TOO_SLOW)
        return body

    def _keep_watch(self) -> None:
        """Answer for reads that take too long, for as long as the process lives."""
        while self._some.wait():
            time.sleep(WATCH_SECONDS)
            late, lost = self._find_late()
            for read in late:
                try:
                    self._answer_late(read)
                except Exception:  # one failure must not end the watch
                    logger.exception("api.body.not_answered")
            if lost >= WORN_READS:
                self._on_worn()

    def _find_late(self) -> tuple[list[Read], int]:
        """Return the reads that have just become late, and how many are late in total."""
        with self._lock:
            if not self._reads:
                self._some.clear()
            has_room = len(self._reads) < MOST_READS // 2
            patience = PATIENCE_SECONDS if has_room else SHORT_PATIENCE_SECONDS
            begun_before = time.monotonic() - patience
            overdue = list(itertools.takewhile(lambda read: read.since < begun_before, self._reads))
            late = [read for read in overdue if not read.is_late]
            for read in late:
                read.is_late = True
            return late, sum(read.is_late for read in self._reads)

    def drain(self, environ: dict[str, Any]) -> None:
        """Read and discard what the client still sends after it was answered."""
        size = size_of(environ)
        is_small = size is not None and size <= DRAIN_BYTES
        if is_small or not {"gateway.body_read", "gateway.answered"}.isdisjoint(environ):
            return
        if not self._drains.acquire(blocking=False):
            return
        try:
            until = time.monotonic() + DRAIN_SECONDS
            while time.monotonic() < until and environ["wsgi.input"].read(DRAIN_BYTES):
                pass
        finally:
            self._drains.release()
