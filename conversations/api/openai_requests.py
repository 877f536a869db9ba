"""Bodies of POST /v1/chat/completions. Each member is passed on unchanged or refused by name.

Protocol: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from types import UnionType
from typing import Any

from channels.providers.base import CONTENT_PARTS, SOURCES
from common.errors import InvalidRequest
from conversations.api import images
from conversations.api.openai_answers import AskedCompletion
from conversations.api.parameters import (
    PARAMETERS,
    Fields,
    check_writable,
    is_text,
    read_options,
    show_name,
)
from conversations.chat.idempotency import Key

ROLES = ("system", "developer", "user", "assistant", "tool")
# No provider accepts these in a message, and images among them would not be charged.
_NOT_SENT = (CONTENT_PARTS, "images", *SOURCES)
_PARTS = {"user": ("text", "image_url"), "assistant": ("text", "refusal")}
# Members of every message. Role, content, and tool calls have their own checks.
_MEMBERS: dict[str, type | UnionType] = {
    "role": object,
    "content": object,
    "tool_calls": object,
    "name": str,
    "tool_call_id": str,
}
# More members of answers, from this gateway or directly from a provider. Clients send them back
# unchanged, and some models need them (openai_answers.py, channels/providers/answers.py).
_ANSWER_MEMBERS: dict[str, type | UnionType] = {
    "refusal": str,
    "reasoning_content": str | list | dict,
    "reasoning": str | list | dict,
    "reasoning_details": list,
    "annotations": list,
    "thinking_blocks": list,
    "executed_tools": list,
    **dict.fromkeys(_NOT_SENT, list),
    # The model continues from here: `prefix` for DeepSeek and Mistral, `partial` for Moonshot.
    "prefix": bool,
    "partial": bool,
}
_KINDS: dict[Any, str] = {
    str: "Must be a string.",
    list: "Must be a list.",
    bool: "Must be true or false.",
    str | list | dict: "Must be a string, a list or an object.",
}
_NO_MEMBER = "the protocol has no such member in a message of this role."
_REFUSED_MEMBERS = {
    "audio": "Must be left out: conversations are text.",
    "function_call": "Must be left out: it is deprecated. Use `tool_calls`.",
}


def parse_completion_request(
    data: dict[str, Any], key: Key | None = None, simulate: str = ""
) -> AskedCompletion:
    """Return the validated request. Raises InvalidRequest, naming every wrong field."""
    fields: Fields = {}
    model_id = data.get("model")
    if not isinstance(model_id, str) or not model_id:
        fields["model"] = PARAMETERS["model"].rule
    check_writable(model_id, "model", fields)
    messages = _parse_messages(data.get("messages"), fields)
    options = read_options(data, fields)
    limit_name, limit = _parse_limit(data, fields)
    is_stream = _read_flag(data, "stream", "stream", fields)
    includes_usage = _parse_stream_options(data.get("stream_options"), fields)
    if fields:
        raise InvalidRequest(fields=fields)
    return AskedCompletion(
        model_id=str(model_id),
        messages=messages,
        options=options.values,
        unlisted_options=options.unlisted,
        max_output_tokens=limit,
        limit_name=limit_name,
        is_stream=is_stream,
        includes_usage=includes_usage,
        idempotency_key=key,
        simulate=simulate,
    )


# --- Messages -----------------------------------------------------------------------------------


def _parse_messages(value: Any, fields: Fields) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        fields["messages"] = PARAMETERS["messages"].rule
        return []
    return [_parse_message(message, f"messages[{n}]", fields) for n, message in enumerate(value)]


def _parse_message(value: Any, path: str, fields: Fields) -> dict[str, Any]:
    """Return a message without its null members. Adds errors to `fields`."""
    if not isinstance(value, dict):
        fields[path] = "Must be an object."
        return {}
    role = value.get("role")
    if role not in ROLES:
        fields[f"{path}.role"] = f"Must be one of {', '.join(ROLES)}."
    message = {name: member for name, member in value.items() if member is not None}
    if message.get("tool_calls") == []:
        del message["tool_calls"]
    calls = message.get("tool_calls")
    if calls is not None and (role != "assistant" or not _are_tool_calls(calls)):
        fields[f"{path}.tool_calls"] = (
            "Must be an assistant's tool calls, as the model returned them."
        )
    if value.get("content") is None and (calls or message.get("refusal")):
        message["content"] = None
    else:
        _check_content(value.get("content"), role, f"{path}.content", fields)
    if role == "tool" and not is_text(value.get("tool_call_id")):
        fields[f"{path}.tool_call_id"] = "Must be the id of the tool call that this answers."
    _check_members(message, role, path, fields)
    check_writable(message, path, fields)
    for name in _NOT_SENT:
        message.pop(name, None)
    return message


def _check_members(message: dict[str, Any], role: Any, path: str, fields: Fields) -> None:
    known = _MEMBERS | _ANSWER_MEMBERS if role == "assistant" else _MEMBERS
    for name in sorted(message.keys() - known.keys()):
        shown = f"{path}.{show_name(name)}"
        fields[shown] = _REFUSED_MEMBERS.get(name, f"Must be left out: {_NO_MEMBER}")
    for name in sorted(message.keys() & known.keys()):
        if not isinstance(message[name], known[name]):
            fields[f"{path}.{name}"] = _KINDS[known[name]]


def _check_content(value: Any, role: Any, path: str, fields: Fields) -> None:
    """Check that a content is a string or parts that the role may have. Adds errors to `fields`."""
    if isinstance(value, str):
        return
    kinds = _PARTS.get(role, ("text",)) if isinstance(role, str) else ("text",)
    rule = f"Must be a string, or a list of parts of type {' or '.join(kinds)}."
    if not isinstance(value, list) or not value:
        fields[path] = rule
        return
    for number, part in enumerate(value):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in kinds:
            fields[f"{path}[{number}]"] = rule
        elif kind == "image_url" and not images.is_image(part.get(kind)):
            fields[f"{path}[{number}].image_url"] = images.RULE
        elif kind != "image_url" and not is_text(part.get(kind)):
            fields[f"{path}[{number}].{kind}"] = "Must be a string."


def _are_tool_calls(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_tool_call, value))


def _is_tool_call(call: Any) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    return (
        isinstance(function, dict)
        and is_text(call.get("id"))
        and is_text(function.get("name"))
        and is_text(function.get("arguments"))
    )


# --- Limit and stream ----------------------------------------------------------------------------


def _parse_limit(data: dict[str, Any], fields: Fields) -> tuple[str, int | None]:
    """Return the limit of the answer, and the name it came with.

    If both names are set, returns the smaller limit under the newer name. That keeps both limits,
    and no provider takes both names.
    """
    limits: dict[str, int] = {}
    for name in ("max_completion_tokens", "max_tokens"):
        limit = data.get(name)
        if type(limit) is int and limit >= 1:
            limits[name] = limit
        elif limit is not None:
            fields[name] = PARAMETERS[name].rule
    name = next(iter(limits), "max_tokens")
    return name, min(limits.values(), default=None)


def _parse_stream_options(value: Any, fields: Fields) -> bool:
    """Return whether usage is requested. Refuses padding, because chunks are never padded."""
    if value is None:
        return False
    if not isinstance(value, dict):
        fields["stream_options"] = PARAMETERS["stream_options"].rule
        return False
    for name in sorted(value.keys() - {"include_usage"}):
        if value[name] is not None and (name != "include_obfuscation" or value[name] is not False):
            path = f"stream_options.{show_name(name)}"
            fields[path] = "Must be left out: the gateway writes its chunks without it."
    return _read_flag(value, "include_usage", "stream_options.include_usage", fields)


def _read_flag(data: dict[str, Any], name: str, path: str, fields: Fields) -> bool:
    value = data.get(name)
    if not isinstance(value, bool | None):
        fields[path] = "Must be true or false."
    return value is True
