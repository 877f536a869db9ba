"""The load generator: a separate process whose connections always have one request open each.

    python -m bench.load < plan.json > figures.json

Every request belongs to one of many channels, and to a session that one connection uses a few
times. So prompts grow as in real use, and no session is ever busy.
"""

from __future__ import annotations

import json
import resource
import socket
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.loop import READ_BYTES, Loop, content_length

HOST = "127.0.0.1"
TURNS_PER_SESSION = 4
FIRST_DELTA = (b'"content": "', b"event: delta")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. Without `keys`, every request has the given body and headers."""

    port: int
    connections: int
    seconds: float
    path: str
    keys: list[str]
    message: str
    run: str
    direct_body: str = ""
    direct_headers: dict[str, str] = field(default_factory=dict)
    is_stream: bool = False
    warm_up_seconds: float = 0.5


@dataclass(frozen=True, slots=True)
class Figures:
    """The results. Latencies in ms, of requests begun and ended in the measured time."""

    requests: int
    seconds: float
    latencies: list[float]
    first_deltas: list[float]
    relays: list[float]
    statuses: dict[str, int]
    errors: list[str]
    cpu_ms: float


def sent_at(answer: bytes) -> float:
    """Return when the provider sent a stream's first piece, as the piece itself says (mock.py)."""
    return int(answer.split(b"@", 2)[1]) / 1e9


class Requests:
    """Builds the next request of each connection."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.stream = ',"stream":true' if plan.is_stream else ""
        self.headers = "".join(
            f"{name}: {value}\r\n" for name, value in plan.direct_headers.items()
        )

    def make(self, connection: int, number: int) -> bytes:
        plan = self.plan
        if not plan.keys:
            return self._post(plan.direct_body, self.headers)
        session = number // TURNS_PER_SESSION
        key = plan.keys[(connection + session * plan.connections) % len(plan.keys)]
        body = (
            f'{{"message":"{plan.message}","session_id":"{plan.run}-{connection}-{session}"'
            f"{self.stream}}}"
        )
        return self._post(body, f"X-API-Key: {key}\r\n")

    def _post(self, body: str, headers: str) -> bytes:
        return (
            f"POST {self.plan.path} HTTP/1.1\r\nHost: {HOST}\r\n{headers}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        ).encode()


class Generator:
    """All connections and their measurements."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.requests = Requests(plan)
        self.loop = Loop()
        self.starts_at = time.perf_counter() + plan.warm_up_seconds
        self.ends_at = self.starts_at + plan.seconds
        self.latencies: list[float] = []
        self.first_deltas: list[float] = []
        self.relays: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.errors: list[str] = []
        self.answered = 0
        self.talking = plan.connections

    def run(self) -> Figures:
        for number in range(self.plan.connections):
            connection = Connection(self, number)
            # Spread over the warm-up, because callers do not march in step.
            pause = self.plan.warm_up_seconds * number / self.plan.connections
            self.loop.at(time.perf_counter() + pause, connection.ask)
        self.loop.run()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return Figures(
            requests=self.answered,
            seconds=self.plan.seconds,
            latencies=[round(1000 * value, 3) for value in self.latencies],
            first_deltas=[round(1000 * value, 3) for value in self.first_deltas],
            relays=[round(1000 * value, 3) for value in self.relays],
            statuses=dict(self.statuses),
            errors=self.errors[:3],
            cpu_ms=1000 * (usage.ru_utime + usage.ru_stime),
        )

    def note(self, started: float, first_delta: float, answer: bytes) -> None:
        """Record an answer. In the warm-up, record only its status."""
        now = time.perf_counter()
        status = answer[9:12].decode("latin-1")
        self.statuses[status] += 1
        if status != "200":
            self.errors.append(answer[-300:].decode("utf-8", "replace"))
        if self.starts_at <= now <= self.ends_at:
            self.answered += 1
            if started >= self.starts_at:
                self.latencies.append(now - started)
                if first_delta:
                    self.first_deltas.append(first_delta - started)
                    self.relays.append(first_delta - sent_at(answer))

    def left(self) -> None:
        self.talking -= 1
        if not self.talking:
            self.loop.stop()


class Connection:
    """Asks, waits for the whole answer, and asks again until time is up."""

    def __init__(self, generator: Generator, number: int) -> None:
        self.generator = generator
        self.number = number
        self.asked = 0
        self.buffer = b""
        self.started = self.first_delta = 0.0
        self.sock = socket.create_connection((HOST, generator.plan.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        generator.loop.on_readable(self.sock, self.read)

    def ask(self) -> None:
        request = self.generator.requests.make(self.number, self.asked)
        self.asked += 1
        self.buffer = b""
        self.first_delta = 0.0
        self.started = time.perf_counter()
        self.sock.sendall(request)

    def read(self) -> None:
        received = self.sock.recv(READ_BYTES)
        if not received:
            self.generator.statuses["closed"] += 1
            self._leave()
            return
        buffer = self.buffer = self.buffer + received if self.buffer else received
        if self.generator.plan.is_stream and not self.first_delta:
            is_begun = any(mark in buffer for mark in FIRST_DELTA)
            self.first_delta = time.perf_counter() if is_begun else 0.0
        if self._is_whole(buffer):
            self.generator.note(self.started, self.first_delta, buffer)
            if time.perf_counter() < self.generator.ends_at:
                self.ask()
            else:
                self._leave()

    def _is_whole(self, buffer: bytes) -> bool:
        if self.generator.plan.is_stream and buffer.startswith(b"HTTP/1.1 200"):
            return buffer.endswith(b"0\r\n\r\n")
        head_ends = buffer.find(b"\r\n\r\n")
        return head_ends >= 0 and len(buffer) >= head_ends + 4 + content_length(
            buffer[: head_ends + 2]
        )

    def _leave(self) -> None:
        self.generator.loop.forget(self.sock)
        self.generator.left()


def raise_file_limit() -> None:
    """Raise the limit of open files. Each connection is a file, and the usual limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    raise_file_limit()
    plan: dict[str, Any] = json.load(sys.stdin)
    json.dump(asdict(Generator(Plan(**plan)).run()), sys.stdout)


if __name__ == "__main__":
    main()
