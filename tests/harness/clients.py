"""API callers: plain HTTP, each on its own socket, many at the same moment."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

from tests.harness.processes import HOST

T = TypeVar("T")

NO_ANSWER = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. Status 0: the connection broke before the response was complete."""

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
        """The complete object that an answer ends with, plain or streamed."""
        if not self.is_stream:
            return self.json
        ends = [data for name, data in self.events if name in ("done", "error")]
        if len(ends) != 1 or self.events[-1][0] == "delta":
            raise ValueError(f"a stream ends in one event: {self.events[-3:]}")
        return ends[0]

    @property
    def error(self) -> Any:
        """The error's object, or {} for a success."""
        return self.end if "code" in self.end else {}

    @property
    def is_success(self) -> bool:
        """Whether this is a complete answer, plain or streamed."""
        return self.status == 200 and not self.code

    @property
    def code(self) -> str:
        """The error's code, or '' for a success."""
        try:
            return str(self.error.get("code", ""))
        except (ValueError, TypeError, AttributeError, LookupError):
            return "no JSON" if self.status else "no answer"


class OpenAiAnswer(Answer):
    """The same in OpenAI's shape: unnamed chunks, usage in the last one, then [DONE]."""

    __slots__ = ()

    @property
    def events(self) -> list[tuple[str, Any]]:
        blocks = self.body.decode().removesuffix("\n\n").split("\n\n")
        texts = [block.removeprefix("data: ") for block in blocks if block[:1] != ":"]
        return [_named(text) for text in texts]

    @property
    def end(self) -> Any:
        if not self.is_stream:
            return self.json
        *before, (last, data) = self.events
        if last == "delta" or any(name != "delta" for name, _ in before):
            raise ValueError(f"a stream ends in one event: {self.events[-3:]}")
        return before[-1][1] if last == "done" else data

    @property
    def error(self) -> Any:
        error = self.end.get("error", {})
        if error and set(error) != {"message", "type", "code", "param"}:
            raise ValueError(f"not OpenAI's shape: {error}")
        return error


def _named(text: str) -> tuple[str, Any]:
    if text == "[DONE]":
        return "done", None
    data = json.loads(text)
    return "error" if "error" in data else "delta", data


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One of the two chat endpoints, so that one check can try both."""

    path: str
    answer: type[Answer]
    provider_error_status: int
    no_credits_status: int
    has_sessions: bool

    def body(
        self, message: str, session_id: str, *, model_id: str, is_stream: bool, **more: Any
    ) -> bytes:
        if self.has_sessions:
            fields = {"message": message, "session_id": session_id, "stream": is_stream}
            return json.dumps(fields | more).encode()
        asked: dict[str, Any] = {
            "model": model_id,
            "messages": [{"role": "user", "content": message}],
            "stream": is_stream,
        }
        if is_stream:
            asked["stream_options"] = {"include_usage": True}
        return json.dumps(asked | more).encode()


CHAT = Endpoint("/api/chat", Answer, 500, 403, has_sessions=True)
COMPLETIONS = Endpoint("/v1/chat/completions", OpenAiAnswer, 502, 402, has_sessions=False)
ENDPOINTS = (CHAT, COMPLETIONS)


def request(
    port: int,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    seconds: float = 90,
    kind: type[Answer] = Answer,
) -> Answer:
    """Make one request on a new connection. Returns an Answer for a broken connection too."""
    started = time.monotonic()
    connection = http.client.HTTPConnection(HOST, port, timeout=seconds)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        content = response.read()
        fields = {name.lower(): text for name, text in response.getheaders()}
        return kind(response.status, content, fields, started, time.monotonic())
    except (OSError, http.client.HTTPException) as error:
        return kind(NO_ANSWER, repr(error).encode(), {}, started, time.monotonic())
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class Client:
    """One channel's key at one server."""

    port: int
    key: str
    model_id: str = ""

    def ask(
        self,
        endpoint: Endpoint,
        message: str,
        session_id: str,
        *,
        stream: bool = False,
        **more: Any,
    ) -> Answer:
        """Send a message, and other members, to either endpoint. Only the chat has a session."""
        body = endpoint.body(message, session_id, model_id=self.model_id, is_stream=stream, **more)
        headers = {"X-API-Key": self.key, "Content-Type": "application/json"}
        return request(
            self.port, "POST", endpoint.path, headers=headers, body=body, kind=endpoint.answer
        )

    def raw(self, endpoint: Endpoint, message: str, session_id: str, *, is_stream: bool) -> bytes:
        """Return the bytes of such a request, for callers that handle the connection themselves."""
        body = endpoint.body(message, session_id, model_id=self.model_id, is_stream=is_stream)
        head = (
            f"POST {endpoint.path} HTTP/1.1\r\nHost: {HOST}\r\nX-API-Key: {self.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        return head.encode() + body

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
        """Return (role, content) for each message of a session, oldest first."""
        answer = self.get(f"/api/history?session_id={quote(session_id, safe='')}")
        return [(message["role"], message["content"]) for message in answer.json["messages"]]

    def remaining(self) -> str:
        """Return the credits that can be spent now, as the API reports them."""
        return str(self.get("/api/key").json["credits"]["remaining"])

    def get(self, path: str) -> Answer:
        answer = request(self.port, "GET", path, headers={"X-API-Key": self.key})
        if answer.status != 200:
            raise RuntimeError(f"GET {path}: {answer.status} {answer.body[:300]!r}")
        return answer


def at_once(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """Run every task in its own thread, all released at the same moment."""
    barrier = threading.Barrier(len(tasks))

    def run(task: Callable[[], T]) -> T:
        barrier.wait()
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))


def by_threads(threads: int, tasks: Iterable[Callable[[], T]]) -> list[T]:
    """Run the tasks in order on `threads` threads."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda task: task(), tasks))


def at_moments(threads: int, moments: Iterable[float], task: Callable[[int], T]) -> list[T]:
    """Run `task(0)`, `task(1)`, ... each at its moment, in seconds from now."""
    started = time.monotonic()

    def run(number: int, moment: float) -> T:
        time.sleep(max(0.0, started + moment - time.monotonic()))
        return task(number)

    return by_threads(threads, [partial(run, *one) for one in enumerate(sorted(moments))])


def tally(answers: Iterable[Answer]) -> dict[str, int]:
    """Count answers by status and code: {'200': 20, '403 credits_exhausted': 180}."""
    counts = Counter(f"{answer.status} {answer.code}".strip() for answer in answers)
    return dict(sorted(counts.items()))
