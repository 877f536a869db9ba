"""Standard output and error that can stop nobody: what cannot be written is left out.

A log pipe may be closed, its reader may hang, its disk may be full. None of it may keep a server
from stopping, fail a request or end a worker, so both streams of the process are replaced.
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

# How long a line waits for a reader that is slow. One that was too slow once is not waited for
# again until it reads.
PATIENCE_SECONDS = 1.0


class Output(io.TextIOBase):
    """A text stream onto a file descriptor. Writes at once, never raises, blocks for a second."""

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
        """Return the line that says how many texts are missing before it."""
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
    """Return a descriptor to wait for, and what writes to it without ever blocking.

    O_NONBLOCK belongs to the open file, which other programs share, a terminal's shell among
    them. So a pipe or terminal is opened once more; a socket can be asked each time.
    """
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        end = socket.socket(fileno=os.dup(descriptor))
        return descriptor, lambda data: end.send(data, socket.MSG_DONTWAIT)
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        # Fails for a terminal of another user, and for a pipe that nobody reads.
        with suppress(OSError):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
            descriptor = os.open(f"/proc/self/fd/{descriptor}", flags)
    return descriptor, lambda data: os.write(descriptor, data)


def install() -> None:
    """Replace the streams of this process. One that was closed at the start leads nowhere."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # Else the next file that is opened, the database say, takes its place.
            os.open(os.devnull, os.O_RDWR)
    streams = Output(1), Output(2)
    sys.stdout, sys.stderr = streams
    # A worker may be forked while another thread of the parent writes.
    for stream in streams:
        os.register_at_fork(after_in_child=stream.renew_lock)
