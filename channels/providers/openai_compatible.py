"""The OpenAI chat completions protocol, as Groq, OpenRouter, vLLM, Ollama and llama.cpp speak it.

Protocol: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import orjson

from channels.providers.base import ChatRequest, Completion, OnDelta, Patience
from channels.providers.faults import Sent, error_in, error_of, explains_silence, unanswered
from channels.providers.openai_stream import (
    StreamReader,
    clean_text,
    finish_reason_of,
    parse_tool_calls,
    parse_usage,
    short_text,
)
from common import http

MAX_ANSWER_BYTES = 1024 * 1024
MAX_STREAM_BYTES = 16 * 1024 * 1024


class OpenAiCompatibleProvider:
    """One provider's address and key, and its name for the model."""

    def __init__(
        self,
        *,
        provider_name: str,
        base_url: str,
        api_key: str,
        provider_model: str,
        allow_private: bool,
    ) -> None:
        self.provider_name = provider_name
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._provider_model = provider_model
        self._allow_private = allow_private

    def complete(self, request: ChatRequest, *, patience: Patience) -> Completion:
        sent = self._payload(request)
        try:
            response = http.post(
                self._url,
                headers=self._headers,
                body=sent.body,
                deadline=patience.first_token_by,
                max_bytes=MAX_ANSWER_BYTES,
                allow_private=self._allow_private,
            )
        except http.HttpError as error:
            raise unanswered(error) from error
        if response.status != 200:
            raise error_of(response.status, response.headers, response.body, sent)
        return parse_completion(response.body, request, sent)

    def stream(self, request: ChatRequest, *, patience: Patience, on_delta: OnDelta) -> Completion:
        sent = self._payload(request, stream=True, stream_options={"include_usage": True})
        try:
            with http.post_for_lines(
                self._url,
                headers=self._headers | {"Accept": "text/event-stream"},
                body=sent.body,
                deadline=patience.first_token_by,
                max_bytes=MAX_STREAM_BYTES,
                allow_private=self._allow_private,
            ) as answer:
                if answer.status != 200:
                    raise error_of(answer.status, answer.headers, answer.read(), sent)
                return read_stream(answer, request, sent, patience, on_delta)
        except http.HttpError as error:
            raise unanswered(error) from error

    def _payload(self, request: ChatRequest, **options: Any) -> Sent:
        payload = orjson.dumps(
            {
                "model": self._provider_model,
                "messages": request.messages,
                request.limit_name: request.max_output_tokens,
                **request.options,
                **options,
            }
        )
        # orjson's bytes keep the buffer they were written in, ten times as large; this is held for
        # as long as the provider takes.
        return Sent(bytes(memoryview(payload)), self._provider_model, request.options.keys())


def read_stream(
    answer: http.LineStream,
    request: ChatRequest,
    sent: Sent,
    patience: Patience,
    on_delta: OnDelta,
) -> Completion:
    """Read an answer as it arrives. Raises ProviderError, also where it breaks off."""
    if "text/event-stream" not in answer.headers.get("content-type", "").lower():
        # A provider that does not stream: its one answer is the one piece.
        completion = parse_completion(answer.read(), request, sent)
        if completion.text:
            on_delta(completion.text)
        if completion.refusal:
            on_delta({"refusal": completion.refusal})
        if completion.tool_calls:
            calls = [{"index": n} | call for n, call in enumerate(completion.tool_calls)]
            on_delta({"tool_calls": calls})
        return completion
    reader = StreamReader(on_delta, sent, takes_tool_calls=request.takes_tool_calls)

    def next_deadline() -> float:
        if not reader.has_begun:
            return patience.first_token_by
        return min(patience.stream_by, time.monotonic() + patience.silence_seconds)

    lines = answer.lines(next_deadline)
    for line in lines:
        if reader.read_line(line):
            break
    _read_rest(answer)
    return reader.completion()


def _read_rest(answer: http.LineStream) -> None:
    """Read what a moment brings after the end, so that the connection can be used again."""
    soon = time.monotonic() + 0.02
    with suppress(http.HttpError):
        for _ in answer.lines(lambda: soon):
            pass


def parse_completion(body: bytes, request: ChatRequest, sent: Sent) -> Completion:
    """Return the answer in a response body. Raises ProviderError where there is none."""
    answer: Any = None
    try:
        answer = orjson.loads(body)
        choice = answer["choices"][0]
        may_be_empty = explains_silence(short_text(choice.get("finish_reason")))
        # Filtered, an answer may lack its message, or that its content.
        message = (choice.get("message") or {}) if may_be_empty else choice["message"]
        calls = parse_tool_calls(message.get("tool_calls")) if request.takes_tool_calls else ()
        refusal = clean_text(message.get("refusal"))
        is_bare = may_be_empty or calls or refusal
        content = message.get("content") if is_bare else message["content"]
    except (ValueError, LookupError, TypeError, AttributeError):
        raise error_in(answer, sent, otherwise="garbage") from None
    text = clean_text(content)
    if refusal and not request.takes_tool_calls:
        text, refusal = text or refusal, ""
    is_empty = not (text.strip() or refusal or calls)
    if is_empty and not (may_be_empty and isinstance(content, str | None)):
        raise error_in(answer, sent, otherwise="no_text")
    input_tokens, output_tokens = parse_usage(answer.get("usage"))
    return Completion(
        text=text,
        finish_reason=finish_reason_of(choice.get("finish_reason"), calls),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        response_model=short_text(answer.get("model")),
        tool_calls=calls,
        refusal=refusal,
    )
