"""Chat completions without a session: answers and charges the caller's own messages.

They use the same gate, limits, holds, and routes as a chat. There is no turn to wait for, and no
text is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any

from django.db import Error as AnyDatabaseError
from django.db import transaction
from django.utils import timezone

from billing import admission
from billing.errors import CreditsExhausted, DailyQuotaReached, HoldNotOpen
from billing.settlement import Storing
from channels import catalogue, routes
from channels.callers import Caller
from channels.providers.base import ChatMessage, ProviderClient
from channels.providers.faults import CONTEXT_LENGTH_EXCEEDED
from channels.providers.openai_compatible import MAX_ANSWER_BYTES, MAX_STREAM_BYTES
from common.errors import ApiError, InvalidRequest
from conversations.chat import calls, failures, idempotency, refusals
from conversations.chat.calls import Answer, HeldCall, Outcome, Reply, Tell
from conversations.chat.idempotency import Claim
from conversations.chat.prompt import Prompt, build_stateless_prompt, find_images
from conversations.chat.storing import STORE_REPLY
from conversations.errors import ContextLengthExceeded, ModelNotFound, RefusedAsSaid, RequestRefused

# The most that one token with its log probability takes: text, bytes as numbers, probability.
LOGGED_BYTES = 200
# For an option that the gateway does not know and no route takes (conversations/api/parameters.py).
UNLISTED = (
    "Refused: the gateway does not know this parameter. Leave it out, or ask the gateway's "
    "operator to allow it for the routes of this model."
)
NO_IMAGES = "Must be text: this model takes no images. GET /v1/models says which models do."


@dataclass(frozen=True, slots=True)
class Asked:
    """A validated request for a completion. `options` go to the provider unchanged.

    `unlisted_options` names the options that may only go to routes for which staff allow them.
    `messages_field` is the name of the messages in the caller's protocol, for errors about them.
    """

    model_id: str
    messages: Sequence[ChatMessage]
    options: Mapping[str, Any]
    unlisted_options: frozenset[str] = frozenset()
    max_output_tokens: int | None = None
    limit_name: str = "max_tokens"
    is_stream: bool = False
    includes_usage: bool = False
    messages_field: str = "messages"
    idempotency_key: idempotency.Key | None = None
    simulate: str = ""


def complete_chat(
    *,
    caller: Caller,
    asked: Asked,
    request_id: str,
    render: Callable[[Answer], bytes],
    tell: Tell | None = None,
) -> Outcome:
    """Let a provider answer the caller's messages, and charge the answer.

    Runs two short transactions with the provider's call between them, as for a chat. `render`
    creates the body, which is sent now and stored for replays. `tell` receives a streamed answer
    piece by piece.

    Raises ModelNotFound, ContextLengthExceeded, Overloaded, RequestInProgress,
    IdempotencyKeyReused, DailyQuotaReached, CreditsExhausted, ContentFiltered, RefusedAsSaid, or
    ProviderFailed, and InvalidRequest for an option that no route takes or an image that the model
    does not take. After each of these, nothing was charged and no message was stored.
    """
    with failures.recorded(caller, request_id=request_id, model_id=asked.model_id):
        return _complete(caller, asked, request_id, render, tell)


def _complete(
    caller: Caller,
    asked: Asked,
    request_id: str,
    render: Callable[[Answer], bytes],
    tell: Tell | None,
) -> Outcome:
    caller = with_model(caller, asked.model_id)
    require_allowed(caller, asked.unlisted_options)
    prompt = build_prompt(caller, asked)
    with (
        calls.in_flight(caller),
        idempotency.claimed(
            caller, asked.idempotency_key, session_id="", is_stream=asked.is_stream
        ) as claim,
    ):
        if claim is not None and claim.replay is not None:
            failures.record_replay(
                caller, request_id=request_id, model_id=asked.model_id, body=claim.replay
            )
            return Outcome(claim.replay.encode(), answer=None)
        call = admit(caller, asked, prompt, request_id)
        try:
            reply = calls.make(call, tell)
            return _store(call, reply, claim, render)
        except BaseException as error:
            with suppress(AnyDatabaseError):  # then the hold expires by itself
                calls.give_back(caller, call.hold, error, now=timezone.now())
            if isinstance(error, RequestRefused):
                raise explain(call, asked, error) from error
            raise


def with_model(caller: Caller, model_id: str) -> Caller:
    """Return the caller with the terms of the model they ask for. Raises ModelNotFound."""
    terms = catalogue.find_terms(caller=caller, model_id=model_id)
    if terms is None:
        raise ModelNotFound(model_id)
    return replace(caller, model=terms)


def explain(call: HeldCall, asked: Asked, error: RequestRefused) -> ApiError:
    """Return the refusal in the provider's words, so that the caller sees what to change."""
    model = call.caller.model
    if error.reason == CONTEXT_LENGTH_EXCEEDED:
        return _too_long(call.caller, asked)
    ours = len(call.prompt.request.messages) - len(asked.messages)
    said = refusals.as_callers_read(
        error.said,
        model_id=model.model_id,
        provider_names={route.provider_name for route in call.routes},
        system_prompt=call.caller.system_prompt,
        request=[asked.messages, asked.options],
        indexes=[None if place is None or place < ours else place - ours for place in error.places],
    )
    if asked.messages_field != "messages" and said.param.startswith("messages"):
        # The caller's items do not correspond one to one to the messages we sent.
        said = replace(said, param=asked.messages_field)
    return RefusedAsSaid(error.reason, said)


