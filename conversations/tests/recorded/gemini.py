"""Gemini's compatible endpoint: https://ai.google.dev/gemini-api/docs/openai"""

from __future__ import annotations

from typing import Any

from conversations.tests.recorded.shapes import (
    FILTERED,
    PIECES,
    TEXT,
    TOO_LONG,
    TOOLS,
    Refused,
    Said,
    Shape,
    call,
    dumps,
    error,
    sse,
)

CALLS_REPORT = "https://github.com/THU-MAIC/OpenMAIC/issues/1556"
HEAD: dict[str, Any] = {
    "created": 1771200600,
    "id": "c4n0naMSB6mC1PIP9Jq3uQk",
    "model": "gemini-3-flash",
}
USAGE = {"completion_tokens": 12, "prompt_tokens": 31, "total_tokens": 43}
# Gemini counts its reasoning only in the total.
THOUGHT_USAGE = {"completion_tokens": 664, "prompt_tokens": 9, "total_tokens": 1_994}
SIGNATURE = {"extra_content": {"google": {"thought_signature": "EjQKMgEMCanonSignatureAA=="}}}


def plain(
    message: dict[str, Any], finish_reason: str = "stop", usage: dict[str, Any] = USAGE
) -> bytes:
    choice = {
        "finish_reason": finish_reason,
        "index": 0,
        "message": {"role": "assistant"} | message,
    }
    return dumps({"choices": [choice]} | HEAD | {"object": "chat.completion", "usage": usage})


def chunk(
    delta: dict[str, Any], finish_reason: str | None = None, usage: dict[str, Any] = USAGE
) -> Any:
    choice: dict[str, Any] = {"delta": {"role": "assistant"} | delta, "index": 0}
    if finish_reason:
        choice["finish_reason"] = finish_reason
    chunk = {"choices": [choice]} | HEAD | {"object": "chat.completion.chunk"}
    return chunk | ({"usage": usage} if finish_reason else {})


def text_stream(usage: dict[str, Any] = USAGE) -> bytes:
    *before, last = PIECES
    return sse(*(chunk({"content": p}) for p in before), chunk({"content": last}, "stop", usage))


def problem(code: int, status: str, message: str, *details: Any) -> Any:
    """Return an error as Gemini sends it: as the only object in a list."""
    body: dict[str, Any] = {"code": code, "message": message, "status": status}
    return [{"error": body | ({"details": list(details)} if details else {})}]


LIMA = call("Lima", call_id="function-call-17712006001") | SIGNATURE
OSLO = call("Oslo", call_id="function-call-17712006002")
# Older models send no ids, and no model sends an index.
NAMELESS = (call("Lima", call_id=None), call("Oslo", call_id=None))

SHAPES = (
    Shape(
        "gemini/plain",
        "https://ai.google.dev/gemini-api/docs/openai",
        plain=plain({"content": TEXT}),
        stream=text_stream(),
        v1=Said(),
    ),
    Shape(
        "gemini/hidden-reasoning",
        "https://ai.google.dev/gemini-api/docs/openai#thinking",
        plain=plain({"content": TEXT}, usage=THOUGHT_USAGE),
        stream=text_stream(THOUGHT_USAGE),
        v1=Said(tokens=(9, 1_985)),
    ),
    Shape(
        "gemini/tools",
        CALLS_REPORT,
        request=TOOLS,
        plain=plain({"tool_calls": [LIMA, OSLO]}, "tool_calls"),
        stream=sse(
            chunk({"tool_calls": [LIMA]}),
            chunk({"tool_calls": [OSLO]}),
            chunk({}, "tool_calls"),
        ),
        v1=Said(None, "tool_calls", tool_calls=(LIMA, OSLO)),
        chat=None,
    ),
    Shape(
        "gemini/tools-that-stop",
        "https://github.com/open-webui/computer/issues/224",
        request=TOOLS,
        plain=plain({"tool_calls": [LIMA]}, "stop"),
        stream=sse(chunk({"tool_calls": [LIMA]}), chunk({}, "stop")),
        v1=Said(None, "stop", tool_calls=(LIMA,)),
        chat=None,
    ),
    Shape(
        "gemini/tools-without-ids",
        "https://github.com/microclaw/microclaw/pull/230",
        request=TOOLS,
        plain=plain({"tool_calls": [one | {"id": ""} for one in NAMELESS]}, "tool_calls"),
        stream=sse(
            chunk({"tool_calls": [NAMELESS[0] | {"id": ""}]}),
            chunk({"tool_calls": [NAMELESS[1] | {"id": ""}]}),
            chunk({}, "tool_calls"),
        ),
        v1=Said(None, "tool_calls", tool_calls=NAMELESS),
        chat=None,
    ),
    Shape(
        "gemini/filtered",
        "https://github.com/BerriAI/litellm/pull/40864",
        plain=plain({}, "content_filter", {"prompt_tokens": 31, "total_tokens": 31}),
        stream=sse(chunk({}, "content_filter", {"prompt_tokens": 31, "total_tokens": 31})),
        v1=Said("", "content_filter", tokens=(31, 0)),
        chat=FILTERED,
    ),
    error(
        "gemini/wrong-key",
        "https://github.com/cequence-io/openai-scala-client/issues/109",
        400,
        problem(
            400,
            "INVALID_ARGUMENT",
            "API key not valid. Please pass a valid API key.",
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "API_KEY_INVALID",
                "domain": "googleapis.com",
                "metadata": {"service": "generativelanguage.googleapis.com"},
            },
        ),
        fault="at once",
    ),
    error(
        "gemini/no-quota",
        "https://github.com/continuedev/continue/issues/10655",
        429,
        problem(
            429,
            "RESOURCE_EXHAUSTED",
            "You exceeded your current quota, please check your plan and billing details. For more "
            "information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits.",
        ),
        fault="at once",
    ),
    error(
        "gemini/too-long",
        "https://ai.google.dev/gemini-api/docs/long-context",
        400,
        problem(
            400,
            "INVALID_ARGUMENT",
            "The input token count (1200000) exceeds the maximum number of tokens allowed "
            "(1048576).",
        ),
        v1=TOO_LONG,
        fault="nothing",
    ),
    error(
        "gemini/no-signature",
        "https://github.com/earendil-works/pi/pull/3234",
        400,
        problem(
            400,
            "INVALID_ARGUMENT",
            "Function call is missing a thought_signature in functionCall parts. This is required "
            "for tools to work correctly. Function call `default_api:weather`, position 2.",
        ),
        request=TOOLS,
        v1=Refused((400,), None, says="Function call is missing a thought_signature"),
        chat=None,
        fault="nothing",
    ),
    error(
        "gemini/no-model",
        "https://ai.google.dev/gemini-api/docs/troubleshooting",
        404,
        problem(
            404,
            "NOT_FOUND",
            "models/gemini-1.0-pro is not found for API version v1main, or is not supported for "
            "generateContent.",
        ),
        fault="at once",
    ),
    error(
        "gemini/overloaded",
        "https://ai.google.dev/gemini-api/docs/troubleshooting",
        503,
        problem(503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    ),
)
