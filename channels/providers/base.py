"""What every provider does: a request in, one completion out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

# A message on the wire: `role`, `content` and what else the protocol knows.
ChatMessage = Mapping[str, Any]
# A piece of a streamed answer: text alone, or members of the protocol's `delta`. `logprobs` stands
# among them, though the protocol has it beside the delta.
Delta = str | dict[str, Any]
OnDelta = Callable[[Delta], None]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a model is asked; `options` are handed on as they are.

    `limit_name` is the protocol's name for `max_output_tokens`: newer models of OpenAI want
    `max_completion_tokens` and refuse the other. A transparent request gets all that the provider
    says; any other gets text: a refusal is text, tool calls and reasoning are none. Where it also
    `hides_thinking`, a leading `<think>` block is no text either.
    """

    messages: Sequence[ChatMessage]
    max_output_tokens: int
    options: Mapping[str, Any] = field(default_factory=dict)
    limit_name: str = "max_tokens"
    is_transparent: bool = False
    hides_thinking: bool = False
    # Earlier exchanges, of two messages each, right before the last message: what may be left out.
    turn_count: int = 0

    def with_fewer_turns(self, divisor: int = 2) -> ChatRequest | None:
        """Return the request with a part of its turns, the newest; None where there are none."""
        return self._with_turns(self.turn_count // divisor) if self.turn_count else None

    def with_less_room(self, least_tokens: int, divisor: int = 2) -> ChatRequest | None:
        """Return the request with a part of the room for its answer; None where that is too little.

        The least room is in tokens.
        """
        room = self.max_output_tokens // divisor
        return replace(self, max_output_tokens=room) if room >= least_tokens else None

    def without_oldest_turn(self) -> ChatRequest:
        """Return the request without the first of its turns; it must have one."""
        return self._with_turns(self.turn_count - 1)

    def _with_turns(self, kept: int) -> ChatRequest:
        first = len(self.messages) - 1 - 2 * self.turn_count
        messages = [*self.messages[:first], *self.messages[len(self.messages) - 1 - 2 * kept :]]
        return replace(self, messages=messages, turn_count=kept)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call: cached ones are part of the input, reasoning is part of the output.

    These two are None where nobody told. `is_estimated`: no provider's figures, but ours.
    """

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    is_estimated: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer, whatever shape it came in (channels/providers/answers.py).

    It may be empty where the finish reason says why: stopped at once, cut, filtered. `usage` is
    None where the provider gave none that can be read. `members` holds what else a transparent
    request gets to see of the message, such as `reasoning_content`, by the provider's own names.
    """

    text: str
    finish_reason: str
    usage: Usage | None
    response_model: str = ""
    tool_calls: Sequence[dict[str, Any]] = ()
    refusal: str = ""
    members: Mapping[str, Any] = field(default_factory=dict)
    logprobs: Any = None
    # Whether a text whose thoughts are hidden began within one; None where that cannot be told.
    began_in_thought: bool | None = None

    @property
    def all_text(self) -> str:
        """Everything the model wrote, arguments of tool calls included: what its tokens are of."""
        calls = "".join(map(text_of_tool_call, self.tool_calls))
        return self.text + self.refusal + calls + text_of_reasoning(self.members)


# What providers call the text of a model's reasoning; some send it twice, under both names.
REASONING_NAMES = ("reasoning_content", "reasoning")
# What a transparent request gets of a content's parts that are no text, such as images.
CONTENT_PARTS = "content_parts"
# Lists of what an answer rests on, which stand beside the choices (Perplexity, xAI).
SOURCES = ("citations", "search_results")


def text_of_reasoning(message: Mapping[str, Any]) -> str:
    """Return the reasoning in a message or a piece of it."""
    texts = (message.get(name) for name in REASONING_NAMES)
    return next((text for text in texts if text and isinstance(text, str)), "")


def text_of_content(content: Any) -> str:
    """Return the text of a message's content: a string, or parts that are text."""
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content if part.get("text"))
    return content or ""


def text_of_tool_call(call: Mapping[str, Any]) -> str:
    """Return what the model wrote of a tool call, whole or a piece of it."""
    function = call.get("function") or {}
    return (function.get("name") or "") + (function.get("arguments") or "")


def text_of_delta(delta: Delta) -> str:
    """Return what the model wrote of a piece."""
    if isinstance(delta, str):
        return delta
    written = (delta.get("content") or "") + (delta.get("refusal") or "")
    calls = "".join(map(text_of_tool_call, delta.get("tool_calls", ())))
    return written + calls + text_of_reasoning(delta)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call may take; moments are time.monotonic() values.

    A plain answer must be whole by `first_token_by`. A stream must have begun by then, may then
    be silent for `silence_seconds`, and ends by `stream_by` at the latest. It `is_long` for a model
    that may think in silence for longer than others take to answer.
    """

    first_token_by: float
    stream_by: float
    silence_seconds: float
    is_long: bool = False

    def halved(self, *, now: float) -> Patience:
        """Return the same with half of the time left until there has to be an answer."""
        return replace(self, first_token_by=now + max(0.0, self.first_token_by - now) / 2)


class ProviderClient(Protocol):
    """One way to one model."""

    provider_name: str

    def complete(self, request: ChatRequest, *, patience: Patience) -> Completion:
        """Return the answer. Raises channels.errors.ProviderError for all that is none."""
        ...

    def stream(self, request: ChatRequest, *, patience: Patience, on_delta: OnDelta) -> Completion:
        """Hand each piece to `on_delta` as it arrives; return the whole answer at its end.

        Raises ProviderError also where the provider breaks off after some pieces.
        """
        ...
