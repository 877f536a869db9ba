"""A saved reply instead of a provider's answer: instant, and without tokens."""

from __future__ import annotations

from channels.providers.base import ChatRequest, Completion, OnDelta, Patience, Usage


class FixedAnswerProvider:
    """Returns the reply that the channel's owner saved for this question."""

    provider_name = "fixed"
    is_free = True

    def __init__(self, fixed_answer_id: int, answer: str) -> None:
        self.fixed_answer_id = fixed_answer_id
        self._answer = answer

    def complete(self, request: ChatRequest, *, patience: Patience) -> Completion:
        return Completion(self._answer, "stop", Usage(0, 0), response_model="fixed")

    def stream(self, request: ChatRequest, *, patience: Patience, on_delta: OnDelta) -> Completion:
        on_delta(self._answer)
        return Completion(self._answer, "stop", Usage(0, 0), response_model="fixed")
