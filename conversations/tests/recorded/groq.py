"""Groq: https://console.groq.com/docs/api-reference#chat-create"""

from __future__ import annotations

from typing import Any

from conversations.tests.recorded.shapes import (
    CALLERS_ERROR,
    PIECES,
    TEXT,
    THOUGHTS,
    TOOLS,
    Refused,
    Said,
    Shape,
    asks_for_more_than,
    call,
    dumps,
    error,
    sse,
)

FIXTURES = "https://github.com/vercel/ai/tree/main/packages/groq/src/__fixtures__"
ERRORS = "https://console.groq.com/docs/errors"
HEAD: dict[str, Any] = {
    "id": "chatcmpl-5e1f7a90-canon-4c1d-9e55",
    "created": 1771200200,
    "model": "llama-3.3-70b-versatile",
    "system_fingerprint": "fp_canon00001",
}
USAGE = {
    "queue_time": 0.0315,
    "prompt_tokens": 31,
    "prompt_time": 0.0021,
    "completion_tokens": 12,
    "completion_time": 0.0437,
    "total_tokens": 43,
    "total_time": 0.0458,
}
X_GROQ: dict[str, Any] = {"x_groq": {"id": "req_canon01hzzz", "seed": 12345}}
LIMA = call("Lima", call_id="q7mz2k9xd")


def plain(
    message: dict[str, Any], finish_reason: str = "stop", usage: dict[str, Any] = USAGE
) -> bytes:
    choice = {
        "index": 0,
        "message": {"role": "assistant"} | message,
        "logprobs": None,
        "finish_reason": finish_reason,
    }
    rest = {"usage": usage, "usage_breakdown": None, "service_tier": "on_demand"} | X_GROQ
    return dumps(HEAD | {"object": "chat.completion", "choices": [choice]} | rest)


