"""Prompts: their token counts, the same for another model, and those of completions.

Pure functions. message.py builds the prompt of a visitor's message.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

from channels.callers import ModelTerms
from channels.providers.base import ChatMessage, ChatRequest, text_of_content, text_of_tool_call
from channels.providers.tokens import estimate_tokens, fitting_tokens, most_tokens


@dataclass(frozen=True)
class Prompt:
    """The request to a model.

    Its tokens are counted when they are asked for. A reply at a flat price whose provider reports
    its usage needs neither count.
    """

    request: ChatRequest
    model: ModelTerms

    @cached_property
    def most_input_tokens(self) -> int:
        """An upper bound of the input tokens, for every tokenizer and chat template."""
        messages, options = self.request.messages, self.request.options
        if self.request.is_transparent:
            shown = map(_without_images, messages)
            most = self._image_tokens
            most += sum(most_tokens(text) for message in shown for text in _json_of(message))
            for text in _offered(options):
                most += _MOST_TIMES_TOOLS * most_tokens(text) + _MOST_TOOL_WORDS
            most += sum(map(most_tokens, _json_of(_others(options))))
        else:
            most = sum(most_tokens(message["content"]) for message in messages)
        return min(most, self.model.context_window_tokens)

    @cached_property
    def estimated_input_tokens(self) -> int:
        """An estimate of the input tokens, to bill by if the provider reports none."""
        texts = [*map(_text_of, self.request.messages), *_offered(self.request.options)]
        return self._image_tokens + sum(map(estimate_tokens, texts))

    @property
    def _image_tokens(self) -> int:
        return len(find_images(self.request.messages)) * self.model.image_tokens

    def with_room(self, max_output_tokens: int) -> Prompt:
        """Return the same prompt with less room for the answer."""
        return replace(self, request=replace(self.request, max_output_tokens=max_output_tokens))

    def for_model(self, model: ModelTerms, longest_answer: int | None) -> Prompt:
        """Return the same prompt for another model. It may not fit that model's window."""
        room = model.room_for_answer(longest_answer)
        request = replace(self.request, max_output_tokens=room, hides_thinking=model.hides_thinking)
        return Prompt(request, model)

    def fitted(self) -> Prompt | None:
        """Return a chat's prompt with as many of its latest turns as fit the model's window.

        Returns None if the new message does not fit even without them.
        """
        request = self.request
        left = self.model.context_window_tokens - request.max_output_tokens
        left -= sum(fitting_tokens(message["content"]) for message in request.messages)
        while left < 0 and request.turn_count:
            oldest = request.messages[len(request.messages) - 1 - 2 * request.turn_count :][:2]
            left += sum(fitting_tokens(message["content"]) for message in oldest)
            request = request.without_oldest_turn()
        return None if left < 0 else replace(self, request=request)


# An upper bound for offered tools. A chat template repeats their JSON with its own white space, and
# explains to the model how to call them. Measured templates stay well below both numbers.
_MOST_TIMES_TOOLS = 2
_MOST_TOOL_WORDS = 1_000


def build_stateless_prompt(
    *,
    model: ModelTerms,
    system_prompt: str,
    messages: Sequence[ChatMessage],
    options: Mapping[str, Any],
    max_output_tokens: int | None,
    limit_name: str,
    channel_options: Mapping[str, Any] = MappingProxyType({}),
    longest_answer: int | None = None,
) -> Prompt | None:
    """Return the channel's prompt and the caller's own messages, or None if they cannot fit.

    If the caller sets no limit, the answer gets the same room as in a chat, and never more than the
    channel's `longest_answer`. Its own options come before the channel's. An image of any size
    counts as the tokens that the model's terms set for one.
    """
    first: list[ChatMessage] = [{"role": "system", "content": system_prompt}]
    everything = [*(first if system_prompt else []), *messages]
    left = model.context_window_tokens - len(find_images(messages)) * model.image_tokens
    left -= sum(map(fitting_tokens, [*map(_text_of, everything), *_offered(options)]))
    if left < 1:
        return None
    room = min(max_output_tokens or model.room_for_answer(), model.max_output_tokens, left)
    room = min(room, longest_answer or room)
    request = ChatRequest(
        everything,
        room,
        {**channel_options, **options},
        limit_name=limit_name,
        is_transparent=True,
        channel_options=frozenset(channel_options.keys() - options.keys()),
    )
    return Prompt(request, model)


def find_images(messages: Sequence[ChatMessage]) -> list[str]:
    """Return the paths of images in messages, such as `messages[0].content[1]`."""
    return [
        f"messages[{number}].content[{place}]"
        for number, message in enumerate(messages)
        if isinstance(message.get("content"), list)
        for place, part in enumerate(message["content"])
        if part.get("type") == "image_url"
    ]


def _without_images(message: ChatMessage) -> ChatMessage:
    """Return a message without its images. A model does not read their bytes or URLs as text."""
    if not find_images([message]):
        return message
    parts = [part for part in message["content"] if part.get("type") != "image_url"]
    return {**message, "content": parts}


# The options that the model reads as well as the messages.
_SHOWN_OPTIONS = ("tools", "response_format")


def _offered(options: Mapping[str, Any]) -> list[str]:
    """Return the JSON of these options in a list, or an empty list if there are none."""
    return _json_of({name: options[name] for name in _SHOWN_OPTIONS if name in options})


def _others(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the other options that a chat template or an unknown provider could show the model.

    Most are never shown, but the hold must cover whatever is charged. Leaves out flags and numbers,
    which are not text.
    """
    return {
        name: value
        for name, value in options.items()
        if name not in _SHOWN_OPTIONS and not isinstance(value, bool | int | float)
    }


def _text_of(message: ChatMessage) -> str:
    """Return the text of a message that every model reads. Most do not read earlier reasoning."""
    calls = "".join(map(text_of_tool_call, message.get("tool_calls") or ()))
    return text_of_content(message.get("content")) + (message.get("refusal") or "") + calls


def _json_of(value: Mapping[str, Any]) -> list[str]:
    """Return the JSON of a mapping in a list, or an empty list for an empty mapping."""
    return [json.dumps(value, ensure_ascii=False, separators=(",", ":"))] if value else []
