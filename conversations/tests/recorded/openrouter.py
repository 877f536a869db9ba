"""OpenRouter, many providers behind one: https://openrouter.ai/docs/api/reference/overview"""

from __future__ import annotations

from typing import Any

from conversations.tests.recorded.shapes import (
    CALLERS_ERROR,
    CHAT_FAILED,
    FAILED,
    FILTERED,
    PIECES,
    TEXT,
    THOUGHTS,
    TOO_LONG,
    TOOLS,
    Said,
    Shape,
    call,
    dumps,
    error,
    sse,
)

STREAMING = "https://openrouter.ai/docs/api/reference/streaming"
ERRORS = "https://openrouter.ai/docs/api/reference/errors-and-debugging"
REASONING = "https://openrouter.ai/docs/guides/best-practices/reasoning-tokens"
HEAD: dict[str, Any] = {
    "id": "gen-1771200300-CanonR0uter",
    "provider": "Example Compute",
    "model": "meta-llama/llama-3.3-70b-instruct",
    "created": 1771200300,
}
PROCESSING = b": OPENROUTER PROCESSING\n\n"
USAGE = {
    "prompt_tokens": 31,
    "completion_tokens": 12,
    "total_tokens": 43,
    "cost": 0.00012,
    "is_byok": False,
    "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 0},
    "cost_details": {"upstream_inference_cost": None, "upstream_inference_prompt_cost": 0.00003},
    "completion_tokens_details": {"reasoning_tokens": 0, "image_tokens": 0},
}
NO_THOUGHTS = {"refusal": None, "reasoning": None}


def plain(
    message: dict[str, Any],
    finish_reason: str = "stop",
    native: str = "stop",
    usage: dict[str, Any] = USAGE,
    **more: Any,
) -> bytes:
    choice = {
        "logprobs": None,
        "finish_reason": finish_reason,
        "native_finish_reason": native,
        "index": 0,
        "message": {"role": "assistant"} | NO_THOUGHTS | message,
    }
    head = HEAD | {"object": "chat.completion", "choices": [choice | more]}
    return dumps(head | {"usage": usage})


