"""Mistral: https://docs.mistral.ai/api/endpoint/chat"""

from __future__ import annotations

from typing import Any

from conversations.tests.recorded.shapes import (
    CALLERS_ERROR,
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
    has_stream_options,
    sse,
)

FIXTURES = "https://github.com/vercel/ai/tree/main/packages/mistral/src/__fixtures__"
HEAD: dict[str, Any] = {
    "id": "c4n0n5b82f94d67b23e108a7c9df6e1",
    "created": 1771200400,
    "model": "mistral-small-latest",
}
USAGE = {"prompt_tokens": 31, "total_tokens": 43, "completion_tokens": 12}


def plain(content: Any, finish_reason: str = "stop", **message: Any) -> bytes:
    whole = {"role": "assistant", "tool_calls": None, "content": content} | message
    choice = {"index": 0, "finish_reason": finish_reason, "message": whole}
    return dumps(HEAD | {"usage": USAGE, "object": "chat.completion", "choices": [choice]})


def chunk(content: Any, finish_reason: str | None = None, **delta: Any) -> Any:
    choice = {
        "index": 0,
        "delta": {"content": content} | delta,
        "finish_reason": finish_reason,
        "logprobs": None,
    }
    chunk = HEAD | {"object": "chat.completion.chunk", "choices": [choice]}
    return chunk | ({"usage": USAGE} if finish_reason else {})


def thinking(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


def written(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def problem(message: Any, kind: str, code: str | None) -> Any:
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


FIRST = chunk("", role="assistant")
TEXT_CHUNKS = [chunk(piece) for piece in PIECES]
LIMA = call("Lima", call_id="gT5mQ2xYz")
# As Mistral streams it: whole, and without an index or a type.
LIMA_AS_SENT = {"id": LIMA["id"], "function": LIMA["function"]}


def unknown_member(*place: str) -> list[Any]:
    """Return the error for a member of the request that Mistral does not know."""
    fault = {"type": "extra_forbidden", "loc": ["body", *place]}
    return [fault | {"msg": "Extra inputs are not permitted", "input": True}]


SHAPES = (
    Shape(
        "mistral/plain",
        FIXTURES,
        plain=plain(TEXT),
        stream=sse(FIRST, *TEXT_CHUNKS, chunk("", "stop")),
        v1=Said(),
    ),
    Shape(
        "mistral/reasoning",
        FIXTURES,
        plain=plain([thinking(THOUGHTS), written(TEXT)]),
        stream=sse(
            chunk([thinking(THOUGHTS[:11])], role="assistant"),
            chunk([thinking(THOUGHTS[11:])]),
            *(chunk([written(piece)]) for piece in PIECES[:2]),
            # After the reasoning, the rest comes as plain strings.
            *TEXT_CHUNKS[2:],
            chunk("", "stop"),
        ),
        v1=Said(reasoning={"reasoning_content": THOUGHTS}),
    ),
    Shape(
        "mistral/tools",
        FIXTURES,
        request=TOOLS,
        plain=plain("", "tool_calls", tool_calls=[LIMA_AS_SENT]),
        stream=sse(FIRST, chunk(None, "tool_calls", tool_calls=[LIMA_AS_SENT])),
        v1=Said(None, "tool_calls", tool_calls=(LIMA,)),
        chat=None,
    ),
    Shape(
        "mistral/cut",
        "https://docs.mistral.ai/api/endpoint/chat",
        plain=plain(TEXT, "model_length"),
        stream=sse(FIRST, *TEXT_CHUNKS, chunk("", "model_length")),
        v1=Said(finish_reason="model_length"),
    ),
    error(
        "mistral/too-long",
        "https://docs.mistral.ai/api/endpoint/chat",
        400,
        problem(
            "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 "
            "maximum context length",
            "invalid_request_prompt",
            "3051",
        ),
        v1=TOO_LONG,
        fault="nothing",
    ),
    error(
        "mistral/no-stream-options",
        "https://github.com/dnakov/anon-kode/issues/53",
        422,
        problem(
            {"detail": unknown_member("stream_options", "include_usage")},
            "invalid_request_error",
            None,
        ),
        only_if=has_stream_options,
        otherwise="mistral/plain",
        v1=Said(),
        chat=TEXT,
        fault="nothing",
    ),
    error(
        "mistral/unknown-member",
        "https://github.com/Gitlawb/openclaude/issues/739",
        422,
        {"detail": unknown_member("seed")},
        request={"seed": 7},
        v1=CALLERS_ERROR,
        chat=None,
        fault="nothing",
    ),
    error(
        "mistral/wrong-key",
        "https://docs.mistral.ai/api",
        401,
        {"detail": "Unauthorized"},
        fault="at once",
    ),
    error(
        "mistral/no-model",
        "https://github.com/tmc/langchaingo/issues/1233",
        400,
        problem("Invalid model: mistral-medium-2312", "invalid_model", "1500"),
        fault="at once",
    ),
    error(
        "mistral/rate-limited",
        "https://github.com/cline/cline/issues/9085",
        429,
        problem("Rate limit exceeded", "rate_limited", "1300"),
        fault="nothing",
    ),
)