def require_allowed(caller: Caller, names: frozenset[str]) -> None:
    """Raise InvalidRequest, naming the options, if no route of the model takes them."""
    if names and (refused := routes.find_refused(caller, names)):
        raise InvalidRequest(fields=dict.fromkeys(sorted(refused), UNLISTED))


def build_prompt(caller: Caller, asked: Asked) -> Prompt:
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
    )
    if prompt is None:
        raise _too_long(caller, asked)
    if asked.options.get("logprobs"):
        return prompt.with_room(min(prompt.request.max_output_tokens, most_logged_tokens(asked)))
    return prompt


def most_logged_tokens(asked: Asked) -> int:
    """Return how long an answer with log probabilities may be, in tokens.

    A longer one would exceed the limit in bytes, be cut, and become unreadable. It would count as
    the provider's failure, and be free.
    """
    most_bytes = MAX_STREAM_BYTES if asked.is_stream else MAX_ANSWER_BYTES
    return int(most_bytes // (LOGGED_BYTES * (2 + asked.options.get("top_logprobs", 0))))


def _too_long(caller: Caller, asked: Asked) -> ContextLengthExceeded:
    return ContextLengthExceeded(
        caller.model.context_window_tokens, messages_field=asked.messages_field
    )


def admit(caller: Caller, asked: Asked, prompt: Prompt, request_id: str) -> HeldCall:
    """Count the call in the daily quota, and hold the most it can cost.

    Raises DailyQuotaReached or CreditsExhausted.
    """
    clients = routes.list_routes(
        caller, simulate=asked.simulate, unlisted_options=asked.unlisted_options
    )
    try:
        return _admit(caller, asked, prompt, clients, request_id)
    except (DailyQuotaReached, CreditsExhausted):
        calls.free_up(caller)
        return _admit(caller, asked, prompt, clients, request_id)


def _admit(
    caller: Caller,
    asked: Asked,
    prompt: Prompt,
    clients: Sequence[ProviderClient],
    request_id: str,
) -> HeldCall:
    now = timezone.now()
    is_free = routes.is_free(clients)
    if not is_free:
        prompt = calls.within_means(caller, prompt, now=now)
    hold = admission.place_hold(
        caller=caller,
        amount_microcredits=0 if is_free else calls.highest_price(caller, prompt),
        now=now,
        expires_at=calls.hold_until(now, caller.model, is_stream=asked.is_stream),
        request_id=request_id,
    )
    return HeldCall(caller, hold, prompt, clients, now)


def _store(
    call: HeldCall, reply: Reply, claim: Claim | None, render: Callable[[Answer], bytes]
) -> Outcome:
    """Capture the hold, store the reply's books, and keep the body for replays: all or nothing."""
    now = timezone.now()
    storing = Storing(STORE_REPLY, calls.told_of(call, reply))
    try:
        with transaction.atomic() if claim else nullcontext():
            answer = Answer(call, reply, calls.settle(call, reply, now=now, storing=storing))
            body = render(answer)
            if claim is not None:
                idempotency.complete(claim, body)
    except HoldNotOpen:
        raise calls.why_not_open(call) from None
    return Outcome(body, answer)
