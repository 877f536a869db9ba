"""The OpenAI chat completions protocol, as Groq, OpenRouter, vLLM, Ollama and llama.cpp speak it.

Protocol: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import orjson
from urllib3.exceptions import HTTPError

from channels.errors import ProviderError
from channels.providers.base import ChatMessage, Completion, OnDelta, Patience
from channels.providers.openai_errors import error_of
from channels.providers.openai_stream import StreamReader, parse_usage, short_text
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

    def complete(
        self, messages: Sequence[ChatMessage], *, max_output_tokens: int, patience: Patience
    ) -> Completion:
        try:
            response = http.post(
                self._url,
                headers=self._headers,
                body=self._payload(messages, max_output_tokens),
                deadline=patience.first_token_by,
                max_bytes=MAX_ANSWER_BYTES,
                allow_private=self._allow_private,
            )
        except http.HttpError as error:
            raise ProviderError(error.reason) from error
        if response.status != 200:
            raise error_of(response.status, response.headers, response.body)
        return parse_completion(response.body)

    def stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        max_output_tokens: int,
        patience: Patience,
        on_delta: OnDelta,
    ) -> Completion:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        try:
            with http.post_for_lines(
                self._url,
                headers=self._headers | {"Accept": "text/event-stream"},
                body=self._payload(messages, max_output_tokens, **options),
                deadline=patience.first_token_by,
                max_bytes=MAX_STREAM_BYTES,
                allow_private=self._allow_private,
            ) as answer:
                if answer.status != 200:
                    raise error_of(answer.status, answer.headers, answer.read())
                return read_stream(answer, patience, on_delta)
        except http.HttpError as error:
            raise ProviderError(error.reason) from error

    def _payload(
        self, messages: Sequence[ChatMessage], max_output_tokens: int, **options: Any
    ) -> bytes:
        return orjson.dumps(
            {
                "model": self._provider_model,
                "messages": messages,
                "max_tokens": max_output_tokens,
                **options,
            }
        )


def read_stream(answer: http.LineStream, patience: Patience, on_delta: OnDelta) -> Completion:
    """Read an answer as it arrives. Raises ProviderError, also where it breaks off."""
    if "text/event-stream" not in answer.headers.get("content-type", "").lower():
        # A provider that does not stream: its one answer is the one piece.
        completion = parse_completion(answer.read())
        on_delta(completion.text)
        return completion
    reader = StreamReader(on_delta)

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
    with suppress(http.HttpError, HTTPError, OSError, ValueError):
        for _ in answer.lines(lambda: soon):
            pass


def parse_completion(body: bytes) -> Completion:
    """Return the answer in a response body. Raises ProviderError for anything but text."""
    try:
        answer = orjson.loads(body)
        choice = answer["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, LookupError, TypeError):
        raise ProviderError("garbage") from None
    # NUL cannot be stored by PostgreSQL and means nothing to a reader.
    text = text.replace("\x00", "") if isinstance(text, str) else ""
    if not text.strip():
        raise ProviderError("no_text")
    input_tokens, output_tokens = parse_usage(answer.get("usage"))
    return Completion(
        text=text,
        finish_reason=short_text(choice.get("finish_reason")) or "stop",
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        response_id=short_text(answer.get("id")),
        response_model=short_text(answer.get("model")),
    )
