"""Reads answers as clients do, so that two answers can be compared."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# The members of a message that are not reasoning.
KNOWN_MEMBERS = {"role", "content", "refusal", "tool_calls", "annotations", "audio"}


def heard(message: dict[str, Any], choice: dict[str, Any], usage: Any) -> dict[str, Any]:
    """Return the content of an answer, under the names of shapes.Said."""
    others = {name: text_of(message[name]) for name in message.keys() - KNOWN_MEMBERS}
    return {
        "text": message.get("content"),
        "finish_reason": choice.get("finish_reason"),
        "refusal": message.get("refusal"),
        "tool_calls": message.get("tool_calls") or [],
        "reasoning": {name: text for name, text in others.items() if text},
        "logprobs": choice.get("logprobs"),
        "usage": usage,
    }


def put_together(chunks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the content of a stream's chunks, put together."""
    message: dict[str, Any] = {"content": None, "refusal": None}
    calls: dict[int, dict[str, Any]] = {}
    last: dict[str, Any] = {}
    logprobs: dict[str, Any] = {}
    usage = None
    for chunk in chunks:
        usage = chunk.get("usage") or usage
        for choice in chunk.get("choices") or ():
            delta = dict(choice.get("delta") or {})
            for piece in delta.pop("tool_calls", None) or ():
                _add(calls.setdefault(piece.get("index") or 0, {}), piece)
            _add(message, delta)
            _add(logprobs, choice.get("logprobs") or {})
            last = choice if choice.get("finish_reason") else last
    if calls:
        message["tool_calls"] = [
            {name: value for name, value in call.items() if name != "index"}
            for _, call in sorted(calls.items())
        ]
    if calls or message["refusal"]:
        message["content"] = message["content"] or None
    message["refusal"] = message["refusal"] or None
    return heard(message, last | {"logprobs": logprobs or None}, usage)


def _add(whole: dict[str, Any], piece: dict[str, Any]) -> None:
    """Add a piece. Texts, lists, and objects grow. Ids, types, and roles stay."""
    for name, value in piece.items():
        known = whole.get(name)
        if known is None:
            whole[name] = dict(value) if isinstance(value, dict) else value
        elif isinstance(known, dict) and isinstance(value, dict):
            _add(known, value)
        elif type(known) is type(value) and name not in ("id", "type", "role"):
            whole[name] = known + value


def text_of(value: Any) -> str:
    """Return the text of reasoning: a string, or a list of details."""
    if isinstance(value, list):
        return "".join(part.get("text") or "" for part in value)
    return value if isinstance(value, str) else ""
