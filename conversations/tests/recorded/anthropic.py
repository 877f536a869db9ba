"""Anthropic's compatible endpoint: https://platform.claude.com/docs/en/api/openai-sdk"""

from __future__ import annotations

from typing import Any

from conversations.tests.recorded.shapes import (
    CHAT_FAILED,
    FAILED,
    PIECES,
    TEXT,
    TOO_LONG,
    TOOLS,
    Said,
    Shape,
    asks_for_more_than,
    call,
    dumps,
    error,
    sse,
)

DOCS = "https://platform.claude.com/docs/en/api/openai-sdk"
ERRORS = "https://platform.claude.com/docs/en/api/errors"
HEAD: dict[str, Any] = {
    "id": "msg_01CanonMessage",
    "created": 1771200800,
    "model": "claude-haiku-4-5-20251001",
    "service_tier": None,
    "system_fingerprint": None,
}
USAGE = {
    "prompt_tokens": 31,
    "completion_tokens": 12,
    "total_tokens": 43,
    "completion_tokens_details": None,
    "prompt_tokens_details": None,
}


def plain(message: dict[str, Any], finish_reason: str = "stop") -> bytes:
    whole = {"role": "assistant", "refusal": None, "audio": None, "tool_calls": None} | message
    choice = {"index": 0, "message": whole, "finish_reason": finish_reason, "logprobs": None}
    return dumps(HEAD | {"object": "chat.completion", "choices": [choice], "usage": USAGE})


def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> Any:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
    return HEAD | {"object": "chat.completion.chunk", "choices": [choice], "usage": None}


def problem(kind: str, message: str) -> Any:
    return {"error": {"code": kind, "message": message, "type": kind, "param": None}}


FIRST = chunk({"role": "assistant", "content": ""})
TEXT_CHUNKS = [chunk({"content": piece}) for piece in PIECES]
USAGE_CHUNK = HEAD | {"object": "chat.completion.chunk", "choices": [], "usage": USAGE}
LIMA = call("Lima", call_id="toolu_01CanonLima")
BEFORE = "Let me look it up."

SHAPES = (
    Shape(
        "anthropic/plain",
        DOCS,
        plain=plain({"content": TEXT}),
        stream=sse(FIRST, *TEXT_CHUNKS, chunk({}, "stop"), USAGE_CHUNK),
        v1=Said(),
    ),
    Shape(
        "anthropic/tools",
        DOCS,
        request=TOOLS,
        plain=plain({"content": BEFORE, "tool_calls": [LIMA]}, "tool_calls"),
        stream=sse(
            FIRST,
            chunk({"content": BEFORE}),
            chunk(
                {
                    "tool_calls": [
                        {"index": 0, "id": LIMA["id"], "type": "function"}
                        | {"function": {"name": "weather", "arguments": ""}}
                    ]
                }
            ),
            *(
                chunk({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
                for part in ("", '{"city"', ':"Lima"}')
            ),
            chunk({}, "tool_calls"),
            USAGE_CHUNK,
        ),
        v1=Said(BEFORE, "tool_calls", tool_calls=(LIMA,)),
        chat=None,
    ),
    Shape(
        "anthropic/breaks-in-mid-stream",
        ERRORS,
        stream=sse(FIRST, *TEXT_CHUNKS[:2], problem("overloaded_error", "Overloaded"), done=False),
        v1=FAILED,
        chat=CHAT_FAILED,
        fault="doubtful",
    ),
    error(
        "anthropic/too-long",
        "https://github.com/stackblitz-labs/bolt.diy/issues/401",
        400,
        problem("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
        v1=TOO_LONG,
        fault="nothing",
    ),
    error(
        "anthropic/answer-too-long",
        DOCS,
        400,
        problem(
            "invalid_request_error",
            "max_tokens: 8192 > 2048, which is the maximum allowed number of output tokens for "
            "claude-3-example",
        ),
        only_if=asks_for_more_than(2048),
        otherwise="anthropic/plain",
        v1=Said(),
        chat=TEXT,
        fault="nothing",
    ),
    error(
        "anthropic/no-credits",
        ERRORS,
        400,
        problem(
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & "
            "Billing to upgrade or purchase credits.",
        ),
        fault="at once",
    ),
    error(
        "anthropic/wrong-key",
        ERRORS,
        401,
        problem("authentication_error", "invalid x-api-key"),
        fault="at once",
    ),
    error("anthropic/overloaded", ERRORS, 529, problem("overloaded_error", "Overloaded")),
)
