"""What a route wants otherwise than the protocol has it, and a request put that way. Pure.

What is refused and what is learned from it stands in lessons.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from channels.providers.base import ChatMessage, ChatRequest, text_of_content
from common.tokens import fitting_tokens

# Some servers take a single system message, in front of all others; some know no such role.
ONE_SYSTEM_MESSAGE = "one"
NO_SYSTEM_ROLE = "none"
_SYSTEM_ROLES = ("system", "developer")
# Less is no answer.
_SHORTEST_ANSWER_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Traits:
    """How a route wants to be asked; without anything, as the protocol has it.

    `system_messages` is one of the two above, or empty. Sizes are None while they are the model's.
    """

    limit_name: str = ""
    has_stream_options: bool = True
    system_messages: str = ""
    has_text_content: bool = False
    context_window_tokens: int | None = None
    max_output_tokens: int | None = None
    # Its chat template opens a thought, so that answers have the end of it alone (thinking.py).
    begins_in_thought: bool = False


PLAIN = Traits()


def adapted(request: ChatRequest, traits: Traits) -> ChatRequest:
    """Return the request as a route with these traits takes it."""
    if traits == PLAIN:
        return request
    request = _fitted(request, traits)
    messages = [message for message, _ in arranged(request.messages, traits)]
    if traits.has_text_content:
        messages = [_with_text_content(message) for message in messages]
    return replace(request, messages=messages, limit_name=traits.limit_name or request.limit_name)


def arranged(
    messages: Sequence[ChatMessage], traits: Traits
) -> list[tuple[ChatMessage, int | None]]:
    """Return the messages with their system messages as the route takes them.

    Each comes with its place among the messages that were given, or None where it is several.
    """
    numbered: list[tuple[ChatMessage, int | None]] = list(zip(messages, range(10**6), strict=False))
    if not traits.system_messages:
        return numbered
    systems = [pair for pair in numbered if pair[0]["role"] in _SYSTEM_ROLES]
    others = [pair for pair in numbered if pair[0]["role"] not in _SYSTEM_ROLES]
    if not systems:
        return numbered
    text = "\n\n".join(text_of_content(message.get("content")) for message, _ in systems)
    place = systems[0][1] if len(systems) == 1 else None
    if traits.system_messages == ONE_SYSTEM_MESSAGE:
        return [({"role": "system", "content": text}, place), *others]
    for at, (message, its_place) in enumerate(others):
        if message["role"] == "user":
            others[at] = _with_text_before(message, text), its_place
            return others
    return [({"role": "user", "content": text}, place), *others]


def _with_text_before(message: ChatMessage, text: str) -> ChatMessage:
    content = message.get("content")
    if isinstance(content, list):
        return {**message, "content": [{"type": "text", "text": text}, *content]}
    return {**message, "content": f"{text}\n\n{content}"}


def _with_text_content(message: ChatMessage) -> ChatMessage:
    """Return the message with its content as one string, if it is all text."""
    content = message.get("content")
    if isinstance(content, list) and all(part.get("type") == "text" for part in content):
        return {**message, "content": "\n".join(part["text"] for part in content)}
    return message


def _fitted(request: ChatRequest, traits: Traits) -> ChatRequest:
    """Return the request with an answer, and of a conversation as many turns, as the route fits."""
    room = min(request.max_output_tokens, traits.max_output_tokens or request.max_output_tokens)
    window = traits.context_window_tokens
    if window is None:
        return replace(request, max_output_tokens=room)
    if not request.is_transparent:  # as conversations/prompts.py reckons
        room = min(room, window // 4)
    while request.turn_count and _size(request) > window - room:
        request = request.without_oldest_turn()
    # Sizes are estimates, and a chat template adds some tokens of its own.
    left = window - window // 32 - _size(request)
    room = max(_SHORTEST_ANSWER_TOKENS, min(room, left))
    return replace(request, max_output_tokens=room)


def _size(request: ChatRequest) -> int:
    return sum(fitting_tokens(_text_of(message)) for message in request.messages)


def _text_of(message: ChatMessage) -> str:
    calls: Sequence[Any] = message.get("tool_calls") or ()
    return text_of_content(message.get("content")) + "".join(map(str, calls))
