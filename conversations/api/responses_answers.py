"""Answers of POST /v1/responses: the object, and the events that lead to it.

Protocol: https://platform.openai.com/docs/api-reference/responses/object and
.../responses-streaming
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from channels.callers import Caller
from channels.providers.base import (
    CONTENT_PARTS,
    REASONING_NAMES,
    Completion,
    Delta,
    Usage,
    text_of_reasoning,
)
from channels.providers.faults import is_cut, is_filtered
from channels.providers.tokens import describe_usage
from common.api.openai_shape import openai_error
from conversations.api.chat import stream_error
from conversations.api.responses_input import REASONING_FIELD
from conversations.chat import streaming
from conversations.chat.calls import Answer, Begun
from conversations.chat.complete import Completing
from conversations.usage.references import RESPONSE_PREFIX


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedResponse(Completing):
    """A request for a response, and how its answer looks, which repeats `settings`."""

    settings: Mapping[str, Any]

    def render(self, answer: Answer) -> bytes:
        return render_response(answer, settings=self.settings)

    def events(self, caller: Caller, begun: Begun) -> Events:
        return Events(begun, asked=self)

    def replay(self, body: bytes) -> Iterator[bytes]:
        return replay_events(body)


def render_response(answer: Answer, *, settings: Mapping[str, Any]) -> bytes:
    """Return the response body of an answer."""
    completion = answer.completion
    reason = _why_incomplete(completion.finish_reason)
    status = "incomplete" if reason else "completed"
    begun = Begun(answer.call.hold.id, answer.call.admitted_at)
    response = _describe_beginning(begun, answer.call.caller.model.model_id, settings) | {
        "status": status,
        "incomplete_details": {"reason": reason} if reason else None,
        "output": _list_items(begun.reply_id, completion, status),
        "usage": _describe_usage(answer.usage),
    }
    return orjson.dumps(response)


def _describe_beginning(begun: Begun, model_id: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return an empty response. Every response has these members."""
    return {
        "id": f"{RESPONSE_PREFIX}{begun.reply_id.hex}",
        "object": "response",
        "created_at": int(begun.admitted_at.timestamp()),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": model_id,
        "output": [],
        "usage": None,
        **settings,
    }


def _why_incomplete(finish_reason: str) -> str | None:
    if is_cut(finish_reason):
        return "max_output_tokens"
    return "content_filter" if is_filtered(finish_reason) else None


