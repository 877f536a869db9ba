"""Start the gateway: check it, prepare it, run it on Granian, say where it is.

    python scripts/serve.py              the production start (make serve)
    python scripts/serve.py --first-run  also migrates and makes a first login (make run)

The parent imports Django once and never opens a connection, so that workers can be
forked from it: a worker that dies is replaced in a fraction of a second. Everything that
touches the database before the start happens in a child of its own, which then ends.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import hashlib
import http.client
import io
import json
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import MPServer

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from common.slots import Slots

BASE_DIR = Path(__file__).resolve().parent.parent
TARGET = "gateway.wsgi:application"

# A call may take its whole deadline and then a moment to settle.
DRAIN_MARGIN_SECONDS = 15
# Threads beyond those that work or wait for a provider: for slow clients' bodies, and for free
# slots. They cost about 0.1 MB each, and only once they are needed.
SPARE_THREADS = 64
# Connections a worker holds at once, idle keep-alive and half-sent requests included.
CONNECTIONS = 8192
# How many workers in a row may die within a second of their birth before we give up.
EARLY_DEATHS_ALLOWED = 10

# After the last call has ended, what its connection may take to carry the answer away.
FLUSH_SECONDS = 5


# --- inside a worker ------------------------------------------------------------------------


current: Slots | None = None  # this worker's application, for the drain at its end


def load_application(target: str, threads: int) -> WSGIApplication:
    """Import the application inside the worker."""
    global current
    module, _, name = target.partition(":")
    __import__(module)
    from common.middleware import API_PREFIXES
    from common.slots import Slots

    current = Slots(getattr(sys.modules[module], name), threads, quick=API_PREFIXES)
    return current


def run_worker(orders: Orders, *args: Any) -> None:
    """Run one worker until it is told to stop, then finish what it has begun."""
    # Ctrl+C reaches the whole process group; only the parent acts on it, so that workers stop
    # in one way. Every thread started from here inherits the mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=follow, args=(orders,), daemon=True).start()
    MPServer._spawn_wsgi_worker(*args)
    if current:
        # The server waits for connections only, not for calls whose client has hung up.
        current.drain(orders.drain_seconds)


def follow(orders: Orders) -> None:
    """Stop with the parent, also when it was killed, so that no orphan keeps the port."""
    # Polling works on every Unix; PR_SET_PDEATHSIG is Linux only and tied to one thread.
    while os.getppid() == orders.parent and not orders.stopping.is_set():
        time.sleep(0.25)
    os.kill(os.getpid(), signal.SIGTERM)
    # Connections that only hold a half-sent request would keep the server for minutes.
    if current:
        current.drain(orders.drain_seconds)
    time.sleep(FLUSH_SECONDS)
    os._exit(0)


# --- the parent -----------------------------------------------------------------------------


class Orders:
    """What a worker knows of its parent: who it is, whether it is stopping, how long to drain."""

    def __init__(self, drain_seconds: int) -> None:
        self.parent = os.getpid()
        self.stopping = multiprocessing.Event()
        self.drain_seconds = drain_seconds


class Server(MPServer):
    """Granian's process manager, with a supervision loop that outlives repeated kills.

    The stock loop can miss a worker that dies while another is being replaced, and ends the
    whole server when one worker dies twice within 5.5 seconds.
    """

    orders: Orders
    on_spawned: Callable[[], None]
    stop_asked_at = 0.0

    def _spawn_workers(self, spawn_target: Any, target_loader: Any) -> None:
        signal.signal(signal.SIGHUP, self.hang_up)
        super()._spawn_workers(spawn_target, target_loader)  # type: ignore[no-untyped-call]
        self.on_spawned()  # starts a thread: only after the forks

    def _serve_loop(self, spawn_target: Any, target_loader: Any) -> None:
        early_deaths = 0
        while True:
            self.main_loop_interrupt.wait()
            # Cleared before the list is emptied: a death noted after that sets it again.
            self.main_loop_interrupt.clear()
            if self.interrupt_signal:
                self.orders.stopping.set()
                self.interrupt_children.clear()
                return
            while self.interrupt_children:
                index = self.interrupt_children.pop()
                lived = time.monotonic() - self.wrks[index].birth
                early_deaths = early_deaths + 1 if lived < 1 else 0
                if early_deaths > EARLY_DEATHS_ALLOWED:
                    print("Workers keep dying at their start; giving up.", file=sys.stderr)
                    self.interrupt_children.append(index)  # makes the exit status 1
                    return
                time.sleep(0.1 * early_deaths)
                self._respawn_workers([index], spawn_target, target_loader)

    def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
        now = time.monotonic()
        if self.stop_asked_at and args[0] == signal.SIGINT and now - self.stop_asked_at > 1:
            print("Stopping at once.", flush=True)
            for worker in self.wrks:
                worker.kill()  # type: ignore[no-untyped-call]
            return
        if not self.stop_asked_at:
            self.stop_asked_at = now
            print("Stopping: calls in flight are being finished.", flush=True)
        super().signal_handler_interrupt()  # type: ignore[no-untyped-call]

    def hang_up(self, signum: int, frame: FrameType | None) -> None:
        """A closed terminal stops the server like a signal to terminate."""
        self.signal_handler_interrupt(signum, frame)


def build_server(config: Config) -> Server:
    return Server(
        TARGET,
        address=config.address,
        port=config.port,
        interface=Interfaces.WSGI,
        workers=config.workers,
        blocking_threads=config.threads + config.calls + SPARE_THREADS,
        http=HTTPModes.http1,
        websockets=False,
        backlog=2048,
        backpressure=CONNECTIONS,
        # Also the limit of a request's headers, and what an unread body may occupy.
        http1_settings=HTTP1Settings(max_buffer_size=64 * 1024, header_read_timeout=30_000),
        respawn_failed_workers=True,
        workers_kill_timeout=config.drain_seconds + 2 * FLUSH_SECONDS,
        log_level=LogLevels.error,
        log_access=False,
    )


# --- settings -------------------------------------------------------------------------------


class Config:
    """What the launcher itself needs from the environment; the rest is Django's to read."""

    def __init__(self, first_run: bool) -> None:
        self.first_run = first_run
        self.host = os.environ.get("HOST") or "127.0.0.1"
        self.port = whole_number("PORT", 8000)
        self.workers = whole_number("WORKERS", 1 if first_run else 2)
        self.threads = whole_number("THREADS", 64)
        self.calls = whole_number("PROVIDER_CALLS", 400)
        self.drain_seconds = DRAIN_MARGIN_SECONDS + max(
            whole_number("PROVIDER_DEADLINE", 60), whole_number("PROVIDER_STREAM_DEADLINE", 300)
        )
        self.data_dir = Path(os.environ.get("DATA_DIR") or BASE_DIR / "var")
        self.address = resolve(self.host)
        # An address that means "all of them" is not one a browser can open.
        self.local = "127.0.0.1" if self.address in {"0.0.0.0", "::"} else self.host  # noqa: S104
        self.url = f"http://{self.local}:{self.port}"


