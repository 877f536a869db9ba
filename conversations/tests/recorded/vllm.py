"""vLLM: https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html"""

from __future__ import annotations

from typing import Any

from conversations.tests.recorded.shapes import (
    CHAT_FAILED,
    FAILED,
    PIECES,
    TEXT,
    THOUGHTS,
    TOO_LONG,
    TOOLS,
    Refused,
    Said,
    Shape,
    asks_for_more_than,
    call,
    dumps,
    error,
    has_system,
    sse,
)

DOCS = "https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html"
HEAD: dict[str, Any] = {
    "id": "chatcmpl-c4n0n62fdfb53dce4af50100e33f8fb5",
    "created": 1771201000,
    "model": "Qwen/Qwen3-8B",
}
USAGE = {"prompt_tokens": 31, "total_tokens": 43, "completion_tokens": 12}
PLAIN_USAGE = USAGE | {"prompt_tokens_details": None}
NOTHING_ELSE: dict[str, Any] = {
    "refusal": None,
    "annotations": None,
    "audio": None,
    "function_call": None,
    "tool_calls": [],
    "reasoning_content": None,
}
NO_EXTRAS = {"prompt_logprobs": None, "prompt_token_ids": None, "kv_transfer_params": None}


def plain(message: dict[str, Any], finish_reason: str = "stop") -> bytes:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": None} | NOTHING_ELSE | message,
        "logprobs": None,
        "finish_reason": finish_reason,
        "stop_reason": None,
        "token_ids": None,
    }
    head = {"object": "chat.completion", "choices": [choice], "service_tier": None}
    return dumps(HEAD | head | {"usage": PLAIN_USAGE} | NO_EXTRAS)


