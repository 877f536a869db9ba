"""The OpenAI chat completions protocol, as Groq, OpenRouter, vLLM, Ollama and llama.cpp speak it.

Protocol: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from channels.errors import ProviderError
from channels.providers.base import ChatMessage, Completion
from common import http

MAX_ANSWER_BYTES = 1024 * 1024
# Statuses that another try will meet again: wrong key, no access, retired model.
PERMANENT_STATUSES = frozenset({401, 403, 404})


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
        self, messages: Sequence[ChatMessage], *, max_output_tokens: int, deadline: float
    ) -> Completion:
        payload = {
            "model": self._provider_model,
            "messages": messages,
            "max_tokens": max_output_tokens,
        }
        try:
            response = http.post(
                self._url,
                headers=self._headers,
                body=orjson.dumps(payload),
                deadline=deadline,
                max_bytes=MAX_ANSWER_BYTES,
                allow_private=self._allow_private,
            )
        except http.HttpError as error:
            raise ProviderError(error.reason) from error
        if response.status != 200:
            raise ProviderError(
                f"status_{response.status}", permanent=response.status in PERMANENT_STATUSES
            )
        return parse_completion(response.body)


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
        finish_reason=_text(choice.get("finish_reason")) or "stop",
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        response_id=_text(answer.get("id")),
        response_model=_text(answer.get("model")),
    )


def parse_usage(usage: Any) -> tuple[int | None, int | None]:
    """Return (input, output) tokens; both None unless both are non-negative integers."""
    if not isinstance(usage, dict):
        return None, None
    counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not all(type(count) is int and count >= 0 for count in counts):
        return None, None
    return counts


def _text(value: Any) -> str:
    """A short text field of the provider, or nothing: none of them may break a turn."""
    return value.replace("\x00", "")[:200] if isinstance(value, str) else ""
