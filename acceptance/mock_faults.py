"""Everything a provider can do wrong, as raw bytes on a socket.

Each fault is a function of the call that it spoils. It returns whether the call ended as a
completion that a caller can use, so that completions can be compared with charges.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.shapes import DONE, EVENTS, JSON, LAST_CHUNK, chunked, chunked_head, event, response

STREAM_PIECES = 20
DRIP_SECONDS = 0.8
HUGE_BYTES = 50 * 1024 * 1024
BOMB_BYTES = 64 * 1024 * 1024
# A call that is never answered ends after this long if its caller does not leave.
SILENCE_SECONDS = 120.0


@dataclass(slots=True)
class Call:
    """One request for a completion, and its connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    message: str
    reply: str
    prompt_lengths: list[int]
    prompt_tokens: int
    completion_tokens: int
    is_stream: bool
    with_usage: bool
    asked: dict[str, Any]  # the body as received
    gap_seconds: float

    @property
    def is_abandoned(self) -> bool:
        return self.reader.at_eof() or self.writer.is_closing()

    async def send(self, data: bytes) -> bool:
        """Write. Returns False if the caller has left."""
        if self.is_abandoned:
            return False
        self.writer.write(data)
        await self.writer.drain()
        return not self.is_abandoned

    async def silence(self, seconds: float = SILENCE_SECONDS) -> None:
        """Wait, but no longer than the caller does."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not self.is_abandoned and (left := until - loop.time()) > 0:
            await asyncio.sleep(min(0.1, left))

    def hang_up(self) -> None:
        self.writer.close()


Fault = Callable[[Call], Awaitable[bool]]


# --- Bytes --------------------------------------------------------------------------------------


def encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def usage_of(call: Call) -> dict[str, int]:
    return {
        "prompt_tokens": call.prompt_tokens,
        "completion_tokens": call.completion_tokens,
        "total_tokens": call.prompt_tokens + call.completion_tokens,
    }


def completion(call: Call, **changed: Any) -> dict[str, Any]:
    """Return a plain completion with some members replaced. None leaves a member out."""
    message = {"role": "assistant", "content": call.reply}
    whole = {
        "id": f"chatcmpl-{call.number}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "mock-model",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage_of(call),
    }
    return {name: value for name, value in (whole | changed).items() if value is not None}


def error_body(status: int) -> bytes:
    text = f"mock error {status}"
    return encode({"error": {"message": text, "type": "mock_error", "code": status}})


def delta(call: Call, members: dict[str, Any], finish: str | None = None) -> bytes:
    """Return one server-sent event of a streamed completion, as an HTTP chunk."""
    body = completion(call, object="chat.completion.chunk", usage=None)
    body["choices"] = [{"index": 0, "delta": members, "finish_reason": finish}]
    return chunked(event(encode(body)))


def stream_head(content_type: str = EVENTS) -> bytes:
    return chunked_head(content_type=content_type, headers="Cache-Control: no-cache\r\n")


def pieces(call: Call) -> list[bytes]:
    """Return the text of a streamed reply, cut into events."""
    size = max(1, -(-len(call.reply) // STREAM_PIECES))
    texts = [call.reply[at : at + size] for at in range(0, len(call.reply), size)]
    return [delta(call, {"role": "assistant", "content": ""})] + [
        delta(call, {"content": text}) for text in texts
    ]


def stream_end(call: Call, usage: dict[str, int] | None) -> bytes:
    end = delta(call, {}, "stop")
    if usage is not None:
        last = completion(call, object="chat.completion.chunk", usage=usage, choices=[])
        end += chunked(event(encode(last)))
    return end + chunked(DONE) + LAST_CHUNK


# --- Answers ------------------------------------------------------------------------------------


async def answer(
    call: Call, usage: dict[str, int] | None = None, *, drop_usage: bool = False
) -> bool:
    """Send a good completion, plain or streamed, with the given usage or the true one."""
    told = None if drop_usage else usage or usage_of(call)
    if not call.is_stream:
        return await call.send(response(encode(completion(call, usage=told))))
    async for part in streamed(call):
        if not await call.send(part):
            return False
    return await call.send(stream_end(call, told if call.with_usage else None))


async def streamed(call: Call) -> AsyncIterator[bytes]:
    """Yield the head and each piece of a stream when it is due."""
    yield stream_head()
    for piece in pieces(call):
        yield piece
        if call.gap_seconds:
            await call.silence(call.gap_seconds)


def fixed(make: Callable[[Call], bytes], *, then_close: bool = False) -> Fault:
    """Return a fault that sends fixed bytes."""

    async def send(call: Call) -> bool:
        await call.send(make(call))
        if then_close:
            call.hang_up()
        return False

    return send


def status(code: int, words: str, headers: str = "") -> Fault:
    line = f"{code} {words}"
    return fixed(lambda call: response(error_body(code), status=line, headers=headers))


def choices(*values: Any) -> Fault:
    """Return a fault with valid JSON and these choices, plain even if a stream was requested."""
    return fixed(lambda call: response(encode(completion(call, choices=list(values)))))


def said(content: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    return {"index": 0, "message": message, "finish_reason": "stop"}


def usage(**tokens: int) -> Fault:
    async def send(call: Call) -> bool:
        return await answer(call, tokens)

    return send


async def no_usage(call: Call) -> bool:
    return await answer(call, drop_usage=True)


async def timeout(call: Call) -> bool:
    await call.silence()
    call.hang_up()
    return False


async def close(call: Call) -> bool:
    call.hang_up()
    return False


async def truncate(call: Call) -> bool:
    whole = response(encode(completion(call)))
    await call.send(whole[: len(whole) - len(call.reply) // 2 - 40])
    call.hang_up()
    return False


async def midstream(call: Call) -> bool:
    """Send half of a chunked answer, then drop the connection."""
    parts = pieces(call) if call.is_stream else [chunked(encode(completion(call))[:60])]
    await call.send(stream_head(EVENTS if call.is_stream else JSON))
    for part in parts[: max(1, len(parts) // 2)]:
        await call.send(part)
    call.hang_up()
    return False


async def stall(call: Call) -> bool:
    """Send half of the answer, then stay silent on an open connection."""
    parts = pieces(call) if call.is_stream else [chunked(encode(completion(call))[:60])]
    await call.send(stream_head(EVENTS if call.is_stream else JSON))
    for part in parts[: max(1, len(parts) // 2)]:
        await call.send(part)
    return await timeout(call)


async def no_done(call: Call) -> bool:
    """End a stream cleanly, but without a finish reason and without [DONE]."""
    await call.send(stream_head(EVENTS if call.is_stream else JSON))
    parts = pieces(call) if call.is_stream else [chunked(encode(completion(call))[:60])]
    for part in parts[: max(1, len(parts) // 2)]:
        await call.send(part)
    await call.send(LAST_CHUNK)
    return False


async def drip(call: Call) -> bool:
    """Send a good answer one byte at a time: each read succeeds, the whole never ends."""
    if call.is_stream:
        await call.send(stream_head())
        return await trickle(call, b"".join(pieces(call)))
    head, _, body = response(encode(completion(call))).partition(b"\r\n\r\n")
    await call.send(head + b"\r\n\r\n")
    return await trickle(call, body)


async def trickle_headers(call: Call) -> bool:
    return await trickle(call, response(encode(completion(call))))


async def trickle(call: Call, data: bytes) -> bool:
    for at in range(len(data)):
        if not await call.send(data[at : at + 1]):
            return False
        await call.silence(DRIP_SECONDS)
    return True


async def huge_body(call: Call) -> bool:
    """Send a huge answer with its length, for as long as the caller reads."""
    call.reply = ""
    begin = encode(completion(call)).partition(b'"content"')[0] + b'"content": "'
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {JSON}\r\nContent-Length: {HUGE_BYTES}\r\n\r\n"
    await call.send(head.encode() + begin)
    part = b"x" * 64 * 1024
    for _ in range(HUGE_BYTES // len(part)):
        if not await call.send(part):
            break
    call.hang_up()
    return False


async def endless(call: Call) -> bool:
    """Send a chunked body without end, as fast as the caller reads."""
    await call.send(stream_head(EVENTS if call.is_stream else JSON))
    part = chunked(b"x" * 64 * 1024)
    for _ in range(HUGE_BYTES // len(part)):
        if not await call.send(part):
            break
    call.hang_up()
    return False


_bomb = b""


async def gzip_bomb(call: Call) -> bool:
    """Send a small compressed body that expands to a huge one."""
    global _bomb
    _bomb = _bomb or gzip.compress(b'{"x":"' + b"x" * BOMB_BYTES + b'"}', 6)
    await call.send(response(_bomb, headers="Content-Encoding: gzip\r\n"))
    return False


def redirect(call: Call) -> bytes:
    host, port = call.writer.get_extra_info("sockname")[:2]
    target = f"Location: http://{host}:{port}/elsewhere/chat/completions\r\n"
    return response(b"", status="307 Temporary Redirect", headers=target)


def html(code: str) -> Fault:
    page = b"<html><body>This is no completion.</body></html>"
    return fixed(lambda call: response(page, status=code, content_type="text/html"))


# --- What only concerns a request ---------------------------------------------------------------


def empty(finish: str) -> Fault:
    """Return an answer without text that says why, plain or streamed."""

    async def send(call: Call) -> bool:
        message = {"role": "assistant", "content": ""}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        if not call.is_stream:
            await call.send(response(encode(completion(call, choices=[choice]))))
        else:
            await call.send(stream_head() + delta(call, message) + delta(call, {}, finish))
            await call.send(chunked(DONE) + LAST_CHUNK)
        return False

    return send


async def refusal(call: Call) -> bool:
    """Let the model refuse, in the `refusal` member."""
    message = {"role": "assistant", "content": None, "refusal": call.reply}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    if not call.is_stream:
        return await call.send(response(encode(completion(call, choices=[choice]))))
    await call.send(stream_head() + delta(call, message))
    return await call.send(stream_end(call, usage_of(call)))


def says(http_status: int, message: str, **members: Any) -> Fault:
    """Return an error in OpenAI's shape."""
    error = {"message": message, "type": "invalid_request_error", "param": None} | members
    body = encode({"error": error})
    return fixed(lambda call: response(body, status=f"{http_status} Error"))


