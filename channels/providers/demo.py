"""The built-in provider: deterministic, instant, free, and clearly a demo."""

from __future__ import annotations

import re

from channels.providers.base import (
    ChatRequest,
    Completion,
    OnDelta,
    Patience,
    Usage,
    text_of_content,
)
from channels.providers.tokens import CHARACTERS_PER_TOKEN, estimate_tokens

# Visitors and owners read this. The staff pages explain how to connect a provider.
REPLY = (
    "This is a demo reply, free of charge: the gateway works, but no AI provider is connected "
    "yet.\n\n"
    "You said: “{message}” (message {turn} of this conversation)."
)
TEST_REPLY = (
    "This is a demo reply to a test key: free, deterministic and offline.\n\n"
    "You said: “{message}” (message {turn} of this conversation).\n\n"
    "Use the channel's live key to get answers from its AI model."
)
_QUOTED_CHARACTERS = 200


class DemoProvider:
    """Repeats the user's message, with usage estimated at four characters per token."""

    provider_name = "demo"
    is_free = True

    def __init__(self, *, is_test: bool) -> None:
        self._template = TEST_REPLY if is_test else REPLY

    def complete(self, request: ChatRequest, *, patience: Patience) -> Completion:
        said = text_of_content(request.messages[-1].get("content"))
        quoted = said if len(said) <= _QUOTED_CHARACTERS else said[:_QUOTED_CHARACTERS] + "…"
        turn = sum(message["role"] == "user" for message in request.messages)
        whole = self._template.format(message=quoted, turn=turn)
        text = whole[: request.max_output_tokens * CHARACTERS_PER_TOKEN].rstrip()
        texts = [text_of_content(message.get("content")) for message in request.messages]
        return Completion(
            text=text,
            finish_reason="stop" if text == whole else "length",
            usage=Usage(sum(map(estimate_tokens, texts)), estimate_tokens(text)),
            response_model="demo",
        )

    def stream(self, request: ChatRequest, *, patience: Patience, on_delta: OnDelta) -> Completion:
        completion = self.complete(request, patience=patience)
        for word in re.findall(r"\s*\S+", completion.text):
            on_delta(word)
        return completion
