"""One worker: the application on Granian's HTTP server, from its fork to its end.

Granian's own worker hands every stop signal to a queue of one place and waits for room in it,
holding the interpreter: the third signal stops all threads for good. Here Granian gets one signal.
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

from common.middleware import API_PREFIXES
from common.slots import Slots
from server.config import Config
from server.supervisor import LISTENING, REPLACE_ME, stop_signals

native: Any = _granian  # its stubs describe an older form of it
TARGET = "gateway.wsgi:application"
# Connections a worker holds at once, idle keep-alive and half-sent requests included.
CONNECTIONS = 8192
BACKLOG = 2048
# Threads beyond those that work or wait for a provider: for clients' bodies (common/bodies.py), for
# free slots, and for probes. They cost about 0.1 MB each, and only once they are needed.
SPARE_THREADS = 320
# After the last call has ended, what its connection may take to carry the answer away.
FLUSH_SECONDS = 5.0


def work(config: Config, parent: int, lifeline: int) -> None:
    """Serve until a stop signal, or the parent's end; then finish what has begun."""
    slots = load_application(config.threads, on_worn=lambda: tell(parent, REPLACE_ME))
    http = HttpServer(config, slots)
    http.start()
    tell(parent, LISTENING)
    threading.Thread(target=follow, args=(lifeline,), daemon=True).start()
    info = signal.sigwaitinfo(stop_signals())
    if info.si_pid != parent:
        # Whoever looks for what listens on the port finds workers, and means the server.
        tell(parent, signal.SIGTERM)
    http.stop()
    finish(slots, http.has_ended, config.drain_seconds)


def tell(parent: int, number: signal.Signals) -> None:
    """Send the parent a signal, unless it is gone and its number somebody else's."""
    if os.getppid() == parent:
        os.kill(parent, number)


def load_application(threads: int, on_worn: Callable[[], None]) -> Slots:
    """Import the application inside the worker, and bound what it does at once."""
    module, _, name = TARGET.partition(":")
    application = getattr(import_module(module), name)
    files = (f"/{settings.STATIC_URL.strip('/')}/",)
    return Slots(application, threads, quick=API_PREFIXES, files=files, on_worn=on_worn)


def follow(lifeline: int) -> None:
    """Stop with the parent, also when it was killed, so that no orphan keeps the port."""
    os.read(lifeline, 1)  # nothing is ever written to it
    os.kill(os.getpid(), signal.SIGTERM)


def finish(slots: Slots, connections_ended: threading.Event, seconds: float) -> None:
    """Wait for all calls in flight, then shortly for connections to carry the answers away.

    The server waits for connections alone: not for calls whose client has left, but for minutes
    for one that holds half a request.
    """
    until = time.monotonic() + seconds
    while slots.drain(until - time.monotonic()):
        connections_ended.wait(FLUSH_SECONDS)
        if slots.drain(0):  # nothing came in meanwhile by a connection that was open
            return


class HttpServer:
    """Granian's HTTP server in this process, for one WSGI application."""

    def __init__(self, config: Config, application: Slots) -> None:
        self.has_ended = threading.Event()
        self._stop = native.WorkerSignal()
        self._stop.add_cb(self.has_ended.set)
        self._loop = asyncio.new_event_loop()  # part of the interface; nothing runs on it
        self._scheduler = _new_cbscheduler(  # type: ignore[no-untyped-call]
            self._loop, adapter(application), impl_asyncio=True
        )
        self._worker = native.WSGIWorker(
            os.getpid(),
            (native.ListenerSpec(config.address, config.port, BACKLOG), None),
            None,
            py_threads=config.threads + config.calls + SPARE_THREADS,
            backpressure=CONNECTIONS,
            # Also the limit of a request's headers, and what an unread body may occupy.
            http1_opts=HTTP1Settings(max_buffer_size=64 * 1024, header_read_timeout=30_000),
        )

    def start(self) -> None:
        """Listen, on threads of the server's own."""
        self._worker.serve_mtr(self._scheduler, self._loop, self._stop)

    def stop(self) -> None:
        """Take no more connections and let those there end. To be called once."""
        self._stop.set()


def adapter(application: Slots) -> Callable[[Any, dict[str, Any]], None]:
    """Return what Granian calls for each request.

    Its own puts the process environment, secrets and all, into every request, from where an error
    page or report could show it.
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