# As real providers say it. Every second one has a status that usually blames the key or the model.
OWN_FAULTS: dict[str, Fault] = {
    "stopwords": empty("stop"),
    "filtered": empty("content_filter"),
    "tinylimit": empty("length"),
    "refusal": refusal,
    "flagged": says(
        403, "Your chosen model requires moderation and your input was flagged.", code=403
    ),
    "contentpolicy": says(400, "Rejected by our safety system.", code="content_policy_violation"),
    "toolong": says(400, "This model's maximum context length is 8192 tokens."),
    "toolarge": says(429, "Request too large on tokens per min (TPM): Limit 6000, Requested 7000."),
    "fewertokens": says(402, "This request requires more credits, or fewer max_tokens.", code=402),
    "notools": says(404, "No endpoints found that support tool use.", code=404),
    "badtools": says(500, "tools param requires --jinja flag", type="server_error"),
    "badschema": says(
        400, "Invalid schema for function 'f'.", param="tools[0].function.parameters"
    ),
    "noimages": says(404, "No endpoints found that support image input", code=404),
    "badparameter": says(400, "'temperature' is above the maximum.", param="temperature"),
    "badmessage": says(422, "Conversation roles must alternate user/assistant"),
}
# A provider that is down, in shapes that no table names.
STRANGE_FAULTS: dict[str, Fault] = {
    "strange400": says(400, "Something is wrong.", type="strange", code="strange"),
    "strange418": fixed(lambda call: response(b"I am a teapot.", status="418 Teapot")),
    "strange404": html("404 Not Found"),
    "strange200": fixed(lambda call: response(encode({"ok": False}))),
    "strangefinish": empty("strange"),
}

