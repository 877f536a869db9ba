"""The built-in provider: deterministic, instant, free, and plain about being a demo."""

from __future__ import annotations

import re
from collections.abc import Sequence

from channels.providers.base import ChatMessage, Completion, OnDelta, Patience
from common.tokens import estimate_tokens

REPLY = (
    "This is a demo reply: the gateway works, but no AI provider is connected yet.\n\n"
    "You said: “{message}” (message {turn} of this conversation).\n\n"
    "To get real answers, set `PROVIDER_BASE_URL` and `PROVIDER_API_KEY` (any OpenAI-compatible "
    "provider, also Ollama or vLLM on your own machine), or `GROQ_API_KEY` or "
    "`OPENROUTER_API_KEY`, and start the gateway again."
)
TEST_REPLY = (
    "This is a demo reply to a test key: free, deterministic and offline.\n\n"
    "You said: “{message}” (message {turn} of this conversation).\n\n"
    "Use the channel's live key to get answers from its AI model."
)
_QUOTED_CHARACTERS = 200


class DemoProvider:
    """Repeats what was said, with usage counted at four characters a token."""

    provider_name = "demo"

    def __init__(self, *, is_test: bool) -> None:
        self._template = TEST_REPLY if is_test else REPLY

    def complete(
        self, messages: Sequence[ChatMessage], *, max_output_tokens: int, patience: Patience
    ) -> Completion:
        said = messages[-1]["content"]
        quoted = said if len(said) <= _QUOTED_CHARACTERS else said[:_QUOTED_CHARACTERS] + "…"
        turn = sum(message["role"] == "user" for message in messages)
        text = self._template.format(message=quoted, turn=turn)
        return Completion(
            text=text,
            finish_reason="stop",
            input_tokens=sum(estimate_tokens(message["content"]) for message in messages),
            output_tokens=estimate_tokens(text),
            response_model="demo",
        )

    def stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        max_output_tokens: int,
        patience: Patience,
        on_delta: OnDelta,
    ) -> Completion:
        completion = self.complete(messages, max_output_tokens=max_output_tokens, patience=patience)
        for word in re.findall(r"\s*\S+", completion.text):
            on_delta(word)
        return completion
