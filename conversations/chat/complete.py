"""Chat completions without a session: answers and charges the caller's own messages.

There is no turn to wait for, and no text is kept. The rest is as for a chat (answer.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.utils import timezone

from channels import routes
from channels.callers import Caller
from channels.providers.base import ChatMessage
from channels.providers.faults import CONTEXT_LENGTH_EXCEEDED
from channels.providers.openai_compatible import MAX_ANSWER_BYTES, MAX_STREAM_BYTES
from common.errors import ApiError, InvalidRequest
from conversations.chat import calls, refusals
from conversations.chat.answer import Asked
from conversations.chat.calls import HeldCall
from conversations.chat.prompt import Prompt, build_stateless_prompt, find_images
from conversations.errors import ContextLengthExceeded, RefusedAsSaid, RequestRefused

# The most that one token with its log probability takes: text, bytes as numbers, probability.
LOGGED_BYTES = 200
# For an option that the gateway does not know and no route takes (conversations/api/parameters.py).
UNLISTED = (
    "Refused: the gateway does not know this parameter. Leave it out, or ask the gateway's "
    "operator to allow it for the routes of this model."
)
NO_IMAGES = "Must be text: this model takes no images. GET /v1/models says which models do."


@dataclass(frozen=True, slots=True, kw_only=True)
class Completing(Asked):
    """A validated request for a completion. `options` go to the provider unchanged.

    `unlisted_options` names the options that may only go to routes for which staff allow them.
    `messages_field` is the name of the messages in the caller's protocol, for errors about them.
    """

    messages: Sequence[ChatMessage]
    options: Mapping[str, Any]
    unlisted_options: frozenset[str] = frozenset()
    max_output_tokens: int | None = None
    limit_name: str = "max_tokens"
    includes_usage: bool = False
    messages_field: str = "messages"

    def admit(self, caller: Caller, request_id: str) -> HeldCall:
        """Count the call in the daily quota, and hold the most it can cost.

        Raises DailyQuotaReached, SpendCapReached, CreditsExhausted, ContextLengthExceeded, and
        InvalidRequest for an option that no route takes or an image that the model does not take.
        """
        require_allowed(caller, self.unlisted_options)
        now, prompt = timezone.now(), build_prompt(caller, self)
        clients = routes.list_routes(
            caller, simulate=self.simulate, unlisted_options=self.unlisted_options
        )
        return calls.hold(
            caller, prompt, clients, is_stream=self.is_stream, request_id=request_id, now=now
        )

    def explain(self, call: HeldCall, error: RequestRefused) -> ApiError:
        """Return the refusal in the provider's words, so that the caller sees what to change."""
        model = call.caller.model
        if error.reason == CONTEXT_LENGTH_EXCEEDED:
            return _too_long(call.caller, self)
        ours = len(call.prompt.request.messages) - len(self.messages)
        said = refusals.as_callers_read(
            error.said,
            model_id=model.model_id,
            provider_names={route.provider_name for route in call.routes},
            system_prompt=call.caller.system_prompt,
            request=[self.messages, self.options],
            indexes=[
                None if place is None or place < ours else place - ours for place in error.places
            ],
        )
        if self.messages_field != "messages" and said.param.startswith("messages"):
            # The caller's items do not correspond one to one to the messages we sent.
            said = replace(said, param=self.messages_field)
        return RefusedAsSaid(error.reason, said)


def require_allowed(caller: Caller, names: frozenset[str]) -> None:
    """Raise InvalidRequest, naming the options, if no route of the model takes them."""
    if names and (refused := routes.find_refused(caller, names)):
        raise InvalidRequest(fields=dict.fromkeys(sorted(refused), UNLISTED))


def build_prompt(caller: Caller, asked: Completing) -> Prompt:
    """Return the prompt. Raises ContextLengthExceeded, or InvalidRequest for refused images."""
    if not caller.model.image_tokens and (images := find_images(asked.messages)):
        is_chat = asked.messages_field == "messages"
        raise InvalidRequest(fields={images[0] if is_chat else asked.messages_field: NO_IMAGES})
    prompt = build_stateless_prompt(
        model=caller.model,
        system_prompt=caller.system_prompt,
        messages=asked.messages,
        options=asked.options,
        max_output_tokens=asked.max_output_tokens,
        limit_name=asked.limit_name,
        channel_options=caller.answer_options,
        longest_answer=caller.max_answer_tokens,
    )
    if prompt is None:
        raise _too_long(caller, asked)
    if asked.options.get("logprobs"):
        return prompt.with_room(min(prompt.request.max_output_tokens, most_logged_tokens(asked)))
    return prompt


def most_logged_tokens(asked: Completing) -> int:
    """Return how long an answer with log probabilities may be, in tokens.

    A longer one would exceed the limit in bytes, be cut, and become unreadable. It would count as
    the provider's failure, and be free.
    """
    most_bytes = MAX_STREAM_BYTES if asked.is_stream else MAX_ANSWER_BYTES
    return int(most_bytes // (LOGGED_BYTES * (2 + asked.options.get("top_logprobs", 0))))


def _too_long(caller: Caller, asked: Completing) -> ContextLengthExceeded:
    return ContextLengthExceeded(
        caller.model.context_window_tokens, messages_field=asked.messages_field
    )
