"""Bodies of POST /v1/responses: a stateless chat in OpenAI's newer protocol.

Protocol: https://platform.openai.com/docs/api-reference/responses/create
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from common.errors import InvalidRequest
from conversations.api.parameters import MOST_TOOLS, Fields, check_writable
from conversations.api.responses_answers import AskedResponse
from conversations.api.responses_input import parse_input, refuse_others
from conversations.chat.idempotency import Key

_STATELESS = "The gateway stores no conversation: send all of it in input."
# What the gateway does not do, and why. Null is the same as leaving a member out.
_REFUSED = {
    "previous_response_id": _STATELESS,
    "conversation": _STATELESS,
    "prompt": "The gateway keeps no prompt templates: send instructions and input.",
}
_MOST_METADATA = 16


def parse_response_request(
    data: dict[str, Any], key: Key | None = None, simulate: str = ""
) -> AskedResponse:
    """Return the validated request. Raises InvalidRequest, naming every wrong field."""
    fields: Fields = {}
    given = _check_members(data, fields)
    messages = parse_input(data.get("input"), fields)
    options = _parse_options(given, fields)
    if fields:
        raise InvalidRequest(fields=fields)
    if instructions := given.get("instructions"):
        messages.insert(0, {"role": "system", "content": instructions})
    return AskedResponse(
        model_id=given["model"],
        messages=messages,
        options=options,
        max_output_tokens=given.get("max_output_tokens"),
        is_stream=given.get("stream", False),
        messages_field="input",
        idempotency_key=key,
        simulate=simulate,
        settings=_settings_of(given),
    )


# --- Members ------------------------------------------------------------------------------------


def _check_members(data: dict[str, Any], fields: Fields) -> dict[str, Any]:
    """Return the members that are not null. Adds errors for values that are wrong by themselves.

    Raises InvalidRequest for unknown members, and for values that cannot be written as JSON and so
    could not be shown either.
    """
    for name, value in data.items():
        path = name[:64] if name.isprintable() else "body"
        if name != "input":
            check_writable({name: value}, path, fields)
        if name not in _KNOWN and value is not None:
            fields[path] = _REFUSED.get(
                name, "The gateway does not know this member. Leave it out."
            )
    if fields:
        raise InvalidRequest(fields=fields)
    given = {name: value for name, value in data.items() if value is not None}
    for name, (is_right, rule) in _RULES.items():
        if (name in given or name == "model") and not is_right(given.get(name)):
            fields[name] = rule
    return given


def _is_number(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: type(value) in (int, float) and low <= value <= high


def _is_whole(low: int, high: float) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_metadata(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= _MOST_METADATA
        and all(isinstance(text, str) and len(text) <= 512 for text in value.values())
        and all(len(name) <= 64 for name in value)
    )


_LOGPROBS = "message.output_text.logprobs"
# Chat providers show no encrypted reasoning, but clients ask for it with every model.
_INCLUDES = (_LOGPROBS, "reasoning.encrypted_content")
_TEXT_RULE = "Must be a string."
_FLAG_RULE = "Must be true or false."
_OBJECT_RULE = "Must be an object."
_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "store": (lambda value: value is False, f"Must be false. {_STATELESS}"),
    "background": (lambda value: value is False, "Must be false: the gateway answers at once."),
    "truncation": (
        lambda value: value == "disabled",
        "Must be disabled: the gateway never shortens your input. Send fewer items.",
    ),
    "service_tier": (
        lambda value: value in ("auto", "default"),
        "Must be auto or default: other tiers have other prices.",
    ),
    "include": (
        lambda value: isinstance(value, list) and all(name in _INCLUDES for name in value),
        f"Must be a list of {' and '.join(_INCLUDES)}, or of one of them: the others belong to "
        "tools that are not run here.",
    ),
    "model": (
        lambda value: isinstance(value, str) and value != "",
        "Must be the id of a model; GET /v1/models lists them.",
    ),
    "instructions": (_is_text, _TEXT_RULE),
    "max_output_tokens": (_is_whole(1, 2**63), "Must be a whole number of at least 1."),
    "temperature": (_is_number(0, 2), "Must be a number from 0 to 2."),
    "top_p": (_is_number(0, 1), "Must be a number from 0 to 1."),
    "top_logprobs": (_is_whole(0, 20), "Must be a whole number from 0 to 20."),
    "parallel_tool_calls": (_is_flag, _FLAG_RULE),
    "stream": (_is_flag, _FLAG_RULE),
    "stream_options": (_is_object, _OBJECT_RULE),
    "text": (_is_object, _OBJECT_RULE),
    "reasoning": (_is_object, _OBJECT_RULE),
    "metadata": (
        _is_metadata,
        f"Must be an object of at most {_MOST_METADATA} strings: names of at most 64 characters, "
        "values of at most 512.",
    ),
    "tools": (
        lambda value: isinstance(value, list) and len(value) <= MOST_TOOLS,
        f"Must be a list of at most {MOST_TOOLS} functions.",
    ),
    "user": (_is_text, _TEXT_RULE),
    "safety_identifier": (_is_text, _TEXT_RULE),
    "prompt_cache_key": (_is_text, _TEXT_RULE),
}
_KNOWN = {"input", "tool_choice", *_RULES}
# Members with the same name in a chat. They go to the provider unchanged.
_PASSED = (
    "temperature", "top_p", "user", "safety_identifier", "prompt_cache_key", "service_tier",
)  # fmt: skip


def _parse_options(given: dict[str, Any], fields: Fields) -> dict[str, Any]:
    """Return the equivalent options of a chat. Adds errors inside the members to `fields`."""
    options = {name: given[name] for name in _PASSED if name in given}
    if "stream_options" in given and "stream_options" not in fields:
        _check_stream_options(given["stream_options"], fields)
    if "text" in given and "text" not in fields:
        options |= _parse_text(given["text"], fields)
    if "reasoning" in given and "reasoning" not in fields:
        options |= _parse_reasoning(given["reasoning"], fields)
    includes = () if "include" in fields else given.get("include", ())
    if given.get("top_logprobs") or _LOGPROBS in includes:
        options["logprobs"] = True
        options["top_logprobs"] = given.get("top_logprobs", 0)
    if "tools" in fields:
        return options
    tools = [_parse_tool(tool, n, fields) for n, tool in enumerate(given.get("tools", ()))]
    choice = _parse_tool_choice(given.get("tool_choice"), fields)
    if tools:  # without tools, providers refuse the options about them
        options["tools"] = tools
        if "parallel_tool_calls" in given:
            options["parallel_tool_calls"] = given["parallel_tool_calls"]
    if choice is not None and (tools or choice not in ("auto", "none")):
        options["tool_choice"] = choice
    return options


def _check_stream_options(value: dict[str, Any], fields: Fields) -> None:
    """Check the options of a stream. Usage is always included, and nothing is padded."""
    refuse_others(value, ("include_usage", "include_obfuscation"), "stream_options", fields)
    if not isinstance(value.get("include_usage"), bool | None):
        fields["stream_options.include_usage"] = _FLAG_RULE
    if value.get("include_obfuscation") not in (None, False):
        fields["stream_options.include_obfuscation"] = "Must be false: the gateway pads no events."


def _parse_text(value: dict[str, Any], fields: Fields) -> dict[str, Any]:
    refuse_others(value, ("format", "verbosity"), "text", fields)
    options: dict[str, Any] = {}
    if value.get("verbosity") is not None:
        options["verbosity"] = value["verbosity"]
        if value["verbosity"] not in ("low", "medium", "high"):
            fields["text.verbosity"] = "Must be low, medium or high."
    if value.get("format") is not None:
        options |= _parse_format(value["format"], fields)
    return options


def _parse_format(value: Any, fields: Fields) -> dict[str, Any]:
    kind = value.get("type") if isinstance(value, dict) else None
    members = ("name", "description", "schema", "strict") if kind == "json_schema" else ()
    if kind not in ("text", "json_object", "json_schema"):
        rule = "Must be an object whose type is text, json_object or json_schema."
        fields["text.format"] = rule
        return {}
    refuse_others(value, ("type", *members), "text.format", fields)
    if kind == "text":  # the default of a chat
        return {}
    if kind == "json_object":
        return {"response_format": {"type": kind}}
    schema = {name: value[name] for name in members if value.get(name) is not None}
    if not isinstance(schema.get("schema"), dict):
        fields["text.format.schema"] = _OBJECT_RULE
    if not isinstance(schema.get("name"), str):
        fields["text.format.name"] = _TEXT_RULE
    return {"response_format": {"type": kind, "json_schema": schema}}


def _parse_reasoning(value: dict[str, Any], fields: Fields) -> dict[str, Any]:
    """Return the effort. Accepts a summary, but the model's visible reasoning comes in full."""
    refuse_others(value, ("effort", "summary", "generate_summary"), "reasoning", fields)
    for name in ("effort", "summary", "generate_summary"):
        if not isinstance(value.get(name), str | None):
            fields[f"reasoning.{name}"] = _TEXT_RULE
    effort = value.get("effort")
    return {} if effort is None else {"reasoning_effort": effort}


