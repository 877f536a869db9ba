"""Ollama: https://docs.ollama.com/api/openai-compatibility"""

from __future__ import annotations

from typing import Any

from conversations.tests.recorded.shapes import (
    PIECES,
    TEXT,
    THOUGHTS,
    TOOLS,
    Refused,
    Said,
    Shape,
    call,
    dumps,
    error,
    sse,
)

SOURCE = "https://github.com/ollama/ollama/blob/main/openai/openai.go"
HEAD: dict[str, Any] = {
    "id": "chatcmpl-432",
    "created": 1771201200,
    "model": "qwen3:8b",
    "system_fingerprint": "fp_ollama",
}
USAGE = {"prompt_tokens": 31, "completion_tokens": 12, "total_tokens": 43}


def plain(message: dict[str, Any], finish_reason: str = "stop") -> bytes:
    whole = {"role": "assistant", "content": ""} | message
    choice = {"index": 0, "message": whole, "finish_reason": finish_reason}
    return dumps(HEAD | {"object": "chat.completion", "choices": [choice], "usage": USAGE})


def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> Any:
    whole = {"role": "assistant", "content": ""} | delta
    choice = {"index": 0, "delta": whole, "finish_reason": finish_reason}
    return HEAD | {"object": "chat.completion.chunk", "choices": [choice]}


def problem(message: str, kind: str) -> Any:
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


USAGE_CHUNK = HEAD | {"object": "chat.completion.chunk", "choices": [], "usage": USAGE}
TEXT_CHUNKS = [chunk({"content": piece}) for piece in PIECES]
LIMA, OSLO = call("Lima", call_id="call_c4n0nq1w"), call("Oslo", call_id="call_c4n0ne3r")
AS_OBJECT = {"function": {"name": "weather", "arguments": {"city": "Lima"}}}

SHAPES = (
    Shape(
        "ollama/plain",
        SOURCE,
        plain=plain({"content": TEXT}),
        stream=sse(*TEXT_CHUNKS, chunk({}, "stop"), USAGE_CHUNK),
        v1=Said(),
    ),
    # Versions from before stream_options leave usage out of a stream.
    Shape(
        "ollama/no-usage",
        "https://github.com/ollama/ollama/issues/9632",
        stream=sse(*TEXT_CHUNKS, chunk({}, "stop")),
        v1=Said(tokens=None),
    ),
    Shape(
        "ollama/reasoning",
        "https://github.com/QwenLM/Qwen-Agent/pull/843",
        plain=plain({"content": TEXT, "reasoning": THOUGHTS}),
        stream=sse(
            *(chunk({"reasoning": part}) for part in (THOUGHTS[:11], THOUGHTS[11:])),
            *TEXT_CHUNKS,
            chunk({}, "stop"),
            USAGE_CHUNK,
        ),
        v1=Said(reasoning={"reasoning": THOUGHTS}),
    ),
    # Each call is one piece, and every call has the index 0.
    Shape(
        "ollama/tools-of-one-index",
        "https://github.com/ollama/ollama/issues/15457",
        request=TOOLS,
        plain=plain({"tool_calls": [one | {"index": 0} for one in (LIMA, OSLO)]}, "tool_calls"),
        stream=sse(
            chunk({"tool_calls": [LIMA | {"index": 0}]}),
            chunk({"tool_calls": [OSLO | {"index": 0}]}),
            chunk({}, "tool_calls"),
            USAGE_CHUNK,
        ),
        v1=Said(None, "tool_calls", tool_calls=(LIMA, OSLO)),
        chat=None,
    ),
    Shape(
        "ollama/tools-without-index",
        "https://github.com/ollama/ollama/issues/7881",
        request=TOOLS,
        plain=plain({"tool_calls": [LIMA, OSLO]}, "tool_calls"),
        stream=sse(
            chunk({"tool_calls": [LIMA]}),
            chunk({"tool_calls": [OSLO]}),
            chunk({}, "tool_calls"),
            USAGE_CHUNK,
        ),
        v1=Said(None, "tool_calls", tool_calls=(LIMA, OSLO)),
        chat=None,
    ),
    Shape(
        "ollama/arguments-as-an-object",
        "https://github.com/langchain-ai/langchain/pull/28654",
        request=TOOLS,
        plain=plain({"tool_calls": [AS_OBJECT]}, "tool_calls"),
        stream=sse(chunk({"tool_calls": [AS_OBJECT]}), chunk({}, "tool_calls"), USAGE_CHUNK),
        v1=Said(None, "tool_calls", tool_calls=(call("Lima", call_id=None),)),
        chat=None,
    ),
    error(
        "ollama/no-model",
        SOURCE,
        404,
        problem('model "qwen9" not found, try pulling it first', "not_found_error"),
        fault="at once",
    ),
    error(
        "ollama/no-tools",
        "https://github.com/louisho5/picobot/issues/6",
        400,
        problem("registry.ollama.ai/library/gemma3:4b does not support tools", "api_error"),
        request=TOOLS,
        v1=Refused((400,), None, says="does not support tools"),
        chat=None,
        fault="nothing",
    ),
    error(
        "ollama/dead-runner",
        SOURCE,
        500,
        problem("llama runner process has terminated: exit status 2", "api_error"),
    ),
)
