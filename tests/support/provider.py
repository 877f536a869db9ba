"""A provider over HTTP: an OpenAI-compatible server on loopback that answers as a test says.

Tests that need no HTTP between the gateway and its provider use fake_provider.py, which is faster.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import orjson

from tests.shapes import DONE, EVENTS, JSON, event
from tests.support.stub_server import Peer, Request, StubServer, answer

USAGE = ',"usage":{"prompt_tokens":3,"completion_tokens":2}'
USAGE_CHUNK = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
LATE = 300.0  # ends a call that hangs

Body = dict[str, Any]
# Returns why the provider refuses a request, or "" if it does not.
Rule = Callable[[Body], str]
# A text, or members of a message.
Delta = str | dict[str, Any]


# --- Shapes ---------------------------------------------------------------------------------------


def chat_answer(**changes: Any) -> Body:
    """Return a whole answer as providers send it. Changes go to the matching members."""
    message = {"role": "assistant", "content": changes.pop("content", "Hello!")}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    if "finish_reason" in changes:
        choice["finish_reason"] = changes.pop("finish_reason")
    usage = {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "stub/model-1-0613",
        "choices": [choice],
        "usage": usage,
    } | changes


def chunk(text: str | None, finish: str | None = None, usage: str = "") -> bytes:
    """Return an event of a stream. The text is the inside of a JSON string, and `usage` JSON."""
    content = "null" if text is None else '"' + text + '"'
    end = "null" if finish is None else f'"{finish}"'
    return (
        f'data: {{"id":"x","model":"m1","choices":[{{"index":0,"delta":{{"content":{content}}},'
        f'"finish_reason":{end}}}]{usage}}}\n\n'
    ).encode()


def plain(deltas: Iterable[Delta], finish_reason: str, **more: Any) -> bytes:
    """Return a whole completion of these pieces: their texts joined, beside their members."""
    message: dict[str, Any] = {}
    for delta in deltas:
        if isinstance(delta, str):
            message["content"] = message.get("content", "") + delta
        else:
            message |= delta
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return orjson.dumps({"choices": [choice]} | more)


def streamed(deltas: Iterable[Delta], finish_reason: str, **more: Any) -> bytes:
    """Return a stream with one event for each piece, then one that ends it."""
    said = [{"content": delta} if isinstance(delta, str) else delta for delta in deltas]
    choices: list[dict[str, Any]] = [{"index": 0, "delta": delta} for delta in said]
    end = {"index": 0, "delta": {}, "finish_reason": finish_reason}
    bodies = [*({"choices": [choice]} for choice in choices), {"choices": [end]} | more]
    return b"".join(event(orjson.dumps(body)) for body in bodies) + DONE


# --- Servers --------------------------------------------------------------------------------------


class HttpProvider:
    """Says `deltas`, plain or streamed, unless a rule refuses the request. Records every body."""

    def __init__(self) -> None:
        self.deltas: list[Delta] = ["Hello!"]
        self.finish_reason = "stop"
        self.usage: dict[str, int] | None = None
        self.bodies: list[Body] = []
        # Calls wait until it opens.
        self.gate = threading.Event()
        self.gate.set()
        self._rules: list[tuple[int, Rule]] = []
        self._server = StubServer(self._handle)
        self.url = self._server.url("/v1")

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.gate.set()
        self._server.__exit__(*exception)

    def refuse(self, status: int, rule: Rule) -> None:
        """Refuse the requests for which the rule returns a message."""
        self._rules.append((status, rule))

    def _handle(self, peer: Peer, request: Request) -> None:
        body: Body = orjson.loads(request.body)
        self.bodies.append(body)
        for data in self.say(body):
            peer.send(data)

    def say(self, body: Body) -> Iterable[bytes]:
        """Return the HTTP answer to a request, in the pieces to send."""
        self.gate.wait(LATE)
        for status, rule in self._rules:
            if message := rule(body):
                error = orjson.dumps({"error": {"message": message}})
                return [answer(error, status=f"{status} No")]
        shape, kind = (streamed, EVENTS) if body.get("stream") else (plain, JSON)
        more = {} if self.usage is None else {"usage": self.usage}
        said = shape(self.deltas, self.finish_reason, **more)
        return [answer(said, content_type=kind)]


@contextmanager
def served(
    *pieces: bytes | float, content_type: str = EVENTS, status: str = "200 OK"
) -> Iterator[str]:
    """Serve one answer, made of byte pieces and pauses in seconds, then close the connection.

    The end of the test also ends every pause.
    """
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nConnection: close\r\n\r\n"

    def handle(peer: Peer, request: Request) -> None:
        peer.send(head.encode())
        for piece in pieces:
            if isinstance(piece, float):
                peer.pause(piece)
            else:
                peer.send(piece)
        peer.hang_up()

    with StubServer(handle) as server:
        yield server.url("/v1")
