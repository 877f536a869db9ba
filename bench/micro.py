"""Where a chat request's time goes: every stop of the path, timed in one process and thread.

    python -m bench.micro [--requests 400] [--kind pg|sqlite]

Runs the whole WSGI application against a private database and the cheap provider. The stops nest,
and each is charged only for its own work. The wall time of a statement includes the database's
time; CPU is only this thread's. Timing adds about 1 us a stop.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import io
import itertools
import json
import pkgutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.load import Plan, Requests
from bench.stand import Stand
from server.slots import Slots
from tests.harness.costs import backend_cpu_seconds

MESSAGE = "What does the parcel to Norway cost, please? " * 22


# As in server/slots.py. Earlier commits, which bench.pair compares with, have them elsewhere.
API_PREFIXES = ("/api/", "/v1/")

# The stops that are timed, with the name under which each is called.
STOPS = {
    "request middleware": ("common.api.base:RequestMiddleware.__call__",),
    "logging": (
        "common.api.base:RequestMiddleware._log",
        "logging:StreamHandler.emit",
    ),
    "logging: JSON": ("common.logs:JsonFormatter.format",),
    "routing": ("common.api.base:ApiMiddleware.__call__",),
    "DRF": ("common.api.base:ApiView.dispatch",),
    "ChatView.post": ("conversations.api.chat:ChatView.post",),
    "authentication": ("channels.authentication:ApiKeyAuthentication.authenticate",),
    "authentication: find_and_count": ("billing.throttling:find_and_count",),
    "throttle": ("billing.throttling:ChatThrottle.allow_request",),
    "throttle: headers": ("billing.throttling:_state",),
    "parsing": (
        "conversations.api.chat:read_object",
        "conversations.api.chat:parse_chat_request",
    ),
    "rendering": (
        "conversations.api.chat:AskedChat.render",
        "conversations.api.chat:respond",
    ),
    "answer": ("conversations.chat.answer:answer",),
    "admission": ("conversations.chat.message:_try_to_admit",),
    "admission: try_hold": ("billing.admission:try_hold",),
    "admission: latest_turns": ("conversations.chat.turns:latest_turns",),
    "admission: build_prompt": ("conversations.chat.message:build_prompt",),
    "admission: list_routes": ("channels.routes:list_routes",),
    "settlement": ("conversations.chat.answer:store",),
    "settlement: capture_hold": ("billing.settlement:capture_hold",),
    "provider: HTTP": ("common.http:post",),
    "provider: payload": (
        "channels.providers.openai_compatible:OpenAiCompatibleProvider._payload",
    ),
    "provider: parse": ("channels.providers.openai_compatible:read_plain",),
    "atomic enter and exit": (
        "django.db.transaction:Atomic.__enter__",
        "django.db.transaction:Atomic.__exit__",
    ),
    "SQL COMMIT": ("django.db.backends.base.base:BaseDatabaseWrapper.commit",),
    "connection from and to the pool": (
        "django.db.backends.base.base:BaseDatabaseWrapper.connect",
        "django.db.backends.base.base:BaseDatabaseWrapper.close",
        "common.db:release_connection",
    ),
}


@dataclass(slots=True)
class Stop:
    """What was spent at one stop, without the stops inside it."""

    wall: float = 0.0
    cpu: float = 0.0
    calls: int = 0


@dataclass(slots=True)
class Watch:
    """A stack of stops. Time goes to the innermost."""

    stops: dict[str, Stop] = field(default_factory=lambda: defaultdict(Stop))
    stack: list[str] = field(default_factory=list)
    wall_at: float = 0.0
    cpu_at: float = 0.0

    def switch(self) -> None:
        """Charge the time since the last switch to the stop that was active."""
        wall, cpu = time.perf_counter(), time.thread_time()
        if self.stack:
            stop = self.stops[self.stack[-1]]
            stop.wall += wall - self.wall_at
            stop.cpu += cpu - self.cpu_at
        self.wall_at, self.cpu_at = time.perf_counter(), time.thread_time()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            self.switch()
            self.stack.append(name)
            self.stops[name].calls += 1
            try:
                return function(*args, **kwargs)
            finally:
                self.switch()
                self.stack.pop()

        return run

    def patch(self, owner: Any, attribute: str, name: str) -> None:
        is_static = isinstance(inspect.getattr_static(owner, attribute), staticmethod)
        watched = self.timed(name, getattr(owner, attribute))
        setattr(owner, attribute, staticmethod(watched) if is_static else watched)

    def execute(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        """Act as a connection's execute wrapper, so that each statement is a separate stop."""
        return self.timed(f"SQL {title(str(sql))}", execute)(sql, params, many, context)


def title(sql: str) -> str:
    """Return a statement's verb and table."""
    words = sql.replace('"', "").split()
    for before, word in itertools.pairwise(words):
        if before.upper() in {"INTO", "UPDATE", "FROM"}:
            return f"{words[0].upper()} {word}"
    return " ".join(words[:3])