def chunk(delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> Any:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    if finish_reason:
        choice["stop_reason"] = None
    return HEAD | {"object": "chat.completion.chunk", "choices": [choice]} | more


USAGE_CHUNK = HEAD | {"object": "chat.completion.chunk", "choices": [], "usage": USAGE}
FIRST = chunk({"role": "assistant", "content": ""})
# The last token comes with the finish reason, not before it.
TEXT_CHUNKS = [
    *(chunk({"content": piece}) for piece in PIECES[:-1]),
    chunk({"content": PIECES[-1]}, "stop"),
]
LIMA = call("Lima", call_id="chatcmpl-tool-c4n0nb5ac2c94d6b")
THINK = f"<think>\n{THOUGHTS}\n</think>\n\n"


def problem(message: str, kind: str = "BadRequestError", code: int = 400) -> Any:
    """Return an error in the form of versions before 0.10."""
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def newer_problem(message: str, kind: str = "BadRequestError", code: int = 400) -> Any:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def counting_on() -> list[Any]:
    """Return the chunks of a text, with usage in each chunk (continuous_usage_stats)."""
    chunks = []
    for count, piece in enumerate(PIECES, start=1):
        so_far = {"prompt_tokens": 31, "total_tokens": 31 + 3 * count}
        usage = so_far | {"completion_tokens": 3 * count}
        chunks.append(chunk({"content": piece}, usage=usage))
    return chunks


SHAPES = (
    Shape(
        "vllm/plain",
        DOCS,
        plain=plain({"content": TEXT}),
        stream=sse(FIRST, *TEXT_CHUNKS, USAGE_CHUNK),
        v1=Said(),
    ),
    Shape(
        "vllm/counting-on",
        "https://github.com/vllm-project/vllm/pull/45678",
        stream=sse(FIRST, *counting_on(), chunk({"content": ""}, "stop"), USAGE_CHUNK),
        v1=Said(),
    ),
    Shape(
        "vllm/reasoning",
        "https://docs.vllm.ai/en/latest/features/reasoning_outputs.html",
        plain=plain({"content": TEXT, "reasoning_content": THOUGHTS}),
        stream=sse(
            FIRST,
            *(chunk({"reasoning_content": part}) for part in (THOUGHTS[:11], THOUGHTS[11:])),
            *TEXT_CHUNKS,
            USAGE_CHUNK,
        ),
        v1=Said(reasoning={"reasoning_content": THOUGHTS}),
    ),
    # A server that was started without a reasoning parser.
    Shape(
        "vllm/think-tags",
        "https://github.com/vllm-project/vllm/issues/35705",
        plain=plain({"content": THINK + TEXT}),
        stream=sse(
            FIRST,
            *(chunk({"content": part}) for part in (THINK[:7], THINK[7:20], THINK[20:])),
            *TEXT_CHUNKS,
            USAGE_CHUNK,
        ),
        v1=Said(THINK + TEXT),
        chat=TEXT,
    ),
    Shape(
        "vllm/tools",
        "https://docs.vllm.ai/en/latest/features/tool_calling.html",
        request=TOOLS,
        plain=plain({"tool_calls": [LIMA]}, "tool_calls"),
        stream=sse(
            FIRST,
            chunk(
                {
                    "tool_calls": [
                        {"id": LIMA["id"], "type": "function", "index": 0}
                        | {"function": {"name": "weather"}}
                    ]
                }
            ),
            *(
                chunk({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
                for part in ('{"city"', ':"Lima"}')
            ),
            chunk({"content": ""}, "tool_calls"),
            USAGE_CHUNK,
        ),
        v1=Said(None, "tool_calls", tool_calls=(LIMA,)),
        chat=None,
    ),
    Shape(
        "vllm/breaks-in-mid-stream",
        "https://github.com/vllm-project/vllm/issues/24495",
        stream=sse(
            FIRST,
            chunk({"content": PIECES[0]}),
            newer_problem(
                "EngineCore encountered an issue. See stack trace (above) for the root cause.",
                "Internal Server Error",
                500,
            ),
        ),
        v1=FAILED,
        chat=CHAT_FAILED,
        fault="doubtful",
    ),
    error(
        "vllm/too-long",
        "https://github.com/vllm-project/vllm/issues/20409",
        400,
        problem(
            "This model's maximum context length is 4096 tokens. However, you requested 9000 "
            "tokens (8000 in the messages, 1000 in the completion). Please reduce the length of "
            "the messages or completion."
        ),
        v1=TOO_LONG,
        fault="nothing",
    ),
    error(
        "vllm/newer-too-long",
        DOCS,
        400,
        newer_problem(
            "This model's maximum context length is 4096 tokens. However, your request has 8000 "
            "input tokens. Please reduce the length of the input messages."
        ),
        v1=TOO_LONG,
        fault="nothing",
    ),
    error(
        "vllm/answer-too-long",
        "https://github.com/vllm-project/vllm/issues/33418",
        400,
        newer_problem(
            "'max_tokens' or 'max_completion_tokens' is too large: 8192. This model's maximum "
            "context length is 4096 tokens and your request has 60 input tokens (8192 > 4096 - 60)."
        ),
        only_if=asks_for_more_than(4036),
        otherwise="vllm/plain",
        v1=Said(),
        chat=TEXT,
        fault="nothing",
    ),
    error(
        "vllm/no-system-role",
        "https://github.com/vllm-project/vllm/pull/2964",
        400,
        problem("System role not supported"),
        only_if=has_system,
        otherwise="vllm/plain",
        v1=Said(),
        chat=TEXT,
        fault="nothing",
    ),
    error(
        "vllm/no-tool-parser",
        "https://docs.vllm.ai/en/latest/features/tool_calling.html",
        400,
        problem(
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        ),
        request=TOOLS,
        v1=Refused((400,), None, says="tool choice requires"),
        chat=None,
        fault="nothing",
    ),
    error(
        "vllm/no-model",
        DOCS,
        404,
        problem("The model `Qwen/Qwen2-7B` does not exist.", "NotFoundError", 404),
        fault="at once",
    ),
    error("vllm/wrong-key", DOCS, 401, {"error": "Unauthorized"}, fault="at once"),
    error(
        "vllm/dead-engine",
        "https://github.com/vllm-project/vllm/issues/24495",
        500,
        newer_problem(
            "EngineCore encountered an issue. See stack trace (above) for the root cause.",
            "Internal Server Error",
            500,
        ),
    ),
)
