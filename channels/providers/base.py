"""What every provider does: messages in, one completion out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict


class ChatMessage(TypedDict):
    """A message on the wire: role is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer. Token counts are None where the provider gave none that can be believed."""

    text: str
    finish_reason: str
    input_tokens: int | None
    output_tokens: int | None
    response_id: str = ""
    response_model: str = ""


class ProviderClient(Protocol):
    """One way to one model."""

    provider_name: str

    def complete(
        self, messages: Sequence[ChatMessage], *, max_output_tokens: int, deadline: float
    ) -> Completion:
        """Return the answer before `deadline` (a time.monotonic() value).

        Raises channels.errors.ProviderError for everything that is no answer.
        """
        ...