def is_statement(stop: str) -> bool:
    return stop.startswith("SQL ") and stop != "SQL COMMIT"


def patch_stops(watch: Watch) -> None:
    """Time every stop of the path. Prints which of them no longer exist."""
    for name, targets in STOPS.items():
        for target in targets:
            owner, _, attribute = target.replace(":", ".").rpartition(".")
            try:
                watch.patch(pkgutil.resolve_name(owner), attribute, name)
            except AttributeError:
                print(f"bench.micro: no {target}", file=sys.stderr)


def inside(told: dict[str, Any]) -> dict[str, Any]:
    """Run the requests in this process. Returns figures per request in ms."""
    import django

    django.setup()
    from django.db import connection

    # It reads the settings, which only the process inside has.
    from gateway.wsgi import application

    requests = Requests(Plan(**told["plan"]))
    watch = Watch()
    call = functools.partial(one_request, Slots(application, 64, quick=API_PREFIXES), requests)
    for number in range(100):
        call(0, number)
    backends = told["database"]
    plain_wall, plain_cpu = time.perf_counter(), time.thread_time()
    server_cpu = backend_cpu_seconds(backends)
    for number in range(told["requests"]):
        call(1, number)
    count = told["requests"]
    report: dict[str, Any] = {
        "wall_ms": 1000 * (time.perf_counter() - plain_wall) / count,
        "cpu_ms": 1000 * (time.thread_time() - plain_cpu) / count,
        "database_cpu_ms": 1000 * (backend_cpu_seconds(backends) - server_cpu) / count,
    }
    patch_stops(watch)
    connection.execute_wrappers.append(watch.execute)
    timed = watch.timed("server and Django's handler", call)
    for number in range(count):
        timed(2, number)
    report["stops"] = {
        name: [1000 * stop.wall / count, 1000 * stop.cpu / count, stop.calls / count]
        for name, stop in watch.stops.items()
    }
    return report


def one_request(application: Any, requests: Requests, connection: int, number: int) -> bytes:
    """Call the application as the server does."""
    head, _, body = requests.make(connection, number).partition(b"\r\n\r\n")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/api/chat",
        "QUERY_STRING": "",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1",
        "HTTP_X_API_KEY": head.partition(b"X-API-Key: ")[2].partition(b"\r\n")[0].decode(),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    said: list[str] = []
    answer = b"".join(application(environ, lambda status, headers: said.append(status)))
    if said != ["200 OK"]:
        raise RuntimeError(f"{said} {answer[:500]!r}")
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.micro")
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--kind", choices=("pg", "sqlite"), default="pg")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.inside:
        json.dump(inside(json.load(sys.stdin)), sys.stdout)
        return
    with Stand(told.kind) as stand:
        reports = [ask(stand, told.requests, number) for number in range(told.rounds)]
    show(reports)


def ask(stand: Stand, requests: int, number: int) -> dict[str, Any]:
    plan = stand.plan(connections=1, run=f"micro{number}", message=MESSAGE)
    return ask_plan(stand, plan, requests)


def ask_plan(stand: Stand, plan: dict[str, Any], requests: int) -> dict[str, Any]:
    """Run a plan in a new process, on the stand's current database."""
    question = {"plan": plan, "requests": requests, "database": stand.rig.database.url}
    with (stand.logs / "micro.log").open("ab") as log:
        done = subprocess.run(
            [sys.executable, "-m", "bench.micro", "--inside"],
            env=stand.rig.env,
            input=json.dumps(question).encode(),
            stdout=subprocess.PIPE,
            stderr=log,
            check=False,
        )
    if done.returncode:
        raise RuntimeError((stand.logs / "micro.log").read_text()[-3000:])
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def show(reports: list[dict[str, Any]]) -> None:
    """Print medians over the rounds, the most expensive CPU first."""

    def median(values: list[float]) -> float:
        return statistics.median(values)

    for name in ("wall_ms", "cpu_ms", "database_cpu_ms"):
        print(f"{name:>18} {median([report[name] for report in reports]):7.3f} a request, untimed")
    print(f"\n{'stop':44} {'cpu ms':>8} {'wall ms':>8} {'calls':>6}")
    stops = {name for report in reports for name in report["stops"]}
    rows = [
        (name, *(median([r["stops"].get(name, [0, 0, 0])[at] for r in reports]) for at in range(3)))
        for name in stops
    ]
    for name, wall, cpu, calls in sorted(rows, key=lambda row: -row[2]):
        print(f"{name:44} {cpu:8.3f} {wall:8.3f} {calls:6.1f}")
    print(f"{'all':44} {sum(r[2] for r in rows):8.3f} {sum(r[1] for r in rows):8.3f}")


if __name__ == "__main__":
    main()