def whole_number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise SystemExit(f"{name} must be a whole number above 0, not {text!r}.")
    return int(text)


def resolve(host: str) -> str:
    """Granian binds to addresses only, so a name such as localhost is looked up first."""
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise SystemExit(f"HOST={host} is not an address of this machine ({error}).") from None


def read_env_file() -> None:
    """Take what `.env` says, where the environment says nothing."""
    import environ

    path = BASE_DIR / ".env"
    if path.is_file():
        environ.Env.read_env(path)


def require_free_port(config: Config) -> None:
    """Stop with advice if something listens there already."""
    # Workers share the port by SO_REUSEPORT, so without this a second server would quietly
    # take half of the first one's requests.
    family = socket.AF_INET6 if ":" in config.address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.address, config.port))
        except OSError as error:
            raise SystemExit(port_advice(config, error)) from None


def port_advice(config: Config, error: OSError) -> str:
    target = "run" if config.first_run else "serve"
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {config.port} is in use by another program.\n"
            f"Stop that one, or choose another port:  PORT={config.port + 1} make {target}"
        )
    return f"Cannot listen on {config.host} port {config.port}: {error.strerror}."


def raise_file_limit() -> None:
    """Each connection is a file; the usual soft limit of 1,024 is soon reached."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


# --- preparation, in a child of its own -----------------------------------------------------


def import_project() -> None:
    """Load settings, models and views without opening a connection."""
    import django
    from django.core.exceptions import ImproperlyConfigured
    from django.urls import get_resolver

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
    try:
        django.setup()
    except ImproperlyConfigured as error:
        raise SystemExit(str(error)) from None
    _ = get_resolver().url_patterns


def prepare_in_child(first_run: bool) -> dict[str, Any]:
    """Check (and on a first run set up) the installation; return what the banner needs."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.Process(target=prepare, args=(sender, first_run))
    child.start()
    sender.close()
    try:
        report: dict[str, Any] = receiver.recv()
    except EOFError:
        report = {"problem": "Preparing the start failed; see above."}
    child.join()
    return report


def prepare(sender: Connection, first_run: bool) -> None:
    from django.core.management.base import CommandError, SystemCheckError
    from django.db import Error as DatabaseError
    from django.db import OperationalError

    import_project()
    try:
        sender.send(prepared(first_run))
    except SystemCheckError as error:
        sender.send({"problem": str(error).strip()})
    except (CommandError, DatabaseError) as error:
        text = f"{type(error).__name__}: {error}".strip()
        # Without its database a server can still say so (/readyz), and recovers by itself.
        away = isinstance(error, OperationalError) and not first_run
        sender.send(
            {"warning": f"Starting without the database.\n{text}"} if away else {"problem": text}
        )


