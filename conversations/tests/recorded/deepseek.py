"""DeepSeek: https://api-docs.deepseek.com/api/create-chat-completion"""

from __future__ import annotations

from typing import Any

from conversations.tests.recorded.shapes import (
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
    asks_for_more_than,
    call,
    dumps,
    error,
    has_parts,
    sse,
)

FIXTURES = "https://github.com/vercel/ai/tree/main/packages/deepseek/src/chat/__fixtures__"
KEEP_ALIVE = "https://api-docs.deepseek.com/quick_start/rate_limit"
HEAD: dict[str, Any] = {
    "id": "c4n0n1cb-4947-4e28-a783-857aedbe6ace",
    "created": 1771200500,
    "model": "deepseek-chat",
    "system_fingerprint": "fp_canon0prod0820",
}
USAGE = {
    "prompt_tokens": 31,
    "completion_tokens": 12,
    "total_tokens": 43,
    "prompt_tokens_details": {"cached_tokens": 24},
    "prompt_cache_hit_tokens": 24,
    "prompt_cache_miss_tokens": 7,
}
THOUGHT_USAGE = USAGE | {
    "completion_tokens": 50,
    "total_tokens": 81,
    "completion_tokens_details": {"reasoning_tokens": 38},
}


def plain(
    message: dict[str, Any], finish_reason: str = "stop", usage: dict[str, Any] = USAGE
) -> bytes:
    choice = {
        "index": 0,
        "message": {"role": "assistant"} | message,
        "logprobs": None,
        "finish_reason": finish_reason,
    }
    return dumps(HEAD | {"object": "chat.completion", "choices": [choice], "usage": usage})


def chunk(
    delta: dict[str, Any], finish_reason: str | None = None, usage: dict[str, Any] = USAGE
) -> Any:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    chunk = HEAD | {"object": "chat.completion.chunk", "choices": [choice]}
    return chunk | {"usage": usage if finish_reason else None}


def problem(message: str, kind: str = "invalid_request_error") -> Any:
    return {"error": {"message": message, "type": kind, "param": None, "code": kind}}


FIRST = chunk({"role": "assistant", "content": ""})
TEXT_CHUNKS = [chunk({"content": piece}) for piece in PIECES]
LIMA = call("Lima", call_id="call_00_CanonLima0001")

SHAPES = (
    Shape(
        "deepseek/plain",
        FIXTURES,
        plain=plain({"content": TEXT}),
        stream=sse(FIRST, *TEXT_CHUNKS, chunk({"content": ""}, "stop")),
        v1=Said(cached_tokens=24),
    ),
    # What DeepSeek sends while a request waits in its queue.
    Shape(
        "deepseek/keep-alive",
        KEEP_ALIVE,
        plain=b"\n\n\n" + plain({"content": TEXT}),
        stream=sse(
            b": keep-alive\n\n", b": keep-alive\n\n", FIRST, *TEXT_CHUNKS, chunk({}, "stop")
        ),
        v1=Said(cached_tokens=24),
    ),
    Shape(
        "deepseek/reasoning",
        FIXTURES,
        plain=plain({"content": TEXT, "reasoning_content": THOUGHTS}, usage=THOUGHT_USAGE),
        stream=sse(
            chunk({"role": "assistant", "content": None, "reasoning_content": ""}),
            *(
                chunk({"content": None, "reasoning_content": part})
                for part in (THOUGHTS[:11], THOUGHTS[11:])
            ),
            *(chunk({"content": piece, "reasoning_content": None}) for piece in PIECES),
            chunk({"content": "", "reasoning_content": None}, "stop", THOUGHT_USAGE),
        ),
        v1=Said(
            reasoning={"reasoning_content": THOUGHTS},
            tokens=(31, 50),
            cached_tokens=24,
            reasoning_tokens=38,
        ),
    ),
    Shape(
        "deepseek/tools",
        FIXTURES,
        request=TOOLS,
        plain=plain(
            {
                "content": "",
                "reasoning_content": THOUGHTS,
                "tool_calls": [{"index": 0} | LIMA],
            },
            "tool_calls",
        ),
        stream=sse(
            FIRST,
            chunk({"reasoning_content": THOUGHTS}),
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
                for part in ('{"city"', ':"Lima"}')
            ),
            chunk({"content": ""}, "tool_calls"),
        ),
        v1=Said(
            None,
            "tool_calls",
            tool_calls=(LIMA,),
            reasoning={"reasoning_content": THOUGHTS},
            cached_tokens=24,
        ),
        chat=None,
    ),
    Shape(
        "deepseek/interrupted",
        "https://api-docs.deepseek.com/api/create-chat-completion",
        plain=plain({"content": "".join(PIECES[:2])}, "insufficient_system_resource"),
        stream=sse(FIRST, *TEXT_CHUNKS[:2], chunk({}, "insufficient_system_resource")),
        # Half an answer that the provider gave up on.
        v1=FAILED,
        chat=CHAT_FAILED,
        fault="doubtful",
    ),
    error(
        "deepseek/too-long",
        "https://github.com/evalstate/fast-agent/issues/621",
        400,
        problem(
            "This model's maximum context length is 131072 tokens. However, you requested 131134 "
            "tokens (122942 in the messages, 8192 in the completion). Please reduce the length of "
            "the messages or completion."
        ),
        v1=TOO_LONG,
        fault="nothing",
    ),
    error(
        "deepseek/no-balance",
        "https://github.com/continuedev/continue/issues/11787",
        402,
        problem("Insufficient Balance", "unknown_error"),
        fault="at once",
    ),
    error(
        "deepseek/flagged",
        "https://api-docs.deepseek.com/quick_start/error_codes",
        400,
        problem("Content Exists Risk"),
        v1=FILTERED,
        fault="nothing",
    ),
    error(
        "deepseek/answer-too-long",
        "https://github.com/HELPMEEADICE/doge-code/issues/5",
        400,
        problem("Invalid max_tokens value, the valid range of max_tokens is [1, 2048]"),
        only_if=asks_for_more_than(2048),
        otherwise="deepseek/plain",
        v1=Said(cached_tokens=24),
        chat=TEXT,
        fault="nothing",
    ),
    error(
        "deepseek/content-is-a-string",
        "https://api-docs.deepseek.com/api/create-chat-completion",
        422,
        problem(
            "Failed to deserialize the JSON body into the target type: messages[0]: invalid type: "
            "sequence, expected a string"
        ),
        request={
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "deepseek/content-is-a-string"},
                        {"type": "text", "text": "What does it cost?"},
                    ],
                }
            ]
        },
        only_if=has_parts,
        otherwise="deepseek/plain",
        v1=Said(cached_tokens=24),
        chat=TEXT,
        fault="nothing",
    ),
    error(
        "deepseek/overloaded",
        "https://api-docs.deepseek.com/quick_start/error_codes",
        503,
        problem("Service is too busy. We advise users to temporarily switch to other providers."),
    ),
)
