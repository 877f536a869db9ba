"""How a route deviates from the protocol, and how to adapt a request to it. Pure.

lessons.py knows the refusals and what they teach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from channels.providers.base import ChatMessage, ChatRequest, text_of_content
from channels.providers.tokens import fitting_tokens

# Some servers accept only one system message, in front of all others. Some do not know the role.
ONE_SYSTEM_MESSAGE = "one"
NO_SYSTEM_ROLE = "none"
_SYSTEM_ROLES = ("system", "developer")
# The channel's options that a route may refuse, and the trait that says so.
REFUSABLE = {"temperature": "ignores_temperature", "stop": "ignores_stop"}
# Fewer tokens are too few for an answer.
_SHORTEST_ANSWER_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Traits:
    """The form of request that a route accepts. The defaults are the protocol's.

    `system_messages` is one of the two constants above, or empty. Sizes are None while they are the
    model's.
    """

    limit_name: str = ""
    has_stream_options: bool = True
    system_messages: str = ""
    has_text_content: bool = False
    context_window_tokens: int | None = None
    max_output_tokens: int | None = None
    # The chat template opens a thought, so answers contain only its closing tag (thinking.py).
    begins_in_thought: bool = False
    # The route refuses these settings of a channel, so the gateway leaves them out.
    ignores_temperature: bool = False
    ignores_stop: bool = False

    def ignored(self) -> list[str]:
        """Return the names of the options that the route refuses."""
        return [name for name, trait in REFUSABLE.items() if getattr(self, trait)]


PLAIN = Traits()


def adapted(request: ChatRequest, traits: Traits) -> ChatRequest:
    """Return the request in the form that a route with these traits accepts."""
    if traits is PLAIN or traits == PLAIN:
        return request
    request = _fitted(request, traits)
    if ignored := request.channel_options.intersection(traits.ignored()):
        request = request.without_options(ignored)
    messages = [message for message, _ in arranged(request.messages, traits)]
    if traits.has_text_content:
        messages = [_with_text_content(message) for message in messages]
    return replace(request, messages=messages, limit_name=traits.limit_name or request.limit_name)


def arranged(
    messages: Sequence[ChatMessage], traits: Traits
) -> list[tuple[ChatMessage, int | None]]:
    """Return the messages, with the system messages in the form that the route accepts.

    Each comes with its position among the given messages, or None if it merges several.
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
    """Return the message with its content as one string, if all parts of it are text."""
    content = message.get("content")
    if isinstance(content, list) and all(part.get("type") == "text" for part in content):
        return {**message, "content": "\n".join(part["text"] for part in content)}
    return message


def _fitted(request: ChatRequest, traits: Traits) -> ChatRequest:
    """Return the request with a limit for its answer and only the turns that fit the route."""
    room = min(request.max_output_tokens, traits.max_output_tokens or request.max_output_tokens)
    window = traits.context_window_tokens
    if window is None:
        return replace(request, max_output_tokens=room)
    if not request.is_transparent:  # as ModelTerms.room_for_answer
        room = min(room, window // 4)
    while request.turn_count and _size(request) > window - room:
        request = request.without_oldest_turn()
    # Sizes are estimates, and a chat template adds some tokens.
    left = window - window // 32 - _size(request)
    room = max(_SHORTEST_ANSWER_TOKENS, min(room, left))
    return replace(request, max_output_tokens=room)


def _size(request: ChatRequest) -> int:
    return sum(fitting_tokens(_text_of(message)) for message in request.messages)


def _text_of(message: ChatMessage) -> str:
    calls: Sequence[Any] = message.get("tool_calls") or ()
    return text_of_content(message.get("content")) + "".join(map(str, calls))
