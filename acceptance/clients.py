"""Callers of the API: plain HTTP over sockets of their own, many at the same moment."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

T = TypeVar("T")

NO_ANSWER = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Status 0: the connection broke before a whole answer had come."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    started: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.started

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def events(self) -> list[tuple[str, Any]]:
        """The events of a streamed answer: (name, data)."""
        found = []
        for block in self.body.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
            if fields:
                found.append((fields["event"], json.loads(fields["data"])))
        return found

    @property
    def end(self) -> Any:
        """The whole object that an answer ends in, plain or streamed."""
        if not self.is_stream:
            return self.json
        ends = [data for name, data in self.events if name in ("done", "error")]
        if len(ends) != 1 or self.events[-1][0] == "delta":
            raise ValueError(f"a stream ends in one event: {self.events[-3:]}")
        return ends[0]

    @property
    def is_success(self) -> bool:
        """An answer in full, whichever way it came."""
        return self.status == 200 and not self.code

    @property
    def code(self) -> str:
        """The error's code, '' for a success."""
        try:
            return str(self.end.get("code", ""))
        except (ValueError, AttributeError, KeyError):
            return "no JSON" if self.status else "no answer"


def request(
    port: int,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    seconds: float = 90,
) -> Answer:
    """Make one request on a connection of its own. A broken connection is an Answer too."""
    started = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        content = response.read()
        fields = {name.lower(): text for name, text in response.getheaders()}
        return Answer(response.status, content, fields, started, time.monotonic())
    except (OSError, http.client.HTTPException) as error:
        return Answer(NO_ANSWER, repr(error).encode(), {}, started, time.monotonic())
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class Client:
    """One channel's key at one server."""

    port: int
    key: str

    def chat(
        self,
        message: str,
        session_id: str,
        *,
        headers: Mapping[str, str] | None = None,
        seconds: float = 90,
        **more: Any,
    ) -> Answer:
        body = json.dumps({"message": message, "session_id": session_id, **more}).encode()
        return self.post(body, headers=headers, seconds=seconds)

    def post(
        self, body: bytes, *, headers: Mapping[str, str] | None = None, seconds: float = 90
    ) -> Answer:
        fields = {"X-API-Key": self.key, "Content-Type": "application/json", **(headers or {})}
        return request(self.port, "POST", "/api/chat", headers=fields, body=body, seconds=seconds)

    def history(self, session_id: str) -> list[tuple[str, str]]:
        """Return (role, content) of a session, oldest first."""
        answer = self.get(f"/api/history?session_id={quote(session_id, safe='')}")
        return [(message["role"], message["content"]) for message in answer.json["messages"]]

    def remaining(self) -> str:
        """Return the credits that can be spent now, as the API says them."""
        return str(self.get("/api/key").json["credits"]["remaining"])

    def get(self, path: str) -> Answer:
        answer = request(self.port, "GET", path, headers={"X-API-Key": self.key})
        if answer.status != 200:
            raise RuntimeError(f"GET {path}: {answer.status} {answer.body[:300]!r}")
        return answer


def at_once(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """Run every task in a thread of its own, all released at the same moment."""
    barrier = threading.Barrier(len(tasks))

    def run(task: Callable[[], T]) -> T:
        barrier.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))


def by_threads(threads: int, tasks: Iterable[Callable[[], T]]) -> list[T]:
    """Run the tasks in order on so many threads."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda task: task(), tasks))


def tally(answers: Iterable[Answer]) -> dict[str, int]:
    """Count answers by status and code: {'200': 20, '403 credits_exhausted': 180}."""
    counts = Counter(f"{answer.status} {answer.code}".strip() for answer in answers)
    return dict(sorted(counts.items()))