FAULTS: dict[str, Fault] = {
    "400": status(400, "Bad Request"),
    "401": status(401, "Unauthorized"),
    "429": status(429, "Too Many Requests", "Retry-After: 1\r\n"),
    "500": status(500, "Internal Server Error"),
    "502": status(502, "Bad Gateway"),
    "503": status(503, "Service Unavailable", "Retry-After: 1\r\n"),
    "timeout": timeout,
    "garbage": fixed(lambda call: response(b"<<<no json \xff\xfe{{{")),
    "html": html("502 Bad Gateway"),
    "empty": fixed(lambda call: response(b"")),
    "close": close,
    "truncate": truncate,
    "nochoices": choices(),
    "nousage": no_usage,
    "nullcontent": choices(said(None)),
    "emptycontent": choices(said("")),
    "midstream": midstream,
    "stall": stall,
    "nodone": no_done,
    "hugebody": huge_body,
    "endless": endless,
    "error200": fixed(lambda call: response(error_body(529))),
    "negusage": usage(prompt_tokens=-5, completion_tokens=-(10**9), total_tokens=-7),
    "hugeusage": usage(prompt_tokens=10**15, completion_tokens=10**18, total_tokens=1),
    "drip": drip,
    "trickle_headers": trickle_headers,
    "gzipbomb": gzip_bomb,
    "redirect": fixed(redirect),
    "wrongtype": html("200 OK"),
}
FAULTS |= STRANGE_FAULTS
# With these an answer has no text. Under /v1 it still counts as an answer, and costs as much.
EMPTY = frozenset({"nullcontent", "emptycontent"})
# With these a caller still gets its answer. Only its figures are unusable.
ANSWERED = frozenset({"nousage", "negusage", "hugeusage"})
# With these the provider says when to retry.
RETRY_AFTER = frozenset({"429", "503"})
# These last until the caller's own deadline.
SLOW = frozenset({"timeout", "stall", "drip", "trickle_headers"})
