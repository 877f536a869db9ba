"""Bodies of POST /v1/chat/completions: checked by hand, and what is not known left out.

Protocol: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from common.errors import InvalidRequest
from conversations.completions import Asked
from conversations.idempotency import Key

ROLES = ("system", "developer", "user", "assistant", "tool")
LONGEST_STOP = 4
MOST_TOOLS = 128
# Members of a message that a provider gets to see.
_MESSAGE_MEMBERS = ("role", "content", "name", "tool_calls", "tool_call_id")
# A NUL in JSON: its escape, after an even number of backslashes.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

Fields = dict[str, str]


def parse_completion_request(
    data: dict[str, Any], key: Key | None = None, simulate: str = ""
) -> Asked:
    """Return the validated request. Raises InvalidRequest naming every field that is wrong."""
    fields: Fields = {}
    model_id = data.get("model")
    if not isinstance(model_id, str) or not model_id:
        fields["model"] = "Must be the id of a model; GET /v1/models lists them."
    check_writable(model_id, "model", fields)
    messages = _parse_messages(data.get("messages"), fields)
    options = _parse_options(data, fields)
    limit_name, limit = _parse_limit(data, fields)
    is_stream = _read_flag(data, "stream", "stream", fields)
    includes_usage = _parse_stream_options(data.get("stream_options"), fields)
    if data.get("n") not in (None, 1):
        fields["n"] = "Must be 1: one request, one answer."
    if fields:
        raise InvalidRequest(fields=fields)
    return Asked(
        model_id=str(model_id),
        messages=messages,
        options=options,
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
        fields["messages"] = "Must be a list of at least one message."
        return []
    return [_parse_message(message, f"messages[{n}]", fields) for n, message in enumerate(value)]


def _parse_message(value: Any, path: str, fields: Fields) -> dict[str, Any]:
    """Return a message with the members that are known; note in `fields` what is wrong with it."""
    if not isinstance(value, dict):
        fields[path] = "Must be an object."
        return {}
    role = value.get("role")
    if role not in ROLES:
        fields[f"{path}.role"] = f"Must be one of {', '.join(ROLES)}."
    message = {name: value[name] for name in _MESSAGE_MEMBERS if value.get(name) is not None}
    calls = value.get("tool_calls")
    if calls is not None and (role != "assistant" or not _are_tool_calls(calls)):
        fields[f"{path}.tool_calls"] = "Must be an assistant's calls, as a model has made them."
    if value.get("content") is None and calls:
        message["content"] = None
    elif not _is_content(value.get("content")):
        fields[f"{path}.content"] = "Must be a string, or a list of parts of type text."
    if role == "tool" and not isinstance(value.get("tool_call_id"), str):
        fields[f"{path}.tool_call_id"] = "Must be the id of the call that this answers."
    if not isinstance(value.get("name"), str | None):
        fields[f"{path}.name"] = "Must be a string."
    check_writable(message, path, fields)
    return message


def _is_content(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and bool(value) and all(map(_is_text_part, value))
    )


def _is_text_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and _is_text(part.get("text"))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_tool_calls(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_tool_call, value))


def _is_tool_call(call: Any) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    return (
        isinstance(function, dict)
        and _is_text(call.get("id"))
        and _is_text(function.get("name"))
        and _is_text(function.get("arguments"))
    )


def check_writable(value: Any, path: str, fields: Fields) -> None:
    """Note what could not be passed on: NUL, lone surrogates, numbers and depth beyond JSON's."""
    try:
        written = orjson.dumps(value)
    except TypeError:
        fields[path] = "Must not contain lone surrogates, numbers above 64 bits, or deep nesting."
        return
    if _NUL.search(written):
        fields[path] = "Must not contain NUL characters."


# --- Options ------------------------------------------------------------------------------------


def _is_number(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: type(value) in (int, float) and low <= value <= high


def _is_stop(value: Any) -> bool:
    if isinstance(value, list):
        return 1 <= len(value) <= LONGEST_STOP and all(map(_is_text, value))
    return _is_text(value)


def _is_response_format(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    if value.get("type") == "json_schema":
        return isinstance(value.get("json_schema"), dict)
    return value.get("type") in ("text", "json_object")


def _are_tools(value: Any) -> bool:
    return isinstance(value, list) and 1 <= len(value) <= MOST_TOOLS and all(map(_is_tool, value))


def _is_tool(tool: Any) -> bool:
    function = tool.get("function") if isinstance(tool, dict) else None
    return isinstance(function, dict) and _is_text(function.get("name"))


def _is_tool_choice(value: Any) -> bool:
    return value in ("none", "auto", "required") or (isinstance(value, dict) and bool(value))


_OPTIONS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "temperature": (_is_number(0, 2), "Must be a number from 0 to 2."),
    "top_p": (_is_number(0, 1), "Must be a number from 0 to 1."),
    "presence_penalty": (_is_number(-2, 2), "Must be a number from -2 to 2."),
    "frequency_penalty": (_is_number(-2, 2), "Must be a number from -2 to 2."),
    "stop": (_is_stop, f"Must be a string, or a list of 1 to {LONGEST_STOP} strings."),
    "seed": (
        lambda value: type(value) is int and abs(value) < 2**63,
        "Must be a whole number of at most 64 bits.",
    ),
    "response_format": (
        _is_response_format,
        "Must be an object whose type is text, json_object or json_schema.",
    ),
    "tools": (_are_tools, f"Must be a list of 1 to {MOST_TOOLS} functions, each with a name."),
    "tool_choice": (_is_tool_choice, "Must be none, auto, required, or name a function."),
    "parallel_tool_calls": (lambda value: isinstance(value, bool), "Must be true or false."),
}


def _parse_options(data: dict[str, Any], fields: Fields) -> dict[str, Any]:
    """Return the options that are passed on; null is the same as leaving one out."""
    options = {name: data[name] for name in _OPTIONS if data.get(name) is not None}
    for name, value in options.items():
        is_right, rule = _OPTIONS[name]
        if not is_right(value):
            fields[name] = rule
        else:
            check_writable(value, name, fields)
    return options


def _parse_limit(data: dict[str, Any], fields: Fields) -> tuple[str, int | None]:
    """Return the limit of the answer under the name it came with; of two, the newer name's."""
    for name in ("max_completion_tokens", "max_tokens"):
        limit = data.get(name)
        if type(limit) is int and limit >= 1:
            return name, limit
        if limit is not None:
            fields[name] = "Must be a whole number of at least 1."
    return "max_tokens", None


def _parse_stream_options(value: Any, fields: Fields) -> bool:
    if value is None:
        return False
    if not isinstance(value, dict):
        fields["stream_options"] = "Must be an object."
        return False
    return _read_flag(value, "include_usage", "stream_options.include_usage", fields)


def _read_flag(data: dict[str, Any], name: str, path: str, fields: Fields) -> bool:
    value = data.get(name)
    if not isinstance(value, bool | None):
        fields[path] = "Must be true or false."
    return value is True
