"""llama.cpp: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md"""

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

README = "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md"
HEAD: dict[str, Any] = {
    "created": 1771201300,
    "model": "qwen3-4b-q4_k_m.gguf",
    "system_fingerprint": "b9910-c4n0n000",
    "id": "chatcmpl-c4n0nBdbILCHZSVrukYDQms830BnA",
}
USAGE = {
    "completion_tokens": 12,
    "prompt_tokens": 31,
    "total_tokens": 43,
    "prompt_tokens_details": {"cached_tokens": 3},
}
TIMINGS = {
    "timings": {
        "cache_n": 3,
        "prompt_n": 28,
        "prompt_ms": 81.2,
        "prompt_per_token_ms": 2.9,
        "prompt_per_second": 344.8,
        "predicted_n": 12,
        "predicted_ms": 201.6,
        "predicted_per_token_ms": 16.8,
        "predicted_per_second": 59.5,
    }
}


def plain(message: dict[str, Any], finish_reason: str = "stop") -> bytes:
    whole = {"role": "assistant", "content": None} | message
    choice = {"finish_reason": finish_reason, "index": 0, "message": whole}
    head = {"choices": [choice]} | HEAD | {"object": "chat.completion", "usage": USAGE}
    return dumps(head | TIMINGS)


def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> Any:
    choice = {"finish_reason": finish_reason, "index": 0, "delta": delta}
    return {"choices": [choice]} | HEAD | {"object": "chat.completion.chunk"}


def problem(code: int, kind: str, message: str, **more: Any) -> Any:
    return {"error": {"code": code, "message": message, "type": kind} | more}


FIRST = chunk({"role": "assistant", "content": None})
TEXT_CHUNKS = [chunk({"content": piece}) for piece in PIECES]
LAST = {"choices": []} | HEAD | {"object": "chat.completion.chunk", "usage": USAGE} | TIMINGS
LIMA = call("Lima", call_id="c4n0nQMs830BnAdbILCHZSVrukYDztp6")
TOO_SMALL = (
    "request (13392 tokens) exceeds the available context size (8192 tokens), try increasing it"
)

SHAPES = (
    Shape(
        "llama-cpp/plain",
        README,
        plain=plain({"content": TEXT}),
        stream=sse(FIRST, *TEXT_CHUNKS, chunk({}, "stop"), LAST),
        v1=Said(cached_tokens=3),
    ),
    Shape(
        "llama-cpp/reasoning",
        README,
        plain=plain({"content": TEXT, "reasoning_content": THOUGHTS}),
        stream=sse(
            FIRST,
            *(chunk({"reasoning_content": part}) for part in (THOUGHTS[:11], THOUGHTS[11:])),
            *TEXT_CHUNKS,
            chunk({}, "stop"),
            LAST,
        ),
        v1=Said(reasoning={"reasoning_content": THOUGHTS}, cached_tokens=3),
    ),
    Shape(
        "llama-cpp/tools",
        "https://github.com/ggml-org/llama.cpp/blob/master/docs/function-calling.md",
        request=TOOLS,
        plain=plain({"tool_calls": [LIMA]}, "tool_calls"),
        stream=sse(
            FIRST,
            chunk(
                {
                    "tool_calls": [
                        {"index": 0, "id": LIMA["id"], "type": "function"}
                        | {"function": {"name": "weather", "arguments": "{"}}
                    ]
                }
            ),
            *(
                chunk({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
                for part in ('"city":', '"Lima"}')
            ),
            chunk({}, "tool_calls"),
            LAST,
        ),
        v1=Said(None, "tool_calls", tool_calls=(LIMA,), cached_tokens=3),
        chat=None,
    ),
    error(
        "llama-cpp/too-long",
        "https://github.com/ggml-org/llama.cpp/issues/17284",
        400,
        problem(400, "exceed_context_size_error", TOO_SMALL, n_prompt_tokens=13392, n_ctx=8192),
        v1=TOO_LONG,
        fault="nothing",
    ),
    error(
        "llama-cpp/older-too-long",
        "https://github.com/ggml-org/llama.cpp/pull/15780",
        500,
        problem(
            500,
            "exceed_context_size_error",
            "the request exceeds the available context size. try increasing the context size or "
            "enable context shift",
            n_prompt_tokens=1407,
            n_ctx=256,
        ),
        v1=TOO_LONG,
        fault="nothing",
    ),
    error(
        "llama-cpp/no-jinja",
        README,
        500,
        problem(500, "server_error", "tools param requires --jinja flag"),
        request=TOOLS,
        v1=Refused((400, 502), None),
        chat=None,
        fault="nothing",
    ),
    error(
        "llama-cpp/wrong-key",
        README,
        401,
        problem(401, "authentication_error", "Invalid API Key"),
        fault="at once",
    ),
    error(
        "llama-cpp/loading",
        README,
        503,
        problem(503, "unavailable_error", "Loading model"),
    ),
)
