"""One worker: the application on Granian's HTTP server, from fork to exit.

Granian's own worker puts every stop signal into a queue of size one, and waits for room while it
holds the interpreter lock. The third signal stops all threads for good. So this worker sends
Granian only one signal.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from django.conf import settings
from granian import _granian
from granian._futures import _new_cbscheduler
from granian.http import HTTP1Settings
from granian.wsgi import Response, ResponseIterWrap

from server import stopping
from server.config import Config
from server.slots import API_PREFIXES, Slots
from server.supervisor import LISTENING, REPLACE_ME, stop_signals

native: Any = _granian  # its stubs describe an older version
TARGET = "gateway.wsgi:application"
# Connections that a worker holds at once, including idle keep-alive ones and half-sent requests.
CONNECTIONS = 8192
BACKLOG = 2048
# Threads beyond those that work or wait for a provider: for reading bodies (server/slots.py),
# waiting for slots, and probes. Each costs about 0.1 MB, and only once it is needed.
SPARE_THREADS = 320
# How long connections may take to send the answers after the last call has ended.
FLUSH_SECONDS = 5.0


def work(config: Config, parent: int, lifeline: int) -> None:
    """Serve until a stop signal or the parent's end, then finish the requests in progress."""
    slots = load_application(config.threads, on_worn=lambda: tell(parent, REPLACE_ME))
    http = HttpServer(config, slots)
    http.start()
    tell(parent, LISTENING)
    threading.Thread(target=follow, args=(lifeline,), daemon=True).start()
    info = signal.sigwaitinfo(stop_signals())
    if info.si_pid != parent:
        # Anyone who looks up who listens on the port finds workers, but means the server.
        tell(parent, signal.SIGTERM)
    http.stop()
    finish(slots, http.has_ended, config.drain_seconds)
    stopping.run_tasks()


def tell(parent: int, number: signal.Signals) -> None:
    """Send the parent a signal, unless it is gone and its id may belong to another process."""
    if os.getppid() == parent:
        os.kill(parent, number)


def load_application(threads: int, on_worn: Callable[[], None]) -> Slots:
    """Import the application in the worker, and limit how much it does at once."""
    module, _, name = TARGET.partition(":")
    application = getattr(import_module(module), name)
    files = (f"/{settings.STATIC_URL.strip('/')}/",)
    return Slots(application, threads, quick=API_PREFIXES, files=files, on_worn=on_worn)


def follow(lifeline: int) -> None:
    """Stop with the parent, even if it was killed, so that no orphan keeps the port."""
    os.read(lifeline, 1)  # nothing is ever written to it
    os.kill(os.getpid(), signal.SIGTERM)


def finish(slots: Slots, connections_ended: threading.Event, seconds: float) -> None:
    """Wait for all calls in flight, then briefly for connections to send the answers.

    The server waits only for connections: not for calls whose client has left, but for minutes for
    one that sent half a request.
    """
    until = time.monotonic() + seconds
    while slots.drain(until - time.monotonic()):
        connections_ended.wait(FLUSH_SECONDS)
        if slots.drain(0):  # no request arrived meanwhile on an open connection
            return


class HttpServer:
    """Granian's HTTP server in this process, for one WSGI application."""

    def __init__(self, config: Config, application: Slots) -> None:
        self.has_ended = threading.Event()
        self._stop = native.WorkerSignal()
        self._stop.add_cb(self.has_ended.set)
        self._loop = asyncio.new_event_loop()  # the interface needs it; nothing runs on it
        self._scheduler = _new_cbscheduler(  # type: ignore[no-untyped-call]
            self._loop, adapter(application), impl_asyncio=True
        )
        self._worker = native.WSGIWorker(
            os.getpid(),
            (native.ListenerSpec(config.address, config.port, BACKLOG), None),
            None,
            py_threads=config.threads + config.calls + SPARE_THREADS,
            backpressure=CONNECTIONS,
            # Also limits a request's headers, and how much memory an unread body may use.
            http1_opts=HTTP1Settings(max_buffer_size=64 * 1024, header_read_timeout=30_000),
        )

    def start(self) -> None:
        """Listen on the server's threads."""
        self._worker.serve_mtr(self._scheduler, self._loop, self._stop)

    def stop(self) -> None:
        """Accept no more connections, and let the open ones finish. Call this only once."""
        self._stop.set()


def adapter(application: Slots) -> Callable[[Any, dict[str, Any]], None]:
    """Return the function that Granian calls for each request.

    Granian's own puts the process environment, including secrets, into every request, where an
    error page or report could show it.
    """
    base: dict[str, Any] = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SCRIPT_NAME": "",
        "SERVER_SOFTWARE": "granian",
        "wsgi.errors": sys.stderr,
        "wsgi.input_terminated": True,
        "wsgi.multiprocess": True,
        "wsgi.multithread": True,
        "wsgi.run_once": False,
        "wsgi.version": (1, 0),
    }

    def call(proto: Any, scope: dict[str, Any]) -> None:
        start = Response()  # type: ignore[no-untyped-call]
        environ = base | scope
        environ["gateway.respond"] = proto.response_bytes
        body: Iterable[bytes] = application(environ, start)
        if isinstance(body, list):
            proto.response_bytes(start.status, start.headers, b"".join(body))
        else:
            pieces = ResponseIterWrap(body)  # type: ignore[no-untyped-call]
            proto.response_iter(start.status, start.headers, pieces)
        application.bodies.drain(environ)

    return call