_OF_TOOL = ("name", "description", "parameters", "strict")


def _parse_tool(tool: Any, number: int, fields: Fields) -> dict[str, Any]:
    path = f"tools[{number}]"
    if not isinstance(tool, dict):
        fields[path] = _OBJECT_RULE
        return {}
    if tool.get("type") != "function":
        kind = tool.get("type")
        named = f"'{kind[:64]}'" if isinstance(kind, str) and kind.isprintable() else "Another type"
        fields[f"{path}.type"] = f"Must be function. {named} is a tool that is not run here."
        return {}
    refuse_others(tool, ("type", *_OF_TOOL), path, fields)
    function = {name: tool[name] for name in _OF_TOOL if tool.get(name) is not None}
    if not function.get("name") or not isinstance(function["name"], str):
        fields[f"{path}.name"] = _TEXT_RULE
    if not isinstance(function.get("parameters", {}), dict):
        fields[f"{path}.parameters"] = _OBJECT_RULE
    return {"type": "function", "function": function}


def _parse_tool_choice(value: Any, fields: Fields) -> Any:
    if value is None or (isinstance(value, str) and value in ("auto", "none", "required")):
        return value
    if (
        isinstance(value, dict)
        and value.keys() == {"type", "name"}
        and value["type"] == "function"
        and isinstance(value["name"], str)
    ):
        return {"type": "function", "function": {"name": value["name"]}}
    fields["tool_choice"] = 'Must be auto, none, required, or {"type": "function", "name": …}.'
    return None


def _settings_of(given: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a response that repeat the request, with defaults filled in."""
    text, reasoning = given.get("text", {}), given.get("reasoning", {})
    return {
        "background": False,
        "instructions": given.get("instructions"),
        "max_output_tokens": given.get("max_output_tokens"),
        "metadata": given.get("metadata", {}),
        "parallel_tool_calls": given.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "prompt_cache_key": given.get("prompt_cache_key"),
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "safety_identifier": given.get("safety_identifier"),
        "service_tier": given.get("service_tier"),
        "store": False,
        "temperature": given.get("temperature"),
        "text": {**text, "format": text.get("format") or {"type": "text"}},
        "tool_choice": given.get("tool_choice", "auto"),
        "tools": [
            {"type": "function"} | {name: tool.get(name) for name in _OF_TOOL}
            for tool in given.get("tools", ())
        ],
        "top_logprobs": given.get("top_logprobs", 0),
        "top_p": given.get("top_p"),
        "truncation": "disabled",
        "user": given.get("user"),
    }
