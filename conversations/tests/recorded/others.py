"""Shapes that several smaller providers share, and their words for errors."""

from __future__ import annotations

from typing import Any

from conversations.tests.recorded.odd import HEAD, TEXT_CHUNKS, USAGE, USAGE_CHUNK, chunk, plain
from conversations.tests.recorded.shapes import (
    CALLERS_ERROR,
    CHAT_FAILED,
    FAILED,
    FILTERED,
    PIECES,
    REFUSAL,
    TEXT,
    THOUGHTS,
    TOO_LONG,
    TOOLS,
    Said,
    Shape,
    call,
    dumps,
    error,
    sse,
)

PROTOCOL = "https://platform.openai.com/docs/api-reference/chat/object"
ZHIPU = "https://docs.bigmodel.cn/cn/api/api-code"
LIMA, OSLO = call("Lima", call_id="call_lima"), call("Oslo", call_id="call_oslo")
STOPPED = chunk(None, "stop")


def with_message(message: dict[str, Any], finish_reason: str | None = "stop", **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant"} | message} | more
    return dumps(HEAD | {"choices": [choice | {"finish_reason": finish_reason}], "usage": USAGE})


def with_delta(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return HEAD | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def parts(name: str, *content: Any, **said: Any) -> Shape:
    """Return an answer whose content is not written as a string."""
    value = content[0] if len(content) == 1 else list(content)
    return Shape(
        name,
        "https://docs.mistral.ai/capabilities/reasoning/",
        plain=with_message({"content": value}),
        stream=sse(with_delta({"content": value}), STOPPED, USAGE_CHUNK),
        v1=Said(**said),
    )


def finished(name: str, source: str, reason: str, **more: Any) -> Shape:
    """Return an answer without text that ends with this finish reason."""
    return Shape(
        name,
        source,
        plain=with_message({"content": ""}, reason),
        stream=sse(with_delta({"content": ""}), with_delta({}, reason), USAGE_CHUNK),
        v1=Said(None if "text" in more else "", reason),
        **{"chat": CHAT_FAILED} | more,
    )


def given_up(name: str, source: str, reason: str, **more: Any) -> Shape:
    """Return half an answer that ends with this finish reason."""
    return Shape(
        name,
        source,
        plain=with_message({"content": PIECES[0]}, reason, **more),
        stream=sse(TEXT_CHUNKS[0], with_delta({}, reason), USAGE_CHUNK) if not more else None,
        v1=FAILED,
        chat=CHAT_FAILED,
        fault="doubtful",
    )


def broken_by(name: str, source: str, event: Any) -> Shape:
    """Return a stream broken off by an error without an `error` member. It then ends as usual."""
    return Shape(
        name,
        source,
        stream=sse(*TEXT_CHUNKS[:2], event),
        v1=FAILED,
        chat=CHAT_FAILED,
        fault="doubtful",
    )


def too_long(name: str, source: str, status: int, said: Any) -> Shape:
    return error(name, source, status, said, v1=TOO_LONG, fault="nothing")


def problem(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message} | more}


def deltas(*pieces: dict[str, Any]) -> bytes:
    return sse(
        *(with_delta({"tool_calls": [piece]}) for piece in pieces),
        with_delta({}, "tool_calls"),
        USAGE_CHUNK,
    )


def piece(index: Any, call_id: str | None, name: str | None, arguments: Any) -> dict[str, Any]:
    members = {"index": index, "id": call_id} if index is not None else {"id": call_id}
    return members | {"function": {"name": name, "arguments": arguments}}


def calls(
    name: str, source: str, stream: bytes | None, plain: bytes | None = None, **more: Any
) -> Shape:
    said = more.pop("said", (LIMA, OSLO))
    return Shape(
        name,
        source,
        request=TOOLS,
        plain=plain,
        stream=stream,
        v1=Said(None, "tool_calls", tool_calls=said),
        chat=None,
        **more,
    )


LIMA_TEXT, OSLO_TEXT = LIMA["function"]["arguments"], OSLO["function"]["arguments"]
NEW_OSLO = OSLO | {"id": None}

ANSWERS = (
    parts("others/content-as-an-object", {"type": "text", "text": TEXT}),
    parts("others/output-text", {"type": "output_text", "text": TEXT, "annotations": []}),
    parts("others/nested-text", {"type": "text", "text": {"value": TEXT, "annotations": []}}),
    parts(
        "others/a-part-without-text", {"type": "text", "text": None}, {"type": "text", "text": TEXT}
    ),
    parts(
        "others/a-thought-among-texts",
        {"type": "text", "text": THOUGHTS, "thought": True},
        {"type": "text", "text": TEXT},
        reasoning={"reasoning_content": THOUGHTS},
    ),
    Shape(
        "others/refusal-part",
        "https://platform.openai.com/docs/api-reference/chat/create",
        plain=with_message({"content": [{"type": "refusal", "refusal": REFUSAL}]}),
        stream=sse(
            with_delta({"content": [{"type": "refusal", "refusal": REFUSAL}]}), STOPPED, USAGE_CHUNK
        ),
        v1=Said(None, refusal=REFUSAL),
        chat=REFUSAL,
    ),
    Shape(
        "others/parts-of-no-kind",
        PROTOCOL,
        plain=with_message({"content": [{"type": ["text"], "text": TEXT}]}),
        v1=FAILED,
        chat=CHAT_FAILED,
        fault="doubtful",
    ),
    Shape(
        "others/nested-beyond-reading",
        PROTOCOL,
        plain=plain().replace(b'"role"', b'"annotations":' + b"[" * 400 + b"]" * 400 + b',"role"'),
        v1=Said(),
    ),
    Shape(
        "others/text-in-the-choice",
        "https://platform.openai.com/docs/api-reference/completions/object",
        plain=dumps(HEAD | {"choices": [{"text": TEXT, "finish_reason": "stop"}], "usage": USAGE}),
        stream=sse(
            *(HEAD | {"choices": [{"text": text, "finish_reason": None}]} for text in PIECES),
            HEAD | {"choices": [{"text": "", "finish_reason": "stop"}]},
            USAGE_CHUNK,
        ),
        v1=Said(),
    ),
    # This comes with every chunk, so it is no reason to stop reading.
    Shape(
        "others/finish-reason-null-in-words",
        "https://help.aliyun.com/zh/model-studio/qwen-api-reference",
        stream=sse(*(chunk(text, "null") for text in PIECES), STOPPED, USAGE_CHUNK),
        v1=Said(),
    ),
)

FINISHES = (
    finished("others/sensitive", ZHIPU, "sensitive", chat=FILTERED),
    finished("others/image-safety", PROTOCOL, "IMAGE_SAFETY", chat=FILTERED),
    finished("others/max-output-tokens", PROTOCOL, "max_output_tokens"),
    finished("others/model-context-window-exceeded", ZHIPU, "model_context_window_exceeded"),
    finished(
        "others/malformed-call",
        PROTOCOL,
        "function_call_filter: MALFORMED_FUNCTION_CALL",
    ),
    given_up("others/network-error", ZHIPU, "network_error"),
    given_up("others/cancelled", "https://docs.cohere.com/reference/chat", "USER_CANCEL"),
    given_up("others/timeout", "https://docs.cohere.com/reference/chat", "TIMEOUT"),
    given_up(
        "others/network-error-behind-the-stop",
        "https://openrouter.ai/docs/api-reference/overview",
        "stop",
        native_finish_reason="network_error",
    ),
    broken_by(
        "others/fault-in-mid-stream",
        "https://cloud.google.com/apigee/docs/api-platform/fundamentals/fault-handling",
        {"fault": {"faultstring": "Rate limit quota violation"}},
    ),
    broken_by(
        "others/base-resp-in-mid-stream",
        "https://platform.minimax.io/docs/api-reference/errorcode",
        {"choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}},
    ),
    broken_by("others/message-in-mid-stream", PROTOCOL, {"choices": [], "message": "overloaded"}),
    broken_by("others/no-success-in-mid-stream", PROTOCOL, {"success": False, "code": 50505}),
    broken_by("others/error-in-plain-words", PROTOCOL, b"event: error\ndata: Internal error\n\n"),
    error("others/detail-under-200", "https://fastapi.tiangolo.com", 200, {"detail": "Not now"}),
    error("others/a-page-under-200", PROTOCOL, 200, b"<html>maintenance</html>"),
)

USAGES = (
    Shape(
        "others/usage-as-digits",
        PROTOCOL,
        plain=plain(usage={"prompt_tokens": "31", "completion_tokens": "12", "total_tokens": "43"}),
        v1=Said(),
    ),
    Shape(
        "others/usage-first",
        PROTOCOL,
        stream=sse(chunk("", usage=USAGE), *TEXT_CHUNKS, STOPPED),
        v1=Said(),
    ),
    Shape(
        "others/usage-taken-back",
        PROTOCOL,
        stream=sse(
            *TEXT_CHUNKS,
            chunk(None, "stop", usage=USAGE),
            USAGE_CHUNK | {"usage": {"prompt_tokens": 0, "completion_tokens": 0}},
            USAGE_CHUNK | {"usage": {"prompt_tokens": None}},
            USAGE_CHUNK | {"usage": None},
        ),
        v1=Said(),
    ),
    Shape(
        "others/usage-beyond-belief",
        PROTOCOL,
        plain=plain(usage=USAGE | {"total_tokens": 10**9}),
        v1=Said(tokens=None),
    ),
    Shape(
        "others/usage-of-nothing",
        PROTOCOL,
        plain=plain(usage={"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}),
        v1=Said(tokens=None),
    ),
)

CALLS = (
    calls(
        "others/function-call",
        "https://platform.openai.com/docs/api-reference/chat/create#chat-create-function_call",
        sse(
            with_delta({"function_call": {"name": "weather", "arguments": ""}}),
            with_delta({"function_call": {"arguments": LIMA_TEXT}}),
            with_delta({}, "function_call"),
            USAGE_CHUNK,
        ),
        with_message({"content": None, "function_call": LIMA["function"]}, "function_call"),
        said=(LIMA | {"id": None},),
    ),
    calls(
        "others/index-as-a-string",
        PROTOCOL,
        deltas(
            piece("0", "call_lima", "weather", ""),
            piece("1", "call_oslo", "weather", ""),
            piece("0", None, None, LIMA_TEXT),
            piece("1", None, None, OSLO_TEXT),
        ),
    ),
    calls(
        "others/calls-taking-turns",
        PROTOCOL,
        deltas(
            piece(None, "call_lima", "weather", LIMA_TEXT[:5]),
            piece(None, "call_oslo", "weather", OSLO_TEXT[:5]),
            piece(None, "call_lima", None, LIMA_TEXT[5:]),
            piece(None, "call_oslo", None, OSLO_TEXT[5:]),
        ),
    ),
    calls(
        "others/ids-that-repeat",
        PROTOCOL,
        deltas(
            piece(0, "call_lima", "weather", LIMA_TEXT), piece(1, "call_lima", "weather", OSLO_TEXT)
        ),
        with_message(
            {"content": None, "tool_calls": [LIMA, OSLO | {"id": "call_lima"}]}, "tool_calls"
        ),
        said=(LIMA, NEW_OSLO),
    ),
    calls(
        "others/a-new-id-with-every-piece",
        PROTOCOL,
        deltas(
            piece(0, "call_lima", "weather", ""),
            piece(0, "call_x", None, LIMA_TEXT[:5]),
            piece(0, "call_y", None, LIMA_TEXT[5:]),
        ),
        said=(LIMA,),
    ),
    calls(
        "others/name-after-the-id",
        PROTOCOL,
        deltas(piece(0, "call_lima", "", ""), piece(0, None, "weather", LIMA_TEXT)),
        said=(LIMA,),
    ),
    calls(
        "others/arguments-as-a-list",
        PROTOCOL,
        None,
        with_message(
            {"content": None, "tool_calls": [piece(0, "c", "weather", ["Lima"])]}, "tool_calls"
        ),
        said=(
            {
                "id": "c",
                "type": "function",
                "function": {"name": "weather", "arguments": '["Lima"]'},
            },
        ),
    ),
)


def lines_of(*events: Any) -> bytes:
    return b"".join(dumps(event) + b"\n" for event in events)


EVENTS = (*TEXT_CHUNKS, STOPPED, USAGE_CHUNK)
STREAMS = (
    Shape(
        "others/ndjson",
        PROTOCOL,
        stream=lines_of(*EVENTS),
        stream_type="application/x-ndjson",
        v1=Said(),
    ),
    Shape("others/ndjson-done", PROTOCOL, stream=lines_of(*EVENTS) + b"[DONE]\n", v1=Said()),
    Shape(
        "others/several-in-one-event",
        PROTOCOL,
        stream=b"data: " + b"".join(map(dumps, EVENTS)) + b"\n\ndata: [DONE]\n\n",
        v1=Said(),
    ),
    Shape(
        "others/done-in-lower-case", PROTOCOL, stream=sse(*EVENTS, b"data:  [done] \n\n"), v1=Said()
    ),
    Shape(
        "others/pings",
        "https://docs.anthropic.com/en/docs/build-with-claude/streaming",
        stream=sse(
            b"event: ping\ndata: ping\n\n",
            b'event: ping\ndata: {"type": "ping"}\n\n',
            b": comment\n\nretry: 3000\n\ndata: null\n\ndata: keep-alive\n\n",
            *EVENTS,
        ),
        v1=Said(),
    ),
    Shape(
        "others/no-last-blank-line",
        PROTOCOL,
        stream=sse(*EVENTS, done=False).removesuffix(b"\n\n").replace(b"data: ", b"data:"),
        v1=Said(),
    ),
    Shape(
        "others/json-on-a-hundred-lines",
        PROTOCOL,
        stream=sse(
            b'data: {"x": [\n'
            + b"data: 1,\n" * 100
            + b"data: 1],\ndata: "
            + dumps(chunk(TEXT))[1:]
            + b"\n\n",
            STOPPED,
            USAGE_CHUNK,
        ),
        v1=Said(),
    ),
    Shape(
        "others/compressed",
        PROTOCOL,
        plain=plain(),
        headers={"Content-Encoding": "gzip"},
        v1=FAILED,
        chat=CHAT_FAILED,
        fault="doubtful",
    ),
    error("others/a-redirect", PROTOCOL, 302, b""),
    Shape("others/partial", PROTOCOL, plain=plain(), stream=sse(*EVENTS), status=206, v1=Said()),
)

LENGTHS = (
    too_long(
        "others/too-long-dashscope",
        "https://github.com/QwenLM/qwen-code/issues/98",
        400,
        problem(
            "<400> InternalError.Algo.InvalidParameter: Range of input length should be "
            "[1, 204800]",
            code="invalid_parameter_error",
        ),
    ),
    too_long(
        "others/too-long-moonshot",
        "https://github.com/MoonshotAI/kimi-code/pull/207",
        400,
        problem("Invalid request: Your request exceeded model token limit: 8192 (requested: 9000)"),
    ),
    too_long(
        "others/too-long-moonshot-before",
        "https://github.com/MoonshotAI/MoonshotAI-Cookbook/issues/18",
        400,
        problem("model max length exceeded, max length:8192"),
    ),
    too_long("others/too-long-zhipu", ZHIPU, 400, problem("Prompt 超长", code="1261")),
    too_long(
        "others/too-long-volcengine",
        "https://www.volcengine.com/docs/82379/1299023",
        400,
        problem(
            "Total tokens of image and text exceed max message tokens.", code="InvalidParameter"
        ),
    ),
    too_long(
        "others/too-long-lm-studio",
        "https://github.com/dyad-sh/dyad/issues/925",
        400,
        {
            "error": "Trying to keep the first 14538 tokens when context the overflows. However, "
            "the model is loaded with context length of only 2048 tokens, which is not enough."
        },
    ),
    too_long(
        "others/too-long-cerebras",
        "https://github.com/cline/cline/issues/5140",
        400,
        {
            "message": "Please reduce the length of the messages or completion. Current length is "
            "42328 while limit is 40000",
            "type": "invalid_request_error",
        },
    ),
    too_long(
        "others/too-long-sambanova",
        "https://github.com/OpenHands/OpenHands/pull/9252",
        400,
        problem(
            "The maximum context length of DeepSeek-V3-0324 is 32768. However, answering "
            "your request will take 39732 tokens."
        ),
    ),
    too_long(
        "others/too-long-cohere",
        "https://docs.cohere.com/reference/errors",
        400,
        {"message": "too many tokens: size limit exceeded by 12014 tokens."},
    ),
    too_long(
        "others/too-long-siliconflow",
        "https://docs.siliconflow.cn/en/faqs/error-code",
        400,
        {
            "code": 20015,
            "message": "length of prompt_tokens (40000) must be less than max_seq_len (32768).",
        },
    ),
    # In a stream, the error is the first event of a 200.
    Shape(
        "others/too-long-as-an-event",
        "https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/546",
        plain=dumps({"error": "The number of tokens to keep is greater than the context length."}),
        stream=sse(
            b'event: error\ndata: {"error":{"message":"The number of tokens to keep from the '
            b'initial prompt is greater than the context length."}}\n\n'
        ),
        v1=TOO_LONG,
        chat=CHAT_FAILED,
    ),
)

FAULTS = (
    error(
        "others/flagged-zhipu",
        ZHIPU,
        400,
        problem("系统检测到输入或生成内容可能包含不安全或敏感内容", code="1301"),
        v1=FILTERED,
        fault="nothing",
    ),
    error(
        "others/flagged-volcengine",
        "https://www.volcengine.com/docs/82379/1299023",
        400,
        problem("x", code="InputTextSensitiveContentDetected"),
        v1=FILTERED,
        fault="nothing",
    ),
    error(
        "others/in-arrears-zhipu",
        ZHIPU,
        429,
        problem("余额不足或无可用资源包,请充值。", code="1113"),
        fault="at once",
    ),
    error(
        "others/not-activated",
        "https://www.volcengine.com/docs/82379/1299023",
        404,
        problem("Your account 21 has not activated the model example.", code="ModelNotOpen"),
        fault="at once",
    ),
    error(
        "others/free-tier-exhausted",
        "https://help.aliyun.com/zh/model-studio/error-code",
        403,
        problem(
            "The free tier of the model has been exhausted.", code="AllocationQuota.FreeTierOnly"
        ),
        fault="at once",
    ),
    error(
        "others/end-of-life",
        "https://docs.aws.amazon.com/bedrock/latest/userguide/model-lifecycle.html",
        404,
        {"message": "This model version has reached the end of its life."},
        fault="at once",
    ),
    error(
        "others/content-must-be-text",
        "https://console.groq.com/docs/errors",
        400,
        problem(
            "'messages.1' : for 'role:system' the following must be satisfied"
            "[('messages.1.content' : value must be a string)]"
        ),
        v1=CALLERS_ERROR,
        fault="nothing",
    ),
    *(
        error(name, source, 429, problem("Slow down"), headers=headers, fault="waits")
        for name, source, headers in (
            (
                "others/wait-until-a-date",
                "https://www.rfc-editor.org/rfc/rfc9110#field.retry-after",
                {"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"},
            ),
            (
                "others/wait-in-milliseconds",
                "https://learn.microsoft.com/en-us/azure/ai-services/openai/how-to/quota",
                {"retry-after-ms": "60000"},
            ),
            (
                "others/wait-until-a-unix-time",
                "https://openrouter.ai/docs/api-reference/limits",
                {"X-RateLimit-Reset": "4133980799000"},
            ),
        )
    ),
)

SHAPES = (*ANSWERS, *FINISHES, *USAGES, *CALLS, *STREAMS, *LENGTHS, *FAULTS)