def prepared(first_run: bool) -> dict[str, Any]:
    from django.core.management import call_command
    from django.db import connections

    for connection in connections.all():
        # A pool would try for seconds and then report a time-out in place of the cause.
        connection.settings_dict.get("OPTIONS", {}).pop("pool", None)
    collect_static()
    pending = migrations_are_pending()
    if pending and first_run:
        call_command("migrate", interactive=False, verbosity=0)
    # Warnings of the checks go to standard error, errors raise.
    call_command("check", databases=["default"], stdout=io.StringIO())
    report: dict[str, Any] = {}
    if pending and not first_run:
        report["warning"] = "Some migrations are not applied; run: python manage.py migrate"
    if first_run:
        output = io.StringIO()
        call_command("firstrun", "--json", stdout=output)
        report.update(json.loads(output.getvalue()))
    return report


def migrations_are_pending() -> bool:
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def collect_static() -> None:
    """Gather static files once, and again when a dependency or a file of ours changes."""
    from django.conf import settings
    from django.core.management import call_command

    root = Path(settings.STATIC_ROOT)
    stamp, wanted = root / ".stamp", static_fingerprint()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    root.mkdir(parents=True, exist_ok=True)
    call_command("collectstatic", interactive=False, verbosity=0)
    stamp.write_text(wanted)


def static_fingerprint() -> str:
    digest = hashlib.sha256((BASE_DIR / "requirements.txt").read_bytes())
    for path in sorted([*BASE_DIR.glob("static/**/*"), *BASE_DIR.glob("*/static/**/*")]):
        if path.is_file() and BASE_DIR / "var" not in path.parents:
            digest.update(f"{path.relative_to(BASE_DIR)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


# --- the banner -----------------------------------------------------------------------------


def announce_when_up(config: Config, report: dict[str, Any]) -> None:
    status = wait_for_answer(config)
    if status is None:
        print(f"No answer from {config.url}/healthz yet.", flush=True)
        return
    text = first_banner(config, report) if config.first_run else short_banner(config)
    if status != 200:
        text += f"\nBut /healthz answered {status}; is {config.local} in ALLOWED_HOSTS?"
    print(text, flush=True)


def wait_for_answer(config: Config) -> int | None:
    for _ in range(600):
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(config.local, config.port, timeout=5)
            try:
                connection.request("GET", "/healthz")
                return connection.getresponse().status
            finally:
                connection.close()
        time.sleep(0.05)
    return None


def short_banner(config: Config) -> str:
    return (
        f"Serving on http://{config.host}:{config.port} with {config.workers} "
        f"worker{'s' * (config.workers > 1)} of {config.threads} threads."
    )


def first_banner(config: Config, report: dict[str, Any]) -> str:
    target = "make run" if config.port == 8000 else f"PORT={config.port} make run"
    lines = ["", f"  The gateway is running.  Dashboard:  {config.url}/"]
    if report.get("email"):
        lines.append(f"  Sign in with             {report['email']}")
    if report.get("password"):
        lines.append(f"  and the password         {report['password']}")
    if report.get("api_key"):
        lines += ["", "  Try it:", "", curl_line(config, report["api_key"])]
    lines += [
        "",
        f"  A real provider:  PROVIDER_BASE_URL=... PROVIDER_API_KEY=... {target}",
        "                    (or set them in .env; without one, answers come from a built-in demo)",
        "  To stop:          Ctrl+C",
        "",
    ]
    return "\n".join(lines)


def curl_line(config: Config, api_key: str) -> str:
    return (
        f"curl -X POST {config.url}/api/chat -H 'X-API-Key: {api_key}' "
        "-H 'Content-Type: application/json' "
        """-d '{"message":"Hello!","session_id":"visitor-1"}'"""
    )


# --- main -----------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description="Start the gateway.")
    parser.add_argument("--first-run", action="store_true", help="migrate, make a first login")
    first_run: bool = parser.parse_args().first_run

    os.chdir(BASE_DIR)
    sys.path.insert(0, str(BASE_DIR))
    read_env_file()
    config = Config(first_run)
    require_free_port(config)
    raise_file_limit()
    # The database, with all conversations, lies here: for this user only.
    config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if sys.platform == "linux":
        multiprocessing.set_start_method("fork")

    import_project()
    report = prepare_in_child(first_run)
    if "problem" in report:
        raise SystemExit(report["problem"])
    if "warning" in report:
        print(report["warning"], file=sys.stderr)

    os.environ["GATEWAY_CHECKED"] = "1"  # workers need not check again
    gc.collect()
    gc.freeze()  # what the workers inherit stays shared instead of being copied by collections
    server = build_server(config)
    server.orders = Orders(config.drain_seconds)
    logging.getLogger("_granian").setLevel(logging.ERROR)
    server.on_spawned = lambda: threading.Thread(
        target=announce_when_up, args=(config, report), daemon=True
    ).start()
    server.serve(
        spawn_target=partial(run_worker, server.orders),
        target_loader=partial(load_application, threads=config.threads),
    )


if __name__ == "__main__":
    main()
