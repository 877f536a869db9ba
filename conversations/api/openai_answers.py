"""Answers of POST /v1/chat/completions, complete and in chunks.

Protocol: https://platform.openai.com/docs/api-reference/chat/object and .../chat-streaming
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import orjson

from channels.callers import Caller
from channels.providers.base import Completion, Delta
from channels.providers.tokens import describe_usage
from common.api.openai_shape import openai_error
from conversations.api.chat import stream_error
from conversations.chat.calls import Answer, Begun
from conversations.chat.complete import Completing
from conversations.usage.references import COMPLETION_PREFIX

DONE = b"data: [DONE]\n\n"


def completion_id(reply_id: uuid.UUID) -> str:
    """Return a reply's id as OpenAI clients expect it."""
    return f"{COMPLETION_PREFIX}{reply_id.hex}"


class AskedCompletion(Completing):
    """A request for a completion, and how its answer looks."""

    __slots__ = ()

    def render(self, answer: Answer) -> bytes:
        return render_completion(answer)

    def events(self, caller: Caller, begun: Begun) -> Chunks:
        return Chunks(begun, asked=self)

    def replay(self, body: bytes) -> Iterator[bytes]:
        return replay_chunks(body, asked=self)


def render_completion(answer: Answer) -> bytes:
    """Return the response body of a completion."""
    completion = answer.completion
    return orjson.dumps(
        {
            "id": completion_id(answer.call.hold.id),
            "object": "chat.completion",
            "created": int(answer.call.admitted_at.timestamp()),
            "model": answer.call.caller.model.model_id,
            "choices": [
                {
                    "index": 0,
                    "message": message_of(completion),
                    "logprobs": completion.logprobs,
                    "finish_reason": completion.finish_reason,
                }
            ],
            "usage": describe_usage(answer.usage),
        }
    )


def message_of(completion: Completion) -> dict[str, Any]:
    """Return the model's answer as a message of the protocol."""
    has_other = completion.tool_calls or completion.refusal
    message: dict[str, Any] = {
        "role": "assistant",
        "content": completion.text or (None if has_other else ""),
        "refusal": completion.refusal or None,
        **completion.members,
    }
    if completion.tool_calls:
        message["tool_calls"] = completion.tool_calls
    return message


class Chunks:
    """Writes a stream in chunks: first the role, then pieces, the end, and usage if requested."""

    def __init__(self, begun: Begun, *, asked: Completing) -> None:
        head = {
            "id": completion_id(begun.reply_id),
            "object": "chat.completion.chunk",
            "created": int(begun.admitted_at.timestamp()),
            "model": asked.model_id,
        }
        self._writer = ChunkWriter(head, includes_usage=asked.includes_usage)
        self._first = self._writer.role()

    def delta(self, delta: Delta) -> bytes:
        members = {"content": delta} if isinstance(delta, str) else delta
        first, self._first = self._first, b""
        return first + self._writer.choice(members)

    def end(self, answer: Answer) -> bytes:
        first, self._first = self._first, b""
        usage = describe_usage(answer.usage)
        return first + self._writer.end(answer.completion.finish_reason, usage)

    def error(self, error: Exception) -> bytes:
        return _data(openai_error(stream_error(error)))


class ChunkWriter:
    """Creates the events of one completion, all with the same head."""

    def __init__(self, head: dict[str, Any], *, includes_usage: bool) -> None:
        self._head = head
        self._includes_usage = includes_usage

    def role(self) -> bytes:
        """Return the chunk that begins a stream."""
        return self.choice({"role": "assistant", "content": "", "refusal": None})

    def choice(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        """Return the chunk of a piece. Log probabilities go next to the delta, not into it."""
        logprobs = delta.get("logprobs")
        if "logprobs" in delta:
            delta = {name: value for name, value in delta.items() if name != "logprobs"}
        choice = {
            "index": 0,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        no_usage = {"usage": None} if self._includes_usage else {}
        return _data(self._head | {"choices": [choice]} | no_usage)

    def end(self, finish_reason: str, usage: dict[str, Any]) -> bytes:
        """Return everything after the last piece."""
        last = self.choice({}, finish_reason)
        if self._includes_usage:
            last += _data(self._head | {"choices": [], "usage": usage})
        return last + DONE


def replay_chunks(body: bytes, *, asked: Completing) -> Iterator[bytes]:
    """Yield the stream of a stored completion, in as few chunks as possible."""
    stored = orjson.loads(body)
    head = {name: stored[name] for name in ("id", "created", "model")}
    head["object"] = "chat.completion.chunk"
    writer = ChunkWriter(head, includes_usage=asked.includes_usage)
    (choice,) = stored["choices"]
    yield writer.role()
    said = {name: value for name, value in choice["message"].items() if value and name != "role"}
    if calls := said.get("tool_calls"):
        said["tool_calls"] = [{"index": index} | call for index, call in enumerate(calls)]
    if said:
        yield writer.choice(said | {"logprobs": choice["logprobs"]})
    yield writer.end(choice["finish_reason"], stored["usage"])


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"
