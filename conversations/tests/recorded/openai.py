"""OpenAI: https://platform.openai.com/docs/api-reference/chat"""

from __future__ import annotations

from typing import Any

from conversations.tests.recorded.shapes import (
    CALLERS_ERROR,
    CHAT_FAILED,
    FAILED,
    FILTERED,
    PIECES,
    REFUSAL,
    TEXT,
    TOO_LONG,
    TOOLS,
    Refused,
    Said,
    Shape,
    call,
    dumps,
    error,
    has_max_tokens,
    sse,
)

CHAT_OBJECT = "https://platform.openai.com/docs/api-reference/chat/object"
CHUNKS = "https://platform.openai.com/docs/api-reference/chat-streaming"
ERRORS = "https://platform.openai.com/docs/guides/error-codes"
HEAD: dict[str, Any] = {
    "id": "chatcmpl-CanonA1b2C3",
    "created": 1771200000,
    "model": "gpt-4.1-mini-2025-04-14",
    "service_tier": "default",
    "system_fingerprint": "fp_0a1b2c3d4e",
}
DETAILS = {
    "prompt_tokens_details": {"cached_tokens": 16, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
USAGE = {"prompt_tokens": 31, "completion_tokens": 12, "total_tokens": 43} | DETAILS


def plain(
    message: dict[str, Any],
    finish_reason: str = "stop",
    usage: dict[str, Any] = USAGE,
    logprobs: Any = None,
) -> bytes:
    whole = {"role": "assistant", "content": None, "refusal": None, "annotations": []} | message
    choice = {"index": 0, "message": whole, "logprobs": logprobs, "finish_reason": finish_reason}
    return dumps(HEAD | {"object": "chat.completion", "choices": [choice], "usage": usage})


def chunk(delta: dict[str, Any], finish_reason: str | None = None, logprobs: Any = None) -> Any:
    choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
    head = HEAD | {"object": "chat.completion.chunk"}
    return head | {"choices": [choice], "usage": None, "obfuscation": "k3Jd9s"}


def usage_chunk(usage: dict[str, Any] = USAGE) -> Any:
    return HEAD | {"object": "chat.completion.chunk", "choices": [], "usage": usage}


FIRST = {"role": "assistant", "content": "", "refusal": None}
TEXT_STREAM = [chunk(FIRST), *(chunk({"content": piece}) for piece in PIECES)]

PARALLEL_CALLS = (call("Lima", call_id="call_Q1w2E3r4"), call("Oslo", call_id="call_T5y6U7i8"))
THOUGHT_USAGE = {
    "prompt_tokens": 1_180,
    "completion_tokens": 204,
    "total_tokens": 1_384,
    "prompt_tokens_details": {"cached_tokens": 1_024, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 192, "audio_tokens": 0},
}


def call_pieces(index: int, whole: dict[str, Any]) -> list[Any]:
    """Return the chunks of a call: id and name first, then its arguments in pieces."""
    function = whole["function"]
    arguments = function["arguments"]
    opening = {"index": index} | whole | {"function": function | {"arguments": ""}}
    parts = arguments[:8], arguments[8:]
    pieces = [{"index": index, "function": {"arguments": part}} for part in parts]
    return [chunk({"tool_calls": [piece]}) for piece in (opening, *pieces)]


def logprob(token: str) -> dict[str, Any]:
    entry = {"token": token, "logprob": -0.25, "bytes": list(token.encode())}
    return entry | {"top_logprobs": [entry]}


def refusal_body(message: str, kind: str, code: str | None, param: str | None = None) -> Any:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


SHAPES = (
    Shape(
        "openai/plain",
        CHAT_OBJECT,
        plain=plain({"content": TEXT}),
        stream=sse(*TEXT_STREAM, chunk({}, "stop"), usage_chunk()),
        v1=Said(cached_tokens=16, reasoning_tokens=0),
    ),
    Shape(
        "openai/tools",
        CHUNKS,
        request=TOOLS,
        plain=plain({"tool_calls": PARALLEL_CALLS}, "tool_calls"),
        stream=sse(
            chunk(FIRST | {"content": None}),
            *call_pieces(0, PARALLEL_CALLS[0]),
            *call_pieces(1, PARALLEL_CALLS[1]),
            chunk({}, "tool_calls"),
            usage_chunk(),
        ),
        v1=Said(None, "tool_calls", tool_calls=PARALLEL_CALLS),
        chat=None,
    ),
    Shape(
        "openai/refusal",
        "https://platform.openai.com/docs/guides/structured-outputs#refusals",
        plain=plain({"refusal": REFUSAL}),
        stream=sse(
            chunk({"role": "assistant", "content": None, "refusal": ""}),
            *(chunk({"refusal": piece}) for piece in (REFUSAL[:10], REFUSAL[10:])),
            chunk({}, "stop"),
            usage_chunk(),
        ),
        v1=Said(None, refusal=REFUSAL),
        chat=REFUSAL,
    ),
    Shape(
        "openai/hidden-reasoning",
        "https://platform.openai.com/docs/guides/reasoning",
        plain=plain({"content": TEXT}, usage=THOUGHT_USAGE),
        stream=sse(*TEXT_STREAM, chunk({}, "stop"), usage_chunk(THOUGHT_USAGE)),
        v1=Said(tokens=(1_180, 204), cached_tokens=1_024, reasoning_tokens=192),
    ),
    Shape(
        "openai/all-reasoning",
        "https://platform.openai.com/docs/guides/reasoning#allocating-space-for-reasoning",
        plain=plain({"content": ""}, "length", usage=THOUGHT_USAGE),
        stream=sse(chunk(FIRST), chunk({}, "length"), usage_chunk(THOUGHT_USAGE)),
        v1=Said("", "length", tokens=(1_180, 204), cached_tokens=1_024, reasoning_tokens=192),
        chat=CHAT_FAILED,
    ),
    Shape(
        "openai/filtered",
        CHAT_OBJECT,
        plain=plain({"content": ""}, "content_filter"),
        stream=sse(chunk(FIRST), chunk({}, "content_filter"), usage_chunk()),
        v1=Said("", "content_filter"),
        chat=FILTERED,
    ),
    Shape(
        "openai/logprobs",
        CHAT_OBJECT,
        request={"logprobs": True, "top_logprobs": 1},
        plain=plain(
            {"content": TEXT}, logprobs={"content": list(map(logprob, PIECES)), "refusal": None}
        ),
        stream=sse(
            chunk(FIRST),
            *(
                chunk({"content": p}, logprobs={"content": [logprob(p)], "refusal": None})
                for p in PIECES
            ),
            chunk({}, "stop"),
            usage_chunk(),
        ),
        v1=Said(logprobs={"content": list(map(logprob, PIECES)), "refusal": None}),
        chat=None,
    ),
    Shape(
        "openai/breaks-in-mid-stream",
        "https://github.com/openai/openai-python/blob/main/src/openai/_streaming.py",
        stream=sse(
            *TEXT_STREAM,
            refusal_body(
                "The server had an error while processing your request. Sorry about that!",
                "server_error",
                None,
            ),
            done=False,
        ),
        v1=FAILED,
        chat=CHAT_FAILED,
        fault="doubtful",
    ),
    error(
        "openai/wrong-key",
        ERRORS,
        401,
        refusal_body(
            "Incorrect API key provided: sk-canon*******9x. You can find your API key at "
            "https://platform.openai.com/account/api-keys.",
            "invalid_request_error",
            "invalid_api_key",
        ),
        v1=Refused((502,), "provider_error", hides=("sk-canon",)),
        fault="at once",
    ),
    error(
        "openai/no-quota",
        ERRORS,
        429,
        refusal_body(
            "You exceeded your current quota, please check your plan and billing details.",
            "insufficient_quota",
            "insufficient_quota",
        ),
        fault="at once",
    ),
    error(
        "openai/rate-limited",
        "https://platform.openai.com/docs/guides/rate-limits",
        429,
        refusal_body(
            "Rate limit reached for gpt-4.1-mini in organization org-canon123 on requests per min "
            "(RPM): Limit 500, Used 500, Requested 1. Please try again in 7s.",
            "requests",
            "rate_limit_exceeded",
        ),
        headers={"Retry-After": "7"},
        fault="waits",
    ),
    # The tokens of a whole minute are too few for this request. Other requests would still fit.
    error(
        "openai/too-large-for-the-minute",
        "https://github.com/vanderschaarlab/climb/issues/1",
        429,
        refusal_body(
            "Request too large for gpt-4o in organization org-canon123 on tokens per min (TPM): "
            "Limit 30000, Requested 30601. The input or output tokens must be reduced in order to "
            "run successfully.",
            "tokens",
            "rate_limit_exceeded",
        ),
        v1=Refused(CALLERS_ERROR.statuses, None, hides=("org-canon",)),
        fault="nothing",
    ),
    error(
        "openai/region",
        ERRORS,
        403,
        refusal_body(
            "Country, region, or territory not supported",
            "request_forbidden",
            "unsupported_country_region_territory",
        ),
        fault="at once",
    ),
    error(
        "openai/no-model",
        ERRORS,
        404,
        refusal_body(
            "The model `gpt-9` does not exist or you do not have access to it.",
            "invalid_request_error",
            "model_not_found",
        ),
        fault="at once",
    ),
    error(
        "openai/too-long",
        "https://github.com/chathub-dev/chathub/issues/126",
        400,
        refusal_body(
            "This model's maximum context length is 128000 tokens. However, your messages resulted "
            "in 131313 tokens. Please reduce the length of the messages.",
            "invalid_request_error",
            "context_length_exceeded",
            "messages",
        ),
        v1=TOO_LONG,
        fault="nothing",
    ),
    error(
        "openai/wrong-schema",
        "https://platform.openai.com/docs/guides/function-calling",
        400,
        refusal_body(
            "Invalid schema for function 'weather': In context=(), object schema missing "
            "properties.",
            "invalid_request_error",
            "invalid_function_parameters",
            "tools[0].function.parameters",
        ),
        request=TOOLS,
        v1=Refused(
            (400,),
            "invalid_function_parameters",
            "tools[0].function.parameters",
            says="Invalid schema for function 'weather'",
        ),
        chat=None,
        fault="nothing",
    ),
    # The provider counts the channel's prompt. The caller has sent one message.
    error(
        "openai/wrong-message",
        CHAT_OBJECT,
        400,
        refusal_body(
            "Invalid 'messages[1].name': string does not match pattern.",
            "invalid_request_error",
            "invalid_value",
            "messages[1].name",
        ),
        v1=Refused((400,), "invalid_value", "messages[0].name"),
        fault="nothing",
    ),
    error(
        "openai/flagged",
        "https://platform.openai.com/docs/guides/reasoning#advice-on-prompting",
        400,
        refusal_body(
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy. "
            "Please try again with a different prompt.",
            "invalid_request_error",
            "invalid_prompt",
        ),
        v1=FILTERED,
        fault="nothing",
    ),
    # Current models refuse the older name of the limit.
    error(
        "openai/other-limit",
        "https://github.com/griptape-ai/ComfyUI-Griptape/issues/312",
        400,
        refusal_body(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            "invalid_request_error",
            "unsupported_parameter",
            "max_tokens",
        ),
        request={"max_tokens": 500},
        only_if=has_max_tokens,
        otherwise="openai/plain",
        v1=Said(cached_tokens=16, reasoning_tokens=0),
        chat=TEXT,
        fault="nothing",
    ),
    error(
        "openai/server-error",
        ERRORS,
        500,
        refusal_body(
            "The server had an error while processing your request. Sorry about that!",
            "server_error",
            None,
        ),
    ),
    error(
        "openai/overloaded",
        ERRORS,
        503,
        refusal_body(
            "The engine is currently overloaded, please try again later.", "server_error", None
        ),
    ),
)
