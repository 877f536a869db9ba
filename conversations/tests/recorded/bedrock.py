"""Bedrock's OpenAI endpoint.

https://docs.aws.amazon.com/bedrock/latest/userguide/inference-chat-completions.html
"""

from __future__ import annotations

from typing import Any

from conversations.tests.recorded.shapes import (
    PIECES,
    TEXT,
    THOUGHTS,
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

DOCS = "https://docs.aws.amazon.com/bedrock/latest/userguide/inference-chat-completions.html"
HEAD: dict[str, Any] = {
    "id": "chatcmpl-c4n0nb3d-76c2-4f10",
    "created": 1771200900,
    "model": "openai.gpt-oss-20b-1:0",
    "service_tier": "default",
    "system_fingerprint": "canon",
}
USAGE = {"prompt_tokens": 31, "completion_tokens": 50, "total_tokens": 81}
TAGGED = f"<reasoning>{THOUGHTS}</reasoning>"


def plain(content: str | None, finish_reason: str = "stop", **message: Any) -> bytes:
    whole = {"role": "assistant", "content": content, "refusal": None} | message
    choice = {"index": 0, "message": whole, "finish_reason": finish_reason, "logprobs": None}
    return dumps(HEAD | {"object": "chat.completion", "choices": [choice], "usage": USAGE})


def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> Any:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
    return HEAD | {"object": "chat.completion.chunk", "choices": [choice]}


USAGE_CHUNK = HEAD | {"object": "chat.completion.chunk", "choices": [], "usage": USAGE}
FIRST = chunk({"role": "assistant", "content": ""})
LIMA = call("Lima", call_id="chatcmpl-tool-c4n0n7b1e6d2")


def problem(message: str, code: str, kind: str) -> Any:
    return {"error": {"code": code, "message": message, "param": None, "type": kind}}


SHAPES = (
    # Its reasoning is part of the content, in tags. A tag may come in two pieces.
    Shape(
        "bedrock/reasoning",
        "https://github.com/promptfoo/promptfoo/pull/9587",
        plain=plain(TAGGED + TEXT),
        stream=sse(
            FIRST,
            *(chunk({"content": part}) for part in (TAGGED[:6], TAGGED[6:30], TAGGED[30:])),
            *(chunk({"content": piece}) for piece in PIECES),
            chunk({}, "stop"),
            USAGE_CHUNK,
        ),
        v1=Said(TAGGED + TEXT, tokens=(31, 50)),
        chat=TEXT,
    ),
    Shape(
        "bedrock/tools",
        DOCS,
        request=TOOLS,
        plain=plain(None, "tool_calls", tool_calls=[LIMA]),
        stream=sse(
            FIRST,
            chunk({"tool_calls": [{"index": 0} | LIMA]}),
            chunk({}, "tool_calls"),
            USAGE_CHUNK,
        ),
        v1=Said(None, "tool_calls", tool_calls=(LIMA,), tokens=(31, 50)),
        chat=None,
    ),
    error(
        "bedrock/too-long",
        DOCS,
        400,
        problem(
            "This model's maximum context length is 131072 tokens. However, your request has "
            "140000 input tokens. Please reduce the length of the input messages.",
            "validation_error",
            "invalid_request_error",
        ),
        v1=TOO_LONG,
        fault="nothing",
    ),
    error(
        "bedrock/wrong-parameter",
        DOCS,
        400,
        problem(
            "Failed to deserialize the JSON body into the target type: temperature: expected f32",
            "validation_error",
            "invalid_request_error",
        ),
        request={"temperature": 1.5},
        v1=Refused((400,), "validation_error", says="temperature"),
        chat=None,
        fault="nothing",
    ),
    error(
        "bedrock/no-model",
        "https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html",
        400,
        {"message": "The provided model identifier is invalid."},
        fault="at once",
    ),
    error(
        "bedrock/wrong-key",
        "https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html",
        403,
        {"Message": "Authentication failed: Please make sure your API Key is valid."},
        fault="at once",
    ),
    # A rate limit whose message reads like an error about a prompt that is too long.
    error(
        "bedrock/rate-limited",
        "https://github.com/anomalyco/opencode/pull/39621",
        429,
        {"message": "Too many tokens, please wait before trying again."},
        fault="nothing",
    ),
)
