"""xAI: https://docs.x.ai/developers/rest-api-reference/inference/chat"""

from __future__ import annotations

from typing import Any

from conversations.tests.recorded.shapes import (
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

FIXTURES = "https://github.com/vercel/ai/tree/main/packages/xai/src/__fixtures__"
HEAD: dict[str, Any] = {
    "id": "c4n0n8f2-2a98-413e-f654-dbffcdbb62c1",
    "created": 1771200700,
    "model": "grok-3-mini",
    "system_fingerprint": "fp_canon00002",
}
# Here reasoning is not part of completion_tokens, but it is part of the total.
USAGE = {
    "prompt_tokens": 31,
    "completion_tokens": 12,
    "total_tokens": 239,
    "prompt_tokens_details": {
        "text_tokens": 31,
        "audio_tokens": 0,
        "image_tokens": 0,
        "cached_tokens": 30,
    },
    "completion_tokens_details": {
        "reasoning_tokens": 196,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
    "num_sources_used": 0,
    "cost_in_usd_ticks": 1_330_500,
}


def plain(message: dict[str, Any], finish_reason: str = "stop") -> bytes:
    whole = {"role": "assistant", "refusal": None} | message
    choice = {"index": 0, "message": whole, "finish_reason": finish_reason}
    return dumps(HEAD | {"object": "chat.completion", "choices": [choice], "usage": USAGE})


def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> Any:
    choice: dict[str, Any] = {"index": 0, "delta": delta}
    if finish_reason:
        choice["finish_reason"] = finish_reason
    return HEAD | {"object": "chat.completion.chunk", "choices": [choice]}


USAGE_CHUNK = HEAD | {"object": "chat.completion.chunk", "choices": [], "usage": USAGE}
THINKING = [
    chunk({"reasoning_content": THOUGHTS[:11], "role": "assistant"}),
    chunk({"reasoning_content": THOUGHTS[11:]}),
]
LIMA = call("Lima", call_id="call_55117580")
OTHER_SIDE = "The caller does not have permission to execute the specified operation"
COUNTED: dict[str, Any] = {
    "reasoning": {"reasoning_content": THOUGHTS},
    "tokens": (31, 208),
    "cached_tokens": 30,
    "reasoning_tokens": 196,
}

SHAPES = (
    Shape(
        "xai/reasoning",
        FIXTURES,
        plain=plain({"content": TEXT, "reasoning_content": THOUGHTS}),
        stream=sse(
            *THINKING,
            *(chunk({"content": piece}) for piece in PIECES),
            chunk({}, "stop"),
            USAGE_CHUNK,
        ),
        v1=Said(**COUNTED),
    ),
    Shape(
        "xai/tools",
        FIXTURES,
        request=TOOLS,
        plain=plain(
            {"content": "", "reasoning_content": THOUGHTS, "tool_calls": [LIMA]}, "tool_calls"
        ),
        stream=sse(
            *THINKING,
            chunk({"tool_calls": [LIMA | {"index": 0}]}),
            chunk({}, "tool_calls"),
            USAGE_CHUNK,
        ),
        v1=Said(None, "tool_calls", tool_calls=(LIMA,), **COUNTED),
        chat=None,
    ),
    error(
        "xai/too-long",
        "https://github.com/cline/cline/issues/3120",
        400,
        {
            "code": "Client specified an invalid argument",
            "error": "This model's maximum prompt length is 131072 but the request contains 136973 "
            "tokens.",
        },
        v1=TOO_LONG,
        fault="nothing",
    ),
    error(
        "xai/wrong-key",
        "https://github.com/continuedev/continue/issues/10778",
        400,
        {
            "code": "Client specified an invalid argument",
            "error": "Incorrect API key provided: ca***on. You can obtain an API key from "
            "https://console.x.ai.",
        },
        fault="at once",
    ),
    error(
        "xai/flagged",
        "https://github.com/UKGovernmentBEIS/inspect_ai/pull/2267",
        403,
        {
            "code": OTHER_SIDE,
            "error": "Content violates usage guidelines. Team: c4n0n, API key ID: c4n0n, Model: "
            "grok-4-0709, Failed check: SAFETY_CHECK_TYPE_BIO",
        },
        v1=FILTERED,
        fault="nothing",
    ),
    error(
        "xai/no-credits",
        "https://docs.x.ai/docs/debugging-errors",
        403,
        {
            "code": OTHER_SIDE,
            "error": "Your newly created team doesn't have any credits yet. You can purchase "
            "credits on https://console.x.ai.",
        },
        fault="at once",
    ),
    error(
        "xai/no-model",
        "https://docs.x.ai/docs/debugging-errors",
        404,
        {
            "code": "Some requested entity was not found",
            "error": "The model grok-beta does not exist or your team does not have access to it.",
        },
        fault="at once",
    ),
)