def chunk(delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> Any:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return HEAD | {"object": "chat.completion.chunk", "choices": [choice]} | more


def last(finish_reason: str, usage: dict[str, Any] = USAGE) -> Any:
    x_groq = {"id": "req_canon01hzzz", "usage": usage}
    return chunk({}, finish_reason, x_groq=x_groq, usage=usage)


FIRST = chunk({"role": "assistant", "content": ""}, **X_GROQ)
TEXT_CHUNKS = [chunk({"content": piece}) for piece in PIECES]
THOUGHT_USAGE = USAGE | {
    "completion_tokens": 50,
    "total_tokens": 81,
    "completion_tokens_details": {"reasoning_tokens": 38},
}

SHAPES = (
    Shape(
        "groq/plain",
        FIXTURES,
        plain=plain({"content": TEXT}),
        stream=sse(FIRST, *TEXT_CHUNKS, last("stop")),
        v1=Said(),
    ),
    # From before Groq knew stream_options, and still so without them: usage only under x_groq.
    Shape(
        "groq/usage-under-x-groq",
        "https://github.com/groq/groq-python/blob/main/src/groq/types/chat/chat_completion_chunk.py",
        stream=sse(
            FIRST,
            *TEXT_CHUNKS,
            chunk({}, "stop", x_groq={"id": "req_canon01hzzz", "usage": USAGE}),
        ),
        v1=Said(),
    ),
    Shape(
        "groq/tools",
        FIXTURES,
        request=TOOLS,
        plain=plain({"tool_calls": [LIMA]}, "tool_calls"),
        stream=sse(
            chunk({"role": "assistant", "content": None}, **X_GROQ),
            chunk({"tool_calls": [LIMA | {"index": 0}]}),
            last("tool_calls"),
        ),
        v1=Said(None, "tool_calls", tool_calls=(LIMA,)),
        chat=None,
    ),
    Shape(
        "groq/reasoning",
        FIXTURES,
        plain=plain({"content": TEXT, "reasoning": THOUGHTS}, usage=THOUGHT_USAGE),
        stream=sse(
            FIRST,
            *(chunk({"reasoning": part}) for part in (THOUGHTS[:11], THOUGHTS[11:])),
            *TEXT_CHUNKS,
            last("stop", THOUGHT_USAGE),
        ),
        v1=Said(reasoning={"reasoning": THOUGHTS}, tokens=(31, 50), reasoning_tokens=38),
    ),
    error(
        "groq/tool-use-failed",
        "https://github.com/sipeed/picoclaw/issues/748",
        400,
        {
            "error": {
                "message": "Failed to call a function. Please adjust your prompt. See "
                "'failed_generation' for more details.",
                "type": "invalid_request_error",
                "code": "tool_use_failed",
                "failed_generation": '<function=weather>{"city": "Lima"}</function>',
            }
        },
        request=TOOLS,
        v1=Refused((400,), "tool_use_failed", says="Failed to call a function"),
        chat=None,
        fault="nothing",
    ),
    error(
        "groq/json-and-tools",
        FIXTURES,
        400,
        {
            "error": {
                "message": "json mode cannot be combined with tool/function calling",
                "type": "invalid_request_error",
                "param": "response_format",
            }
        },
        request=TOOLS | {"response_format": {"type": "json_object"}},
        v1=Refused((400,), None, "response_format", says="json mode"),
        chat=None,
        fault="nothing",
    ),
    error(
        "groq/request-too-large",
        "https://github.com/HunorLaczko/ha-groq-cloud-api/issues/27",
        413,
        {
            "error": {
                "message": "Request too large for model `llama-3.3-70b-versatile` in organization "
                "`org_canon0123456789` service tier `on_demand` on tokens per minute (TPM): Limit "
                "12000, Requested 14021, please reduce your message size and try again. "
                "Need more tokens? Upgrade to Dev Tier today at "
                "https://console.groq.com/settings/billing",
                "type": "tokens",
                "code": "rate_limit_exceeded",
            }
        },
        v1=Refused(CALLERS_ERROR.statuses, None, hides=("org_canon",)),
        fault="nothing",
    ),
    # Names the page that sells higher limits, but is still a rate limit.
    error(
        "groq/rate-limited",
        "https://github.com/continuedev/continue/issues/10920",
        429,
        {
            "error": {
                "message": "Rate limit reached for model `llama-3.3-70b-versatile` in organization "
                "`org_canon0123456789` on requests per minute (RPM): Limit 30, Used 30, Requested "
                "1. Please try again in 2s. Need more tokens? Upgrade to Dev Tier today at "
                "https://console.groq.com/settings/billing",
                "type": "requests",
                "code": "rate_limit_exceeded",
            }
        },
        headers={"Retry-After": "2"},
        fault="waits",
    ),
    error(
        "groq/retired-model",
        "https://console.groq.com/docs/deprecations",
        400,
        {
            "error": {
                "message": "The model `mixtral-8x7b-32768` has been decommissioned and is no "
                "longer supported. Please refer to https://console.groq.com/docs/deprecations.",
                "type": "invalid_request_error",
                "code": "model_decommissioned",
            }
        },
        fault="at once",
    ),
    error(
        "groq/answer-too-long",
        "https://github.com/Alishahryar1/free-claude-code/issues/1354",
        400,
        {
            "error": {
                "message": "`max_tokens` must be less than or equal to `2048`, the maximum value "
                "for `max_tokens` is less than the `context_window` for this model",
                "type": "invalid_request_error",
                "param": "max_tokens",
            }
        },
        only_if=asks_for_more_than(2048),
        otherwise="groq/plain",
        v1=Said(),
        chat=TEXT,
        fault="nothing",
    ),
    error(
        "groq/no-capacity",
        ERRORS,
        498,
        {
            "error": {
                "message": "Flex tier capacity exceeded. Please try again later.",
                "type": "capacity_exceeded",
                "code": "capacity_exceeded",
            }
        },
    ),
)
