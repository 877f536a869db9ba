"""What every provider does: messages in, one completion out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


OnDelta = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call may take; moments are time.monotonic() values.

    A plain answer must be whole by `first_token_by`. A stream must have begun by then, may then
    be silent for `silence_seconds`, and ends by `stream_by` at the latest.
    """

    first_token_by: float
    stream_by: float
    silence_seconds: float


class ProviderClient(Protocol):
    """One way to one model."""

    provider_name: str

    def complete(
        self, messages: Sequence[ChatMessage], *, max_output_tokens: int, patience: Patience
    ) -> Completion:
        """Return the answer. Raises channels.errors.ProviderError for all that is none."""
        ...

    def stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        max_output_tokens: int,
        patience: Patience,
        on_delta: OnDelta,
    ) -> Completion:
        """Hand each piece of text to `on_delta` as it arrives; return the whole answer at its end.

        Raises ProviderError also where the provider breaks off after some pieces.
        """
        ...
