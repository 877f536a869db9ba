"""How an answer through the gateway may differ from the provider's own, and why.

docs/api.md tells callers the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from conversations.tests.recorded import SHAPES
from conversations.tests.recorded.shapes import FAILED, FILTERED, TOO_LONG, Refused, Shape

# What a client shows of an answer (`heard` in reading.py), or of an error.
Outcome = dict[str, Any]
# Marks an outcome in which a client found something that is not in the protocol.
UNREADABLE = "unreadable"
ERROR_MEMBERS = ("class", "status", "code", "param")
SAID_MEMBERS = (
    "text", "finish_reason", "refusal", "tool_calls", "reasoning", "logprobs", "usage",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Difference:
    """Members that may differ for some shapes."""

    reason: str
    members: tuple[str, ...]
    applies: Callable[[Shape], bool]


def _named(*names: str) -> Callable[[Shape], bool]:
    return lambda shape: shape.name in names


def _has_code_of_its_own(shape: Shape) -> bool:
    return isinstance(shape.v1, Refused) and shape.v1.code is None


DIFFERENCES = (
    Difference(
        "A failure between the gateway and its provider, incomplete answers included, is "
        "provider_error with status 502: the caller cannot fix it and is not charged.",
        ERROR_MEMBERS + SAID_MEMBERS,
        lambda shape: shape.v1 == FAILED,
    ),
    Difference(
        "A prompt that is too long is context_length_exceeded with status 400 and param messages, "
        "whatever the provider calls it.",
        ERROR_MEMBERS,
        lambda shape: shape.v1 == TOO_LONG,
    ),
    Difference(
        "A filter's verdict is content_filtered with status 422: providers send it with 400, 403 "
        "and others.",
        ERROR_MEMBERS,
        lambda shape: shape.v1 == FILTERED,
    ),
    Difference(
        "A request that no route accepts keeps its own status; 402, 404 and 429 would refer to the "
        "caller's credits, path and rate limit.",
        ("class", "status", "code", "param"),
        lambda shape: _has_code_of_its_own(shape) and shape.status != 400,
    ),
    Difference(
        "If the provider's error has no code in words, the gateway adds one.",
        ("class", "code"),
        _has_code_of_its_own,
    ),
    Difference(
        "Indexes in `param` are those of the caller's messages; the provider also counts the "
        "channel's prompt.",
        ("param",),
        _named("openai/wrong-message"),
    ),
    Difference(
        "Output tokens include reasoning, even if the provider counts it only in the total.",
        ("usage",),
        _named("xai/reasoning", "xai/tools", "gemini/hidden-reasoning", "gemini/filtered"),
    ),
    Difference(
        "Usage is always under `usage`; if the provider reports none, it is estimated.",
        ("usage",),
        _named("groq/usage-under-x-groq", "ollama/no-usage"),
    ),
    Difference(
        "Impossible usage is estimated, and empty figures do not erase earlier ones.",
        ("usage",),
        _named("others/usage-beyond-belief", "others/usage-of-nothing", "others/usage-taken-back"),
    ),
    Difference(
        "A refusal has its own member, so Vercel's SDK reports the answer as filtered.",
        ("finish_reason",),
        _named("others/refusal-part"),
    ),
    Difference(
        "Counts are numbers, even if the provider writes them as digits in a string.",
        ("usage",),
        _named("others/usage-as-digits"),
    ),
    Difference(
        "OpenAI's client drops a last event that no blank line follows.",
        ("usage",),
        _named("others/no-last-blank-line"),
    ),
    Difference(
        "Text in the choice itself, as in the older protocol, is content.",
        ("text", "finish_reason"),
        _named("others/text-in-the-choice"),
    ),
    Difference(
        "A finish reason comes once, at the end; LangChain concatenates words such as null.",
        ("finish_reason",),
        _named("others/finish-reason-null-in-words"),
    ),
    Difference(
        "A deprecated `function_call` becomes a tool call.",
        ("finish_reason", "tool_calls"),
        _named("others/function-call"),
    ),
    Difference(
        "Usage comes once, in the last chunk: clients that add it up would count it several times.",
        ("usage",),
        _named("vllm/counting-on"),
    ),
    Difference(
        "Content in parts is joined to one text; parts of reasoning become reasoning_content.",
        ("text", "reasoning", "refusal"),
        _named(
            "mistral/reasoning",
            "others/content-as-an-object",
            "others/output-text",
            "others/nested-text",
            "others/a-part-without-text",
            "others/a-thought-among-texts",
            "others/refusal-part",
        ),
    ),
    Difference(
        "OpenAI's client cannot read arguments that are an object, and gives up the stream.",
        ("finish_reason", "usage"),
        _named("tgi/arguments-as-an-object"),
    ),
    Difference(
        "A tool call always has an id of its own, a type, an index and arguments as JSON text.",
        ("tool_calls",),
        _named(
            "gemini/tools",
            "gemini/tools-without-ids",
            "mistral/tools",
            "ollama/tools-of-one-index",
            "ollama/tools-without-index",
            "ollama/arguments-as-an-object",
            "tgi/arguments-as-an-object",
            "others/ids-that-repeat",
            "others/index-as-a-string",
            "others/calls-taking-turns",
            "others/a-new-id-with-every-piece",
            "others/name-after-the-id",
            "others/arguments-as-a-list",
        ),
    ),
)


def is_compared(shape: Shape) -> bool:
    """Return whether a client's view of a shape is worth comparing.

    It is not if the shape disables the route for everybody, if the gateway asks again and gets
    another answer, or if clients of the protocol do not read the odd part.
    """
    is_out = shape.fault in ("at once", "waits") or (
        shape.fault == "doubtful" and shape.stream is None
    )
    return not (is_out or shape.only_if or shape.name.startswith("odd/"))


COMPARED = [shape for shape in SHAPES.values() if is_compared(shape)]


def find_differences(shape: Shape, direct: Outcome, through: Outcome) -> Outcome:
    """Return the members that differ without a reason, each as (direct, through).

    If a client cannot read the provider's own answer, the gateway's answer may be readable.
    """
    if "class" in direct and not direct.get("status") and "class" not in through:
        return {}
    if (UNREADABLE in direct or not any(direct.values())) and UNREADABLE not in through:
        return {}
    excused = {
        name for difference in DIFFERENCES if difference.applies(shape)
        for name in difference.members
    }  # fmt: skip
    names = (direct.keys() | through.keys()) - excused
    pairs = {name: (_plain(direct.get(name)), _plain(through.get(name))) for name in sorted(names)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _plain(value: Any) -> Any:
    """Return a value without meaningless parts: empty texts become None, calls have no index."""
    if isinstance(value, list):
        return [
            {name: part[name] for name in part.keys() - {"index"}}
            if isinstance(part, dict)
            else part
            for part in value
        ]
    return value or None


def usage_of(usage: Any) -> Any:
    """Return the counts to compare: all except details that only one provider has."""
    if not usage:
        return None
    details = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    return {
        "input": usage.get("prompt_tokens"),
        "output": usage.get("completion_tokens"),
        "total": usage.get("total_tokens"),
        "cached": details[0].get("cached_tokens") or 0,
        "reasoning": details[1].get("reasoning_tokens") or 0,
    }