def chunk(delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> Any:
    choice = {
        "index": 0,
        "delta": {"role": "assistant", "content": ""} | delta,
        "finish_reason": finish_reason,
        "native_finish_reason": finish_reason,
        "logprobs": None,
    }
    return HEAD | {"object": "chat.completion.chunk", "choices": [choice]} | more


def usage_chunk(usage: dict[str, Any] = USAGE) -> Any:
    """Return the last chunk, which has usage next to a choice, not without one."""
    return chunk({}) | {"usage": usage}


def details(text: str) -> list[dict[str, Any]]:
    return [{"type": "reasoning.text", "text": text, "format": "unknown", "index": 0}]


def problem(code: int, message: str, **metadata: Any) -> Any:
    body = {"error": {"message": message, "code": code}}
    if metadata:
        body["error"]["metadata"] = metadata
    return body | {"user_id": "user_canon0123456789"}


TEXT_CHUNKS = [chunk({"content": piece}) for piece in PIECES]
LIMA = call("Lima", call_id="call_0_canon-lima")
THOUGHT_USAGE = USAGE | {
    "completion_tokens": 50,
    "total_tokens": 81,
    "completion_tokens_details": {"reasoning_tokens": 38},
}
LOST = {"code": 502, "message": "Upstream provider disconnected", "metadata": {"raw": "EOF"}}

SHAPES = (
    Shape(
        "openrouter/plain",
        STREAMING,
        plain=plain({"content": TEXT}),
        stream=sse(
            PROCESSING, PROCESSING, *TEXT_CHUNKS, PROCESSING, chunk({}, "stop"), usage_chunk()
        ),
        v1=Said(cached_tokens=8, reasoning_tokens=0),
    ),
    Shape(
        "openrouter/reasoning",
        REASONING,
        plain=plain(
            {"content": TEXT, "reasoning": THOUGHTS, "reasoning_details": details(THOUGHTS)},
            usage=THOUGHT_USAGE,
        ),
        stream=sse(
            PROCESSING,
            *(
                chunk({"reasoning": part, "reasoning_details": details(part)})
                for part in (THOUGHTS[:11], THOUGHTS[11:])
            ),
            *TEXT_CHUNKS,
            chunk({}, "stop"),
            usage_chunk(THOUGHT_USAGE),
        ),
        v1=Said(
            reasoning={"reasoning": THOUGHTS, "reasoning_details": THOUGHTS},
            tokens=(31, 50),
            cached_tokens=8,
            reasoning_tokens=38,
        ),
    ),
    Shape(
        "openrouter/tools",
        "https://openrouter.ai/docs/guides/features/tool-calling",
        request=TOOLS,
        plain=plain({"content": "", "tool_calls": [{"index": 0} | LIMA]}, "tool_calls"),
        stream=sse(
            PROCESSING,
            chunk({"content": None, "tool_calls": [{"index": 0} | LIMA]}),
            chunk({}, "tool_calls"),
            usage_chunk(),
        ),
        v1=Said(None, "tool_calls", tool_calls=(LIMA,), cached_tokens=8),
        chat=None,
    ),
    Shape(
        "openrouter/half-an-answer",
        "https://github.com/maximhq/bifrost/issues/5425",
        plain=plain({"content": "".join(PIECES[:2])}, "error", "error", error=LOST),
        stream=sse(
            PROCESSING,
            *TEXT_CHUNKS[:2],
            chunk({}, "error") | {"error": LOST},
        ),
        v1=FAILED,
        chat=CHAT_FAILED,
        fault="doubtful",
    ),
    # The error is at the top level of a chunk without choices.
    Shape(
        "openrouter/breaks-in-mid-stream",
        "https://github.com/diegosouzapw/OmniRoute/pull/8210",
        stream=sse(*TEXT_CHUNKS[:2], HEAD | {"choices": [], "error": LOST}, done=False),
        v1=FAILED,
        chat=CHAT_FAILED,
        fault="doubtful",
    ),
    error(
        "openrouter/error-under-200",
        "https://github.com/xyOz-dev/Saturn/pull/43",
        200,
        problem(502, "Provider returned error", raw="upstream timeout", provider_name="Example"),
    ),
    error(
        "openrouter/fewer-max-tokens",
        "https://github.com/Gitlawb/openclaude/issues/1125",
        402,
        problem(
            402,
            "This request requires more credits, or fewer max_tokens. You requested up to 32000 "
            "tokens, but can only afford 27342. To increase, visit "
            "https://openrouter.ai/settings/credits and upgrade to a paid account",
            provider_name=None,
        ),
        v1=CALLERS_ERROR,
        fault="nothing",
    ),
    error(
        "openrouter/no-credits",
        ERRORS,
        402,
        problem(402, "Insufficient credits. Add more using https://openrouter.ai/settings/credits"),
        fault="at once",
    ),
    error(
        "openrouter/flagged",
        ERRORS,
        403,
        problem(
            403,
            "Your chosen model requires moderation and your input was flagged",
            reasons=["violence"],
            flagged_input="What does…",
            provider_name="Example",
            model_slug="example/model",
        ),
        v1=FILTERED,
        fault="nothing",
    ),
    error(
        "openrouter/rate-limited",
        "https://github.com/open-webui/computer/issues/293",
        429,
        problem(
            429,
            "Provider returned error",
            raw="example/model is temporarily rate-limited upstream. Please retry shortly, or add "
            "your own key to accumulate your rate limits.",
            provider_name="Example",
        ),
        fault="nothing",
    ),
    error(
        "openrouter/no-endpoints",
        "https://github.com/vyancharuk/nodejs-api-boilerplate/issues/16",
        404,
        problem(404, "No endpoints found for example/retired-model:free."),
        fault="at once",
    ),
    error(
        "openrouter/no-tool-use",
        "https://github.com/evalstate/fast-agent/issues/122",
        404,
        problem(
            404,
            "No endpoints found that support tool use. To learn more about provider "
            "routing, visit: https://openrouter.ai/docs/provider-routing",
        ),
        request=TOOLS,
        v1=CALLERS_ERROR,
        chat=None,
        fault="nothing",
    ),
    error(
        "openrouter/too-long",
        "https://github.com/continuedev/continue/issues/10690",
        400,
        problem(
            400,
            "This endpoint's maximum context length is 163840 tokens. However, you requested about "
            "243013 tokens (238917 of text input, 4096 in the output). Please reduce the length of "
            'either one, or use the "middle-out" transform to compress your prompt automatically.',
        ),
        v1=TOO_LONG,
        fault="nothing",
    ),
)
