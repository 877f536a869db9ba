"""A provider that is an object, for tests that need no HTTP between it and the gateway."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from channels.errors import Fault, ProviderError
from channels.providers.base import ChatMessage, ChatRequest, Completion, OnDelta, Patience, Usage
from channels.providers.traits import PLAIN, Traits


class FakeProvider:
    """Answers from a script, or with “Reply n” without one. Records every prompt."""

    provider_name = "fake"
    is_free = False
    provider_model = "fake-model"
    traits: Traits = PLAIN

    def __init__(self) -> None:
        self.script: list[Completion | Exception | Callable[[], Completion]] = []
        self.requests: list[ChatRequest] = []
        self.lock = threading.Lock()

    @property
    def prompts(self) -> list[list[ChatMessage]]:
        return [list(request.messages) for request in self.requests]

    def complete(self, request: ChatRequest, *, patience: Patience) -> Completion:
        with self.lock:
            self.requests.append(request)
            step = self.script.pop(0) if self.script else reply(f"Reply {len(self.requests)}")
        if isinstance(step, Exception):
            raise step
        return step() if callable(step) else step

    def stream(self, request: ChatRequest, *, patience: Patience, on_delta: OnDelta) -> Completion:
        """Say the reply word by word; a reply that ends in “BREAK” breaks off before its end."""
        completion = self.complete(request, patience=patience)
        for name, value in completion.members.items():
            on_delta({name: value})
        for word in completion.text.split(" ") if completion.text else ():
            if word == "BREAK":
                raise ProviderError("broken")
            on_delta(word + " ")
        if completion.refusal:
            on_delta({"refusal": completion.refusal})
        for index, call in enumerate(completion.tool_calls):
            on_delta({"tool_calls": [{"index": index} | call]})
        return completion

    def fail(self, reason: str = "status_500", *, fault: Fault = Fault.DOUBTFUL) -> None:
        is_refusal = fault is Fault.REQUEST
        self.script.append(ProviderError(reason, fault=fault, is_refusal=is_refusal))


def reply(
    text: str = "Hi!",
    input_tokens: int | None = 10,
    output_tokens: int | None = 5,
    *,
    tool_calls: Sequence[dict[str, Any]] = (),
    finish_reason: str = "stop",
    refusal: str = "",
    **members: Any,
) -> Completion:
    """Return a provider's answer; `members` are what else its message holds."""
    is_told = input_tokens is not None and output_tokens is not None
    usage = Usage(input_tokens or 0, output_tokens or 0) if is_told else None
    return Completion(text, finish_reason, usage, "fake-model", tool_calls, refusal, members)
