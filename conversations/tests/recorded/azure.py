"""Azure OpenAI: OpenAI's shapes, with the verdicts of a content filter throughout.

https://learn.microsoft.com/en-us/azure/ai-services/openai/concepts/content-filter
"""

from __future__ import annotations

from typing import Any

from conversations.tests.recorded.shapes import (
    FILTERED,
    PIECES,
    TEXT,
    TOOLS,
    Said,
    Shape,
    call,
    dumps,
    error,
    sse,
)

FILTER_DOCS = "https://learn.microsoft.com/en-us/azure/ai-services/openai/concepts/content-filter"
STREAM_REPORT = "https://github.com/microsoft/semantic-kernel/issues/7250"
HEAD: dict[str, Any] = {
    "id": "chatcmpl-CanonAz9y8X7",
    "created": 1771200100,
    "model": "gpt-4o-2024-11-20",
    "system_fingerprint": "fp_ee1d74bde0",
}
SAFE = {
    kind: {"filtered": False, "severity": "safe"}
    for kind in ("hate", "self_harm", "sexual", "violence")
}
HARMFUL = SAFE | {"violence": {"filtered": True, "severity": "high"}}
PROMPT_FINE = {"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": SAFE}]}
NOBODY = {"id": "", "object": "", "created": 0, "model": ""}
USAGE = {"prompt_tokens": 31, "completion_tokens": 12, "total_tokens": 43}


def plain(message: dict[str, Any], finish_reason: str = "stop", verdict: Any = SAFE) -> bytes:
    choice = {
        "content_filter_results": verdict,
        "finish_reason": finish_reason,
        "index": 0,
        "logprobs": None,
        "message": {"role": "assistant"} | message,
    }
    head = HEAD | {"object": "chat.completion"} | PROMPT_FINE
    return dumps(head | {"choices": [choice], "usage": USAGE})


def chunk(delta: dict[str, Any], finish_reason: str | None = None, verdict: Any = SAFE) -> Any:
    choice = {
        "content_filter_results": verdict if delta.get("content") or finish_reason else {},
        "delta": delta,
        "finish_reason": finish_reason,
        "index": 0,
        "logprobs": None,
    }
    return HEAD | {"object": "chat.completion.chunk", "choices": [choice], "usage": None}


OPENING = [
    NOBODY | {"choices": []} | PROMPT_FINE,
    chunk({"role": "assistant", "content": "", "refusal": None}),
]
TEXT_CHUNKS = [chunk({"content": piece}) for piece in PIECES]
USAGE_CHUNK = HEAD | {"object": "chat.completion.chunk", "choices": [], "usage": USAGE}
# With the asynchronous filter, verdicts come later in their own chunk, in a choice without a delta.
LATE_VERDICT = NOBODY | {
    "choices": [
        {
            "content_filter_offsets": {"check_offset": 25, "start_offset": 25, "end_offset": 60},
            "content_filter_results": SAFE,
            "finish_reason": None,
            "index": 0,
        }
    ],
    "usage": None,
}
LIMA = call("Lima", call_id="call_AzLima01")

SHAPES = (
    Shape(
        "azure/plain",
        STREAM_REPORT,
        plain=plain({"content": TEXT, "refusal": None}),
        stream=sse(*OPENING, *TEXT_CHUNKS, chunk({}, "stop"), USAGE_CHUNK),
        v1=Said(),
    ),
    Shape(
        "azure/asynchronous-filter",
        "https://github.com/langchain-ai/langchain/issues/18977",
        plain=plain({"content": TEXT, "refusal": None}),
        stream=sse(*OPENING, *TEXT_CHUNKS, chunk({}, "stop"), LATE_VERDICT, USAGE_CHUNK),
        v1=Said(),
    ),
    Shape(
        "azure/tools",
        "https://github.com/langchain4j/langchain4j/issues/2385",
        request=TOOLS,
        plain=plain({"content": None, "tool_calls": [LIMA]}, "tool_calls"),
        stream=sse(
            *OPENING,
            chunk({"tool_calls": [{"index": 0} | LIMA]}),
            chunk({}, "tool_calls"),
            USAGE_CHUNK,
        ),
        v1=Said(None, "tool_calls", tool_calls=(LIMA,)),
        chat=None,
    ),
    # If the whole answer is filtered, the message has no content member at all.
    Shape(
        "azure/filtered-answer",
        FILTER_DOCS,
        plain=plain({}, "content_filter", HARMFUL),
        stream=sse(*OPENING, chunk({}, "content_filter", HARMFUL), USAGE_CHUNK),
        v1=Said("", "content_filter"),
        chat=FILTERED,
    ),
    Shape(
        "azure/filtered-half-way",
        FILTER_DOCS,
        plain=plain({"content": "".join(PIECES[:2])}, "content_filter", HARMFUL),
        stream=sse(*OPENING, *TEXT_CHUNKS[:2], chunk({}, "content_filter", HARMFUL), USAGE_CHUNK),
        v1=Said("".join(PIECES[:2]), "content_filter"),
    ),
    error(
        "azure/filtered-prompt",
        "https://github.com/openai/openai-agents-python/issues/806",
        400,
        {
            "error": {
                "message": "The response was filtered due to the prompt triggering Azure OpenAI's "
                "content management policy. Please modify your prompt and retry.",
                "type": None,
                "param": "prompt",
                "code": "content_filter",
                "status": 400,
                "innererror": {
                    "code": "ResponsibleAIPolicyViolation",
                    "content_filter_result": HARMFUL
                    | {"jailbreak": {"filtered": False, "detected": False}},
                },
            }
        },
        v1=FILTERED,
        fault="nothing",
    ),
    error(
        "azure/wrong-key",
        "https://github.com/microsoft/semantic-kernel/issues/10337",
        401,
        {
            "error": {
                "code": "401",
                "message": "Access denied due to invalid subscription key or wrong API endpoint. "
                "Make sure to provide a valid key for an active subscription and use a correct "
                "regional API endpoint for your resource.",
            }
        },
        fault="at once",
    ),
    error(
        "azure/no-deployment",
        "https://github.com/MicrosoftDocs/azure-docs/issues/107395",
        404,
        {
            "error": {
                "code": "DeploymentNotFound",
                "message": "The API deployment for this resource does not exist. If you created "
                "the deployment within the last 5 minutes, please wait a moment and try again.",
            }
        },
        fault="at once",
    ),
    error(
        "azure/rate-limited",
        "https://github.com/vanderschaarlab/climb/issues/1",
        429,
        {
            "error": {
                "code": "429",
                "message": "Requests to the ChatCompletions_Create Operation under Azure OpenAI "
                "API version 2024-10-21 have exceeded token rate limit of your current OpenAI S0 "
                "pricing tier. Please retry after 6 seconds.",
            }
        },
        headers={"Retry-After": "6"},
        fault="waits",
    ),
)