def _describe_usage(usage: Usage) -> dict[str, Any]:
    """Return the tokens of a call. Clients' types require the details, so unknown ones are 0."""
    counts = describe_usage(usage)
    return {
        "input_tokens": counts["prompt_tokens"],
        "input_tokens_details": {
            "cached_tokens": usage.cached_input_tokens or 0,
            "cache_write_tokens": 0,
        },
        "output_tokens": counts["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": counts["total_tokens"],
    } | ({"estimated": True} if usage.is_estimated else {})


# --- Items ----------------------------------------------------------------------------------------
# Their ids are derived from the reply's id, so that events, object, and replay agree.


def _list_items(reply_id: uuid.UUID, completion: Completion, status: str) -> list[dict[str, Any]]:
    """Return the model's answer as items: reasoning, a message, calls.

    An empty answer is a message with an empty text.
    """
    items = []
    if thoughts := text_of_reasoning(completion.members):
        name = _name_of_thoughts(completion.members)
        items.append(_reasoning(reply_id.hex, name, [_part("reasoning_text", thoughts)]))
    parts = [_part("refusal", completion.refusal)] if completion.refusal else []
    if completion.text or not (parts or completion.tool_calls):
        text = _part("output_text", completion.text) | {
            "annotations": _annotations(completion.members.get("annotations")),
            "logprobs": _logprobs(completion.logprobs),
        }
        parts.insert(0, text)
    if parts:
        message = _message(reply_id.hex, parts)
        if others := completion.members.get(CONTENT_PARTS):
            message[CONTENT_PARTS] = others
        items.append(message)
    items += [_call(reply_id.hex, n, call) for n, call in enumerate(completion.tool_calls)]
    items[-1]["status"] = status
    return items


def _reasoning(reply_hex: str, name: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"rs_{reply_hex}",
        "type": "reasoning",
        "status": "completed",
        "summary": [],
        "content": parts,
        REASONING_FIELD: name,
    }


def _message(reply_hex: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"msg_{reply_hex}",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": parts,
    }


def _call(reply_hex: str, number: int, call: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call. Keeps members that only its provider knows, for the caller's next turn."""
    others = {name: call[name] for name in call if name not in ("index", "id", "type", "function")}
    return others | {
        "id": f"fc_{reply_hex}{number:02}",
        "type": "function_call",
        "status": "completed",
        "call_id": call["id"],
        "name": call["function"]["name"],
        "arguments": call["function"]["arguments"],
    }


def _part(kind: str, text: str) -> dict[str, Any]:
    """Return a part of a content. `kind` is its type in the protocol."""
    if kind == "refusal":
        return {"type": kind, "refusal": text}
    more: dict[str, Any] = {"annotations": [], "logprobs": []} if kind == "output_text" else {}
    return {"type": kind, "text": text, **more}


def _text_of(part: Mapping[str, Any]) -> str:
    return str(part["refusal" if part["type"] == "refusal" else "text"])


def _name_of_thoughts(members: Mapping[str, Any]) -> str:
    return next(name for name in REASONING_NAMES if text_of_reasoning({name: members.get(name)}))


def _logprobs(logprobs: Any) -> list[Any]:
    """Return a chat's log probabilities in a response's form, which has only those of the text."""
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    return tokens if isinstance(tokens, list) else []


def _annotations(annotations: Any) -> list[Any]:
    """Return a chat's citations in a response's form, with their members one level higher."""
    needed = {"url", "title", "start_index", "end_index"}
    citations = [note.get("url_citation") for note in annotations or () if isinstance(note, dict)]
    return [
        {"type": "url_citation", **citation}
        for citation in citations
        if isinstance(citation, dict) and needed <= citation.keys()
    ]


# --- Events ---------------------------------------------------------------------------------------


class Events:
    """Writes a stream: the start of the response, its items piece by piece, and the whole."""

    def __init__(self, begun: Begun, *, asked: AskedResponse) -> None:
        self._writer = EventWriter(_describe_beginning(begun, asked.model_id, asked.settings))

    def delta(self, delta: Delta) -> bytes:
        return b"".join(self._writer.piece({"content": delta} if isinstance(delta, str) else delta))

    def end(self, answer: Answer) -> bytes:
        return b"".join(self._writer.end(orjson.loads(answer.body)))

    def error(self, error: Exception) -> bytes:
        return b"".join(self._writer.fail(openai_error(stream_error(error))["error"]))


def replay_events(body: bytes) -> Iterator[bytes]:
    """Yield the stream of a stored response, each text in one piece."""
    stored = orjson.loads(body)
    nothing: dict[str, Any] = {
        "status": "in_progress",
        "incomplete_details": None,
        "output": [],
        "usage": None,
    }
    yield from EventWriter(stored | nothing).end(stored)


class EventWriter:
    """Creates the events of one response. An item opens with its first piece.

    An item is done at the end of the stream, because a late piece may still belong to it. Reasoning
    is done as soon as the answer begins. Any later reasoning is only in the whole response.
    """

    def __init__(self, response: dict[str, Any]) -> None:
        self._response = response
        self._reply_hex = str(response["id"]).removeprefix(RESPONSE_PREFIX)
        self._sequence = 0
        self._places: dict[str, int] = {}  # indexes of open and done items, by item id
        self._parts: dict[str, list[str]] = {}  # types of their parts, in order
        self._done: set[str] = set()
        self._thoughts: dict[str, Any] | None = None  # the reasoning so far
        self._calls: dict[int, dict[str, Any]] = {}

    def piece(self, members: Mapping[str, Any]) -> Iterator[bytes]:
        """Yield the events of a piece of an answer."""
        yield from self._begin()
        if thoughts := text_of_reasoning(members):
            yield from self._think(_name_of_thoughts(members), thoughts)
        if any(map(members.get, ("content", "refusal", "tool_calls"))):
            yield from self._end_thoughts()
        message = _message(self._reply_hex, [])
        if text := members.get("content"):
            logprobs = {"logprobs": _logprobs(members.get("logprobs"))}
            yield from self._write(message, "output_text", text, **logprobs)
        if refusal := members.get("refusal"):
            yield from self._write(message, "refusal", refusal)
        for call in members.get("tool_calls") or ():
            yield from self._write_call(call)

    def end(self, response: dict[str, Any]) -> Iterator[bytes]:
        """Yield the remaining events of a complete response, and the response itself."""
        yield from self._begin()
        unopened = len(self._places)
        items = sorted(response["output"], key=lambda item: self._places.get(item["id"], unopened))
        for item in items:
            yield from self._write_rest(item)
            yield from self._finish(item)
        yield self._event(f"response.{response['status']}", response=response | {"output": items})

    def fail(self, error: dict[str, Any]) -> Iterator[bytes]:
        """Yield the end of a failed response. No part of it was charged."""
        yield from self._begin()
        response = self._response | {"status": "failed", "error": error}
        yield self._event("response.failed", response=response)

    def _begin(self) -> Iterator[bytes]:
        if not self._sequence:
            yield self._event("response.created", response=self._response)
            yield self._event("response.in_progress", response=self._response)

    def _think(self, name: str, thoughts: str) -> Iterator[bytes]:
        if self._thoughts is None:
            part = _part("reasoning_text", "")
            self._thoughts = _reasoning(self._reply_hex, name, [part])
        if self._thoughts["id"] not in self._done:
            self._thoughts["content"][0]["text"] += thoughts
            yield from self._write(self._thoughts, "reasoning_text", thoughts)

    def _end_thoughts(self) -> Iterator[bytes]:
        if self._thoughts is not None:
            yield from self._finish(self._thoughts)

    def _write_call(self, piece: Mapping[str, Any]) -> Iterator[bytes]:
        """Yield the arguments of a call. Its name is complete when they begin."""
        number = piece["index"]
        empty = {"id": "", "function": {"name": "", "arguments": ""}}
        call = self._calls.setdefault(number, empty)
        function = piece.get("function") or {}
        call |= {name: value for name, value in piece.items() if name != "function"}
        call["function"]["name"] += function.get("name") or ""
        if arguments := function.get("arguments"):
            item = _call(self._reply_hex, number, call)
            yield from self._open(item)
            yield self._event_of(item, "function_call_arguments.delta", delta=arguments)

    def _write_rest(self, item: dict[str, Any]) -> Iterator[bytes]:
        """Yield what has not been written yet of an item: all of it, or a part."""
        if item["type"] == "function_call" and item["id"] not in self._places:
            yield from self._open(item)
            yield self._event_of(item, "function_call_arguments.delta", delta=item["arguments"])
        for part in item.get("content", ()):
            if part["type"] not in self._parts.get(item["id"], ()):
                more = {"logprobs": part["logprobs"]} if part["type"] == "output_text" else {}
                yield from self._write(item, part["type"], _text_of(part), **more)

    def _write(self, item: dict[str, Any], kind: str, text: str, **more: Any) -> Iterator[bytes]:
        """Yield a piece of text. First opens its item and its part if needed."""
        yield from self._open(item)
        parts = self._parts.setdefault(item["id"], [])
        if kind not in parts:
            parts.append(kind)
            yield self._event_of(item, "content_part.added", kind, part=_part(kind, ""))
        if text:
            yield self._event_of(item, f"{kind}.delta", kind, delta=text, **more)

    def _open(self, item: dict[str, Any]) -> Iterator[bytes]:
        if item["id"] in self._places:
            return
        self._places[item["id"]] = place = len(self._places)
        empty: dict[str, Any] = (
            {"arguments": ""} if item["type"] == "function_call" else {"content": []}
        )
        opened = item | empty | {"status": "in_progress"}
        yield self._event("response.output_item.added", output_index=place, item=opened)

    def _finish(self, item: dict[str, Any]) -> Iterator[bytes]:
        """Yield the events that finish an item and its parts. Sorts the parts as they came."""
        if item["id"] in self._done:
            return
        self._done.add(item["id"])
        if item["type"] == "function_call":
            arguments, name = item["arguments"], item["name"]
            done = "function_call_arguments.done"
            yield self._event_of(item, done, arguments=arguments, name=name)
        else:
            item["content"].sort(key=lambda part: self._parts[item["id"]].index(part["type"]))
        for part in item.get("content", ()):
            kind, field = part["type"], "refusal" if part["type"] == "refusal" else "text"
            more = {"logprobs": part["logprobs"]} if kind == "output_text" else {}
            yield self._event_of(item, f"{kind}.done", kind, **{field: part[field]}, **more)
            yield self._event_of(item, "content_part.done", kind, part=part)
        place = self._places[item["id"]]
        yield self._event("response.output_item.done", output_index=place, item=item)

    def _event_of(
        self, item: Mapping[str, Any], name: str, part: str | None = None, /, **members: Any
    ) -> bytes:
        """Return an event about an item, or about its part of the given type."""
        item_id = item["id"]
        where = {"item_id": item_id, "output_index": self._places[item_id]}
        if part is not None:
            where["content_index"] = self._parts[item_id].index(part)
        return self._event(f"response.{name}", **where, **members)

    def _event(self, name: str, /, **members: Any) -> bytes:
        data = {"type": name, "sequence_number": self._sequence, **members}
        self._sequence += 1
        return streaming.event(name, orjson.dumps(data))
