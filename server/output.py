"""Standard output and error that never block or fail the server; excess output is dropped.

A log pipe may be closed, its reader may hang, its disk may be full. None of this may keep the
server from stopping, fail a request, or end a worker. So this replaces both streams of the process.
"""

from __future__ import annotations

import io
import json
import os
import select
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

# How long a line waits for a slow reader. After one time-out, lines no longer wait until the reader
# reads again.
PATIENCE_SECONDS = 1.0


class Output(io.TextIOBase):
    """A text stream to a descriptor. Writes at once, never raises, blocks for at most a second."""

    encoding = "utf-8"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._writing, self._write = unblocked(descriptor)
        self._lock = threading.Lock()
        self._is_stuck = self._is_cut = False
        self._lost = 0

    def renew_lock(self) -> None:
        self._lock = threading.Lock()

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        data = text.encode(errors="backslashreplace")
        with self._lock:
            notice = self._notice() if self._lost else b""
            if not self._put(notice + data):
                self._lost += 1
            elif notice:
                self._lost = 0
        return len(text)

    def _notice(self) -> bytes:
        """Return the line that says how many writes were dropped before it."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"time": now, "level": "warning", "logger": "server.output"}
        line |= {"event": "server.output.lost", "count": str(self._lost)}
        return b"\n" * self._is_cut + json.dumps(line).encode() + b"\n"

    def _put(self, data: bytes) -> bool:
        whole = len(data)
        until = time.monotonic() + (0 if self._is_stuck else PATIENCE_SECONDS)
        while data:
            try:
                data = data[self._write(data) :]
            except BlockingIOError:
                if not self._can_write(until - time.monotonic()):
                    self._is_stuck, self._is_cut = True, len(data) < whole
                    return False
            except OSError:  # closed, or its disk is full
                self._is_cut = len(data) < whole
                return False
        self._is_stuck = self._is_cut = False
        return True

    def _can_write(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._writing, select.POLLOUT)
        return seconds > 0 and bool(poll.poll(1000 * seconds))


def unblocked(descriptor: int) -> tuple[int, Callable[[bytes], int]]:
    """Return a descriptor to poll, and a function that writes to it without blocking.

    O_NONBLOCK belongs to the open file, which other programs share, such as the terminal's shell.
    So a pipe or terminal is opened a second time. A socket takes the flag with each send.
    """
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        end = socket.socket(fileno=os.dup(descriptor))
        return descriptor, lambda data: end.send(data, socket.MSG_DONTWAIT)
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        # Fails for another user's terminal, and for a pipe without a reader.
        with suppress(OSError):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
            descriptor = os.open(f"/proc/self/fd/{descriptor}", flags)
    return descriptor, lambda data: os.write(descriptor, data)


def install() -> None:
    """Replace the streams of this process. A stream closed at the start goes to /dev/null."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # Otherwise the next file opened, such as the database, would get its descriptor.
            os.open(os.devnull, os.O_RDWR)
    streams = Output(1), Output(2)
    sys.stdout, sys.stderr = streams
    # A worker may be forked while another thread of the parent holds the lock.
    for stream in streams:
        os.register_at_fork(after_in_child=stream.renew_lock)
