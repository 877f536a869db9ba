"""The interface of every provider: it takes a request and returns one completion."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

# A message on the wire: `role`, `content` and other members of the protocol.
ChatMessage = Mapping[str, Any]
# A piece of a streamed answer: only text, or members of the protocol's `delta`. `logprobs` is one
# of them, although the protocol puts it next to the delta.
Delta = str | dict[str, Any]
OnDelta = Callable[[Delta], None]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request to a model. `options` are passed on unchanged.

    `limit_name` is the protocol's name for `max_output_tokens`: newer OpenAI models require
    `max_completion_tokens` and refuse `max_tokens`. A transparent request gets everything that the
    provider returns. Any other request gets only text. That includes a refusal, but neither tool
    calls nor reasoning, and with `hides_thinking` no leading `<think>` block either.
    """

    messages: Sequence[ChatMessage]
    max_output_tokens: int
    options: Mapping[str, Any] = field(default_factory=dict)
    limit_name: str = "max_tokens"
    is_transparent: bool = False
    hides_thinking: bool = False
    # How many earlier turns, of two messages each, precede the last message. They may be left out.
    turn_count: int = 0
    # Names of the `options` that the channel sets and not the caller. A route may go without them.
    channel_options: frozenset[str] = frozenset()

    def without_options(self, names: Collection[str]) -> ChatRequest:
        """Return the request without those of the channel's own options."""
        left_out = self.channel_options.intersection(names)
        kept = {name: value for name, value in self.options.items() if name not in left_out}
        return replace(self, options=kept, channel_options=self.channel_options - left_out)

    def with_fewer_turns(self, divisor: int = 2) -> ChatRequest | None:
        """Return the request with only its newest turns, 1 / `divisor`. None if it has no turns."""
        return self._with_turns(self.turn_count // divisor) if self.turn_count else None

    def with_less_room(self, least_tokens: int, divisor: int = 2) -> ChatRequest | None:
        """Return the request with 1 / `divisor` of the room for its answer.

        Returns None if that is less than `least_tokens`.
        """
        room = self.max_output_tokens // divisor
        return replace(self, max_output_tokens=room) if room >= least_tokens else None

    def without_oldest_turn(self) -> ChatRequest:
        """Return the request without its oldest turn. It must have one."""
        return self._with_turns(self.turn_count - 1)

    def _with_turns(self, kept: int) -> ChatRequest:
        first = len(self.messages) - 1 - 2 * self.turn_count
        messages = [*self.messages[:first], *self.messages[len(self.messages) - 1 - 2 * kept :]]
        return replace(self, messages=messages, turn_count=kept)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. Cached tokens are part of the input, reasoning is part of the output.

    These two are None if the provider did not report them. `is_estimated` means that the figures
    are the gateway's and not the provider's.
    """

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    is_estimated: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer, in whatever shape it arrived (channels/providers/answers.py).

    It may be empty if the finish reason explains that: stopped at once, cut off, filtered. `usage`
    is None if the provider sent none that is readable. `members` holds the other members of the
    message that a transparent request sees, such as `reasoning_content`, by the provider's names.
    """

    text: str
    finish_reason: str
    usage: Usage | None
    response_model: str = ""
    tool_calls: Sequence[dict[str, Any]] = ()
    refusal: str = ""
    members: Mapping[str, Any] = field(default_factory=dict)
    logprobs: Any = None
    # Whether a text with hidden thoughts began within one. None if that is unknown.
    began_in_thought: bool | None = None

    @property
    def all_text(self) -> str:
        """Everything that the model's tokens produced, including the arguments of tool calls."""
        calls = "".join(map(text_of_tool_call, self.tool_calls))
        return self.text + self.refusal + calls + text_of_reasoning(self.members)


# Providers' names for the text of a model's reasoning. Some send it twice, under both names.
REASONING_NAMES = ("reasoning_content", "reasoning")
# The member in which a transparent request gets content parts other than text, such as images.
CONTENT_PARTS = "content_parts"
# Lists of an answer's sources, next to the choices (Perplexity, xAI).
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
    """Return the text that the model wrote in a tool call or in a piece of one."""
    function = call.get("function") or {}
    return (function.get("name") or "") + (function.get("arguments") or "")


def text_of_delta(delta: Delta) -> str:
    """Return the text that the model wrote in a piece."""
    if isinstance(delta, str):
        return delta
    written = (delta.get("content") or "") + (delta.get("refusal") or "")
    calls = "".join(map(text_of_tool_call, delta.get("tool_calls", ())))
    return written + calls + text_of_reasoning(delta)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call may take. Moments are time.monotonic() values.

    A plain answer must be complete by `first_token_by`. A stream must begin by then, may be silent
    for `silence_seconds` after that, and ends by `stream_by` at the latest. `is_long` is set for a
    model that may think in silence for longer than others take to answer.
    """

    first_token_by: float
    stream_by: float
    silence_seconds: float
    is_long: bool = False

    def halved(self, *, now: float) -> Patience:
        """Return the same with half of the time that is left until `first_token_by`."""
        return replace(self, first_token_by=now + max(0.0, self.first_token_by - now) / 2)


class ProviderClient(Protocol):
    """One way to one model. `is_free`: its answers cost nothing, whatever the model's price."""

    provider_name: str
    is_free: bool

    def complete(self, request: ChatRequest, *, patience: Patience) -> Completion:
        """Return the answer. Raises channels.errors.ProviderError if there is none."""
        ...

    def stream(self, request: ChatRequest, *, patience: Patience, on_delta: OnDelta) -> Completion:
        """Pass each piece to `on_delta` as it arrives. Returns the whole answer at its end.

        Raises ProviderError, also if the provider breaks off after some pieces.
        """
        ...
