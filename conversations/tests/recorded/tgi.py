"""Text Generation Inference: https://huggingface.co/docs/text-generation-inference/messages_api"""

from __future__ import annotations

from typing import Any

from conversations.tests.recorded.shapes import (
    CHAT_FAILED,
    PIECES,
    TEXT,
    TOO_LONG,
    TOOLS,
    Said,
    Shape,
    call,
    dumps,
    error,
    sse,
)

DOCS = "https://huggingface.co/docs/text-generation-inference/messages_api"
HEAD: dict[str, Any] = {
    "id": "",
    "created": 1771201100,
    "model": "meta-llama/Llama-3.1-8B-Instruct",
    "system_fingerprint": "3.3.4-sha-c4n0n00",
}
USAGE = {"prompt_tokens": 31, "completion_tokens": 12, "total_tokens": 43}
LENGTH_ERROR = {
    "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: "
    "4000 `inputs` tokens and 1000 `max_new_tokens`",
    "error_type": "validation",
}
LIMA = call("Lima", call_id="0")


def plain(message: dict[str, Any], finish_reason: str = "stop") -> bytes:
    choice = {
        "index": 0,
        "message": {"role": "assistant"} | message,
        "logprobs": None,
        "finish_reason": finish_reason,
    }
    return dumps({"object": "chat.completion"} | HEAD | {"choices": [choice], "usage": USAGE})


def event(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    """Return an event as TGI writes it, without a space after the colon."""
    choice = {
        "index": 0,
        "delta": {"role": "assistant"} | delta,
        "logprobs": None,
        "finish_reason": finish_reason,
    }
    chunk = {"object": "chat.completion.chunk"} | HEAD | {"choices": [choice], "usage": None}
    return b"data:" + dumps(chunk) + b"\n\n"


USAGE_EVENT = (
    b"data:"
    + dumps({"object": "chat.completion.chunk"} | HEAD | {"choices": [], "usage": USAGE})
    + b"\n\n"
)
TEXT_EVENTS = [event({"content": piece}) for piece in PIECES]

SHAPES = (
    Shape(
        "tgi/plain",
        DOCS,
        plain=plain({"content": TEXT}),
        stream=sse(*TEXT_EVENTS, event({"content": ""}, "stop"), USAGE_EVENT),
        v1=Said(),
    ),
    Shape(
        "tgi/eos-token",
        DOCS,
        plain=plain({"content": TEXT}, "eos_token"),
        stream=sse(*TEXT_EVENTS, event({"content": ""}, "eos_token"), USAGE_EVENT),
        v1=Said(finish_reason="eos_token"),
    ),
    # Before 3.1, arguments are an object, and the finish reason does not show the call.
    Shape(
        "tgi/arguments-as-an-object",
        "https://github.com/huggingface/text-generation-inference/issues/2794",
        request=TOOLS,
        plain=plain(
            {
                "tool_calls": [
                    LIMA
                    | {
                        "function": {"description": None, "name": "weather"}
                        | {"arguments": {"city": "Lima"}}
                    }
                ]
            }
        ),
        v1=Said(None, "stop", tool_calls=(LIMA,)),
        chat=None,
    ),
    error(
        "tgi/too-long",
        "https://github.com/huggingface/huggingface_hub/issues/2514",
        422,
        LENGTH_ERROR,
        v1=TOO_LONG,
        fault="nothing",
    ),
    # With `stream`, the same error is the first event of a 200.
    Shape(
        "tgi/too-long-in-a-stream",
        "https://github.com/huggingface/text-generation-inference/issues/2749",
        stream=sse(b"data:" + dumps(LENGTH_ERROR) + b"\n\n", done=False),
        v1=TOO_LONG,
        chat=CHAT_FAILED,
        fault="nothing",
    ),
    error(
        "tgi/overloaded",
        "https://github.com/huggingface/text-generation-inference/blob/main/router/src/server.rs",
        429,
        {"error": "Model is overloaded", "error_type": "overloaded"},
        fault="nothing",
    ),
    error(
        "tgi/generation-failed",
        "https://github.com/huggingface/text-generation-inference/blob/main/router/src/server.rs",
        424,
        {"error": "Request failed during generation: Server error", "error_type": "generation"},
    ),
)
