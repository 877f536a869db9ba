"""The parameters of POST /v1/chat/completions: which pass, which are refused, and why.

All are in one table. A parameter without effect on the model, the provider, the price tier, or the
channel's prompt goes to the provider unchanged. The gateway refuses by name everything that could
choose another model, spend more than is held, run tools at the provider, or show the prompt. It
also refuses an unknown name, unless staff allow it for a route (channels/models/catalogue.py).
Nothing is ever left out silently.

Sources: https://platform.openai.com/docs/api-reference/chat/create,
https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html,
https://openrouter.ai/docs/api-reference/parameters, https://console.groq.com/docs/api-reference,
https://docs.mistral.ai/api
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from conversations.chat.complete import UNLISTED

LONGEST_STOP = 4
MOST_TOOLS = 128
MOST_TOP_LOGPROBS = 20
# The longest name that is shown to its caller.
_LONGEST_NAME = 100
# A NUL in JSON: its escape, after an even number of backslashes.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

Fields = dict[str, str]
Check = Callable[[Any], bool]


class Parameter(NamedTuple):
    """The rule for a parameter, as a sentence and as a check. Without a check it is always refused.

    `rule` is a sentence for the caller: what a value must be, or why the gateway refuses the
    parameter and what to do instead.
    """

    rule: str
    is_right: Check | None = None


class Options(NamedTuple):
    """Parameters to pass on unchanged, and the names among them that a route must allow."""

    values: dict[str, Any]
    unlisted: frozenset[str]


# --- Checks ---------------------------------------------------------------------------------------


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_number(low: float, high: float) -> Check:
    return lambda value: type(value) in (int, float) and low <= value <= high


def _is_whole(low: int, high: int = 2**63 - 1) -> Check:
    return lambda value: type(value) is int and low <= value <= high


def _is_one_of(*values: Any) -> Check:
    return lambda value: any(type(value) is type(one) and value == one for one in values)


def _is_stop(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= LONGEST_STOP and all(map(is_text, value))
    return is_text(value)


def _is_response_format(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    if value.get("type") == "json_schema":
        return isinstance(value.get("json_schema"), dict)
    return value.get("type") in ("text", "json_object")


def _are_tools(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MOST_TOOLS and all(map(_is_tool, value))


def _is_tool(tool: Any) -> bool:
    """Return whether a tool is a function of the caller, and nothing else."""
    if not isinstance(tool, dict) or not tool.keys() <= {"type", "function", "strict"}:
        return False
    function = tool.get("function")
    if tool.get("type", "function") != "function" or not isinstance(function, dict):
        return False
    return is_text(function.get("name"))


def _is_tool_choice(value: Any) -> bool:
    if isinstance(value, dict):
        return value.get("type", "function") in ("function", "allowed_tools") and len(value) > 1
    return value in ("none", "auto", "required", "any")


def _is_logit_bias(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number(-100, 100), value.values()))


def _are_template_flags(value: Any) -> bool:
    return isinstance(value, dict) and all(
        name in ("enable_thinking", "thinking") and isinstance(flag, bool)
        for name, flag in value.items()
    )


def _is_schema(value: Any) -> bool:
    return isinstance(value, dict | str)


# --- The table ------------------------------------------------------------------------------------

_FLAG = "Must be true or false."
_OBJECT = "Must be an object."
_TEXT = "Must be a string."
_SMALL = "Must be a number from 0 to 1."
_WHOLE = "Must be a whole number of at most 64 bits."
_COUNT = "Must be a whole number of at least 0."

# The endpoint itself reads these (openai_requests.py).
_OWN = {
    "model": Parameter("Must be the id of a model; GET /v1/models lists them."),
    "messages": Parameter("Must be a list of at least one message."),
    "max_tokens": Parameter("Must be a whole number of at least 1."),
    "max_completion_tokens": Parameter("Must be a whole number of at least 1."),
    "stream": Parameter(_FLAG),
    "stream_options": Parameter(_OBJECT),
}

# OpenAI's parameters.
_OPENAI = {
    "temperature": Parameter("Must be a number from 0 to 2.", _is_number(0, 2)),
    "top_p": Parameter(_SMALL, _is_number(0, 1)),
    "presence_penalty": Parameter("Must be a number from -2 to 2.", _is_number(-2, 2)),
    "frequency_penalty": Parameter("Must be a number from -2 to 2.", _is_number(-2, 2)),
    "stop": Parameter(f"Must be a string, or a list of at most {LONGEST_STOP} strings.", _is_stop),
    "seed": Parameter(_WHOLE, _is_whole(-(2**63))),
    "response_format": Parameter(
        "Must be an object whose type is text, json_object or json_schema.", _is_response_format
    ),
    "tools": Parameter(
        f"Must be a list of at most {MOST_TOOLS} functions, each with a name. Tools that run at "
        "the provider are not offered: run them yourself and send the results.",
        _are_tools,
    ),
    "tool_choice": Parameter("Must be none, auto, required, or name a function.", _is_tool_choice),
    "parallel_tool_calls": Parameter(_FLAG, _is_flag),
    "reasoning_effort": Parameter(_TEXT, is_text),
    "verbosity": Parameter(_TEXT, is_text),
    "logprobs": Parameter(_FLAG, _is_flag),
    "top_logprobs": Parameter(
        f"Must be a whole number from 0 to {MOST_TOP_LOGPROBS}.", _is_whole(0, MOST_TOP_LOGPROBS)
    ),
    "logit_bias": Parameter(
        "Must be an object of token ids with numbers from -100 to 100.", _is_logit_bias
    ),
    "user": Parameter(_TEXT, is_text),
    "safety_identifier": Parameter(_TEXT, is_text),
    "prompt_cache_key": Parameter(_TEXT, is_text),
    "prompt_cache_retention": Parameter(_TEXT, is_text),
    "metadata": Parameter(_OBJECT, _is_object),
    "n": Parameter("Must be 1: each request gets one answer. Send more requests.", _is_one_of(1)),
    "store": Parameter("Must be false: no provider may store conversations.", _is_one_of(False)),
    "service_tier": Parameter(
        "Must be auto or default: other tiers have other prices.", _is_one_of("auto", "default")
    ),
    "modalities": Parameter(
        'Must be ["text"]: other answers have no price here.', _is_one_of(["text"])
    ),
}

# Parameters of vLLM, Qwen, DeepSeek, Z.AI, MiniMax, OpenRouter, Groq, Mistral, and llama.cpp.
_OTHERS = {
    "top_k": Parameter("Must be a whole number of at least -1.", _is_whole(-1)),
    "min_p": Parameter(_SMALL, _is_number(0, 1)),
    "top_a": Parameter(_SMALL, _is_number(0, 1)),
    "typical_p": Parameter(_SMALL, _is_number(0, 1)),
    "repetition_penalty": Parameter("Must be a number from 0 to 10.", _is_number(0, 10)),
    "min_tokens": Parameter(_COUNT, _is_whole(0)),
    "random_seed": Parameter(_WHOLE, _is_whole(-(2**63))),
    "enable_thinking": Parameter(_FLAG, _is_flag),
    "thinking": Parameter(_OBJECT, _is_object),
    "thinking_budget": Parameter(_COUNT, _is_whole(0)),
    "reasoning": Parameter(_OBJECT, _is_object),
    "include_reasoning": Parameter(_FLAG, _is_flag),
    "reasoning_format": Parameter(_TEXT, is_text),
    "reasoning_split": Parameter(_FLAG, _is_flag),
    "chat_template_kwargs": Parameter(
        "Must be an object with only enable_thinking or thinking, each true or false: others could "
        "change how the model sees the channel's prompt.",
        _are_template_flags,
    ),
    "guided_json": Parameter("Must be a JSON schema.", _is_schema),
    "guided_choice": Parameter(
        "Must be a list of strings.",
        lambda value: isinstance(value, list) and all(map(is_text, value)),
    ),
    "guided_regex": Parameter(_TEXT, is_text),
    "structured_outputs": Parameter(_OBJECT, _is_object),
}

_ANOTHER_MODEL = (
    "Refused: it could choose another model or provider. Name one of GET /v1/models in `model`."
)
_TOOLS_ELSEWHERE = (
    "Refused: it runs tools at the provider, for which no credits are held. Run the tool yourself "
    "and send its result."
)
_SHOWS_PROMPT = "Refused: it could reveal the channel's prompt. Leave it out."
_CHANGES_PROMPT = (
    "Refused: it changes how the model sees the channel's prompt. Leave it out and say what you "
    "want in `messages`."
)
_MORE_ANSWERS = (
    "Refused: it makes the model write several answers, for which no credits are held. Send more "
    "requests."
)
_KEPT_ELSEWHERE = "Refused: it reads or stores conversations at the provider. Send `messages`."

_REFUSED = {
    "functions": "Refused: it is deprecated. Use `tools`.",
    "function_call": "Refused: it is deprecated. Use `tools` and `tool_choice`.",
    "audio": "Refused: answers are text, because speech has no price here. Leave it out.",
    "prediction": (
        "Refused: the rejected tokens of a prediction cost more than the limit of the answer. "
        "Leave it out."
    ),
    **dict.fromkeys(
        ("models", "provider", "route", "fallbacks", "preset", "model_fallbacks"), _ANOTHER_MODEL
    ),
    **dict.fromkeys(
        (
            "plugins",
            "web_search_options",
            "web_search",
            "enable_search",
            "search_options",
            "search_parameters",
            "search_settings",
            "compound_custom",
            "mcp_servers",
        ),
        _TOOLS_ELSEWHERE,
    ),
    **dict.fromkeys(
        (
            "transforms",
            "chat_template",
            "add_generation_prompt",
            "continue_final_message",
            "add_special_tokens",
            "documents",
            "safe_prompt",
            "truncate_prompt_tokens",
            "prompt",
        ),
        _CHANGES_PROMPT,
    ),
    **dict.fromkeys(
        (
            "echo",
            "prompt_logprobs",
            "return_token_ids",
            "return_tokens_as_token_ids",
            "return_prompt_token_ids",
            "return_prompt",
            "debug",
            "verbose",
            "__verbose",
        ),
        _SHOWS_PROMPT,
    ),
    **dict.fromkeys(("best_of", "use_beam_search"), _MORE_ANSWERS),
    **dict.fromkeys(
        ("previous_response_id", "conversation", "cached_content", "id_slot"), _KEPT_ELSEWHERE
    ),
}

PARAMETERS: Mapping[str, Parameter] = {
    **_OWN,
    **_OPENAI,
    **_OTHERS,
    **{name: Parameter(reason) for name, reason in _REFUSED.items()},
}
# An empty list means the same as none here. Some clients send it, and some providers refuse it.
_EMPTY_IS_NONE = ("tools", "stop", "functions")


def passes(name: str) -> bool:
    """Return whether a parameter of the table goes to the provider."""
    return PARAMETERS[name].is_right is not None


def read_options(data: Mapping[str, Any], fields: Fields) -> Options:
    """Return the parameters to pass on besides messages, model, and limit.

    `null` is the same as leaving a parameter out. Adds errors and refusals to `fields`. A parameter
    that is not in the table only has to be writable.
    """
    values: dict[str, Any] = {}
    unlisted = set()
    for name, value in data.items():
        if value is None or name in _OWN or (name in _EMPTY_IS_NONE and value == []):
            continue
        parameter = PARAMETERS.get(name)
        if parameter is None and name != show_name(name):
            fields[show_name(name)] = UNLISTED
            continue
        if parameter is None:
            unlisted.add(name)
        elif parameter.is_right is None or not parameter.is_right(value):
            fields[name] = parameter.rule
            continue
        check_writable(value, name, fields)
        values[name] = value
    return Options(values, frozenset(unlisted))


def show_name(name: str) -> str:
    """Return a name that the caller chose in a form that is safe to show."""
    return name.encode(errors="replace").decode().replace("\x00", "?")[:_LONGEST_NAME]


def check_writable(value: Any, path: str, fields: Fields) -> None:
    """Add an error for values that JSON cannot pass on: NUL, lone surrogates, numbers, depth."""
    try:
        written = orjson.dumps(value)
    except TypeError:
        fields[path] = "Must not contain lone surrogates, numbers above 64 bits, or deep nesting."
        return
    if _NUL.search(written):
        fields[path] = "Must not contain NUL characters."
