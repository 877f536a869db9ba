"""Providers' answers, byte for byte, and what the gateway must make of them.

One module per family holds its shapes as a table. The shapes follow the provider's documentation or
public reports (`source`). All values are made up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

# Some characters have more than one byte, so that a stream can be cut in the middle of one.
TEXT = "Crème brûlée costs 7 €. 🍮"
PIECES = ("Crème ", "brûlée ", "costs 7 €. ", "🍮")
QUESTION = "What does it cost?"
THOUGHTS = "A dessert… they want its price."
REFUSAL = "I cannot help with that, sorry."

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
TOOLS = {"tools": [WEATHER]}


@dataclass(frozen=True, slots=True)
class Said:
    """An answer as a caller of /v1 must get it: plain, streamed, and replayed.

    `tokens` are the charged (input, output) tokens, or None if the provider reports none and the
    gateway estimates them. `text` is None if the message has no content. A tool call's `id` is None
    if the gateway has to create one.
    """

    text: str | None = TEXT
    finish_reason: str = "stop"
    refusal: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    # Maps a member of the message to its text, which is not part of the reply.
    reasoning: Mapping[str, str] = field(default_factory=dict)
    tokens: tuple[int, int] | None = (31, 12)
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    logprobs: Any = None


@dataclass(frozen=True, slots=True)
class Refused:
    """An error as a caller must get it. `code` is None if the provider chooses it.

    There are several statuses if the contract leaves it open. The message contains `says`, and
    nothing of `hides`.
    """

    statuses: tuple[int, ...]
    code: str | None
    param: str | None = None
    says: str = ""
    hides: tuple[str, ...] = ()


FAILED = Refused((502,), "provider_error")
FILTERED = Refused((422,), "content_filtered")
TOO_LONG = Refused((400,), "context_length_exceeded", "messages")
# For a request that no route takes, if the provider's status is not 400.
CALLERS_ERROR = Refused((400, 413, 422), None)
CHAT_FAILED = Refused((500,), "provider_error")

# How the failure counts against the route (channels/providers/faults.py): not at all, as one of
# five, disabled at once, or skipped for the time that the provider asked for.
Fault = Literal["nothing", "doubtful", "at once", "waits"]
Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """One answer of a provider, and its expected result.

    `plain` is the body of an answer in one piece, `stream` the body of a streamed one. Without
    `stream`, a streaming request gets `plain`, as for errors and providers that cannot stream.
    `chat` is the reply of /api/chat: "" if it is the text of `v1`, None if no request of /api/chat
    can cause this answer.
    """

    name: str
    source: str
    v1: Said | Refused
    plain: bytes | None = None
    stream: bytes | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    stream_type: str = "text/event-stream"
    chat: str | Refused | None = ""
    fault: Fault = "nothing"
    # Members that a request must have to get this answer.
    request: Body = field(default_factory=dict)
    # If set, only requests of this kind get this answer. Others get that of the shape `otherwise`.
    only_if: Callable[[Body], bool] | None = None
    otherwise: str = ""

    def is_answered(self) -> bool:
        return isinstance(self.v1, Said)


def error(name: str, source: str, status: int, said: Any, **more: Any) -> Shape:
    """Return an error: plain JSON, even for a streaming request.

    By default, it is a provider failure that counts as doubtful.
    """
    defaults: dict[str, Any] = {"v1": FAILED, "chat": CHAT_FAILED, "fault": "doubtful"}
    if more.get("v1") == FILTERED:
        defaults |= {"chat": FILTERED}
    body = said if isinstance(said, bytes) else dumps(said)
    return Shape(name, source, plain=body, status=status, **(defaults | more))


def dumps(value: Any) -> bytes:
    return orjson.dumps(value)


def sse(*events: Any, done: bool = True) -> bytes:
    """Return an event stream, with objects as JSON and bytes unchanged."""
    rows = [e if isinstance(e, bytes) else b"data: " + dumps(e) + b"\n\n" for e in events]
    return b"".join(rows) + (b"data: [DONE]\n\n" if done else b"")


def call(city: str, *, call_id: str | None, **more: Any) -> dict[str, Any]:
    """Return a tool call as a caller of /v1 gets it."""
    function = {"name": "weather", "arguments": f'{{"city":"{city}"}}'}
    return {"id": call_id, "type": "function", "function": function} | more


def has_system(body: Body) -> bool:
    return any(message["role"] == "system" for message in body["messages"])


def has_stream_options(body: Body) -> bool:
    return "stream_options" in body


def has_max_tokens(body: Body) -> bool:
    return "max_tokens" in body


def asks_for_more_than(limit: int) -> Callable[[Body], bool]:
    """Return the condition for requests with a limit of more than this many output tokens."""
    return lambda body: bool(body.get("max_tokens", body.get("max_completion_tokens", 0)) > limit)


def has_parts(body: Body) -> bool:
    return any(isinstance(message.get("content"), list) for message in body["messages"])


def has_long_history(body: Body) -> bool:
    return len([m for m in body["messages"] if m["role"] == "user"]) > 2
