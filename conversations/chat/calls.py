"""A call whose cost is held: asks route by route, then charges the hold or gives it back.

Every endpoint that asks a model shares this code. Each endpoint admits its calls and stores their
results in its own way.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.utils import timezone

from billing import holds
from billing import settlement as billing
from billing.holds import PlacedHold
from billing.settlement import Settlement, Storing
from channels.breaker import BREAKER_OPEN
from channels.callers import Caller, ModelTerms
from channels.errors import Fault, ProviderError
from channels.providers.base import (
    Completion,
    Delta,
    OnDelta,
    Patience,
    ProviderClient,
    Usage,
    text_of_delta,
)
from common import db
from common.errors import ApiError, Overloaded
from common.tokens import estimate_tokens
from conversations.chat.prompt import Prompt
from conversations.errors import AnsweredTooLate, ContentFiltered, ProviderFailed, RequestRefused
from server import slots

logger = logging.getLogger("gateway.conversations")

# A shorter answer is useless: a message that cannot pay for this much is refused.
SHORTEST_ANSWER_TOKENS = 64
# Providers may count an end marker, or tokens of speculative decoding, beyond the limit we sent.
OUTPUT_TOLERANCE_TOKENS = 16


@dataclass(frozen=True, slots=True)
class HeldCall:
    """A call that may begin: its cost is held, and its routes are known."""

    caller: Caller
    hold: PlacedHold
    prompt: Prompt
    routes: Sequence[ProviderClient]
    admitted_at: datetime
    # A saved reply of the owner: costs no credits and does not count against the daily quota.
    is_fixed: bool = False


@dataclass(frozen=True, slots=True)
class Begun:
    """The start of an admitted streamed call: its id and its time."""

    reply_id: uuid.UUID
    admitted_at: datetime


@dataclass(frozen=True, slots=True)
class Answering:
    """The provider of a streamed answer, told just before the first piece."""

    provider_name: str


# Receives a streamed answer: the call's start, the provider, then each piece.
Tell = Callable[[Begun | Answering | Delta], None]


@dataclass(frozen=True, slots=True)
class Reply:
    """A provider's answer and how it came about."""

    provider_name: str
    completion: Completion
    usage: Usage
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A stored and paid answer."""

    call: HeldCall
    reply: Reply
    settlement: Settlement


@dataclass(frozen=True, slots=True)
class Outcome:
    """The body to send. Without an `answer`, it is the replay of an earlier one."""

    body: bytes
    answer: Answer | None


@cache
def call_gate() -> slots.CallGate:
    """Return the gate that limits this process's calls in flight."""
    return slots.CallGate(settings.PROVIDER_CALLS, settings.PROVIDER_CALLS_PER_ACCOUNT)


def in_flight(caller: Caller) -> AbstractContextManager[None]:
    """Take one of this process's calls for the block. Raises Overloaded if none is free."""
    return call_gate().call(
        caller.account_id, caller.channel_id, is_only_account=caller.is_only_account
    )


# --- Admission ----------------------------------------------------------------------------------


def hold_until(now: datetime, model: ModelTerms, *, is_stream: bool) -> datetime:
    """Return when the hold of a call that begins now expires."""
    deadline = settings.PROVIDER_STREAM_DEADLINE if is_stream else _first_token_seconds(model)
    return now + timedelta(seconds=deadline + settings.HOLD_GRACE_SECONDS)


def _first_token_seconds(model: ModelTerms) -> float:
    """Return how long the first token of a stream, or a whole plain answer, may take."""
    usual: float = settings.PROVIDER_DEADLINE
    return max(usual, min(model.first_token_seconds, settings.PROVIDER_STREAM_DEADLINE))


def free_up(caller: Caller) -> None:
    """Free what calls that never returned still hold, after a limit has refused this one.

    Then the refused request tries once more, even if nothing was freed here, because another
    request may have freed it in the meantime.
    """
    billing.free_up(account_id=caller.account_id, now=timezone.now())


def within_means(caller: Caller, prompt: Prompt, *, now: datetime) -> Prompt:
    """Limit the answer to what the balance can pay, if output tokens have a price.

    The later hold decides. This only keeps an account with a small balance from being refused
    because of a long answer that it may not need.
    """
    if not caller.model.per_1k_output or caller.is_test:
        return prompt
    available = billing.guess_available_microcredits(account_id=caller.account_id, now=now)
    affordable = caller.model.affordable_output_tokens(
        available, input_tokens=prompt.most_input_tokens
    )
    if not SHORTEST_ANSWER_TOKENS <= affordable < prompt.request.max_output_tokens:
        return prompt
    return prompt.with_room(affordable)


def highest_price(caller: Caller, prompt: Prompt) -> int:
    """Return the most a call can cost, in micro-credits."""
    return caller.model.price(
        input_tokens=prompt.most_input_tokens, output_tokens=prompt.request.max_output_tokens
    )


# --- The call -----------------------------------------------------------------------------------


class BrokenOff(ProviderFailed):
    """A stream that the provider broke off: too late for another route, and the operator's loss."""

    default_message = "The AI provider broke off its answer. Nothing was charged."


def make(call: HeldCall, tell: Tell | None) -> Reply:
    """Return the answer of the first route that gives one. Holds no connection or slot meanwhile.

    The answer may be empty (channels/providers/base.py). Raises ContentFiltered or ProviderFailed,
    and BrokenOff if the caller has already received a piece of the answer.
    """
    db.release_connection()
    started = time.monotonic()
    if tell is not None:
        tell(Begun(call.hold.id, call.admitted_at))
    with slots.slot_given_back():
        provider_name, completion = _call_provider(call, tell)
    usage = measure_usage(call, completion)
    return Reply(provider_name, completion, usage, time.monotonic() - started)


def _call_provider(call: HeldCall, tell: Tell | None) -> tuple[str, Completion]:
    now = time.monotonic()
    first_token_seconds = _first_token_seconds(call.caller.model)
    patience = Patience(
        first_token_by=now + first_token_seconds,
        stream_by=now + settings.PROVIDER_STREAM_DEADLINE,
        silence_seconds=settings.PROVIDER_STREAM_SILENCE,
        is_long=first_token_seconds > settings.PROVIDER_DEADLINE,
    )
    pieces: list[Delta] = []
    errors: list[ProviderError] = []
    for route in call.routes:
        if time.monotonic() >= patience.first_token_by:
            break
        answering = Answering(route.provider_name)
        on_delta = _keep_and_tell(answering, pieces, tell) if tell else None
        try:
            if on_delta is None:
                completion = route.complete(call.prompt.request, patience=patience)
            else:
                completion = route.stream(call.prompt.request, patience=patience, on_delta=on_delta)
            return route.provider_name, completion
        except ProviderError as error:
            fields = {"provider": route.provider_name, "reason": error.reason}
            # A skipped route was logged when its breaker opened. Do not warn with every message.
            level = logging.INFO if error.reason == BREAKER_OPEN else logging.WARNING
            logger.log(level, "provider.call.failed", extra=fields | {"permanent": error.permanent})
            if pieces:
                said = "".join(map(text_of_delta, pieces))
                raise BrokenOff(reason=error.reason, lost=_estimate(call, said)) from error
            if error.fault is Fault.DECLINED:
                raise ContentFiltered(reason=error.reason) from error
            errors.append(error)
    if errors and all(error.is_refusal for error in errors):
        last = errors[-1]
        raise RequestRefused(last.reason, said=last.said, places=last.places)
    if not call.routes:
        logger.error("provider.route.missing")
        raise ProviderFailed(
            "No AI provider serves this channel's model. Its owner can choose another model.",
            reason="no_route",
        )
    raise ProviderFailed(reason=_telling_reason(errors))


def _telling_reason(errors: Sequence[ProviderError]) -> str:
    """Return why the last asked route failed. Skipped routes count only if all were skipped."""
    reasons = [error.reason for error in errors]
    asked = [reason for reason in reasons if reason != BREAKER_OPEN]
    return (asked or reasons or [""])[-1]


def _keep_and_tell(answering: Answering, pieces: list[Delta], tell: Tell) -> OnDelta:
    """Return a callback that passes each piece on and keeps it in `pieces`, to estimate a loss."""

    def take(delta: Delta) -> None:
        if not pieces:
            tell(answering)
        pieces.append(delta)
        tell(delta)

    return take


def measure_usage(call: HeldCall, completion: Completion) -> Usage:
    """Return the reported usage, or an estimate if it is missing or cannot be true.

    More output than the limit cannot be true: hidden reasoning counts towards OpenAI's limit and
    towards `completion_tokens`. A few providers reason beyond the limit. Then the caller pays for
    the visible text. https://developers.openai.com/api/docs/guides/reasoning
    A text of no tokens cannot be true either, except for a saved reply, which no model wrote.
    """
    told = completion.usage
    has_text = bool(completion.text or completion.all_text)
    window = call.caller.model.context_window_tokens
    most_output = call.prompt.request.max_output_tokens + OUTPUT_TOLERANCE_TOKENS
    least_output = 1 if has_text and not call.is_fixed else 0
    if (
        told is not None
        and told.input_tokens <= window
        and least_output <= told.output_tokens <= most_output
    ):
        return told
    return _estimate(call, completion.all_text)


def _estimate(call: HeldCall, text: str) -> Usage:
    """Return the tokens of the prompt and of a text, estimated from their lengths."""
    return Usage(
        min(call.prompt.estimated_input_tokens, call.caller.model.context_window_tokens),
        min(estimate_tokens(text), call.prompt.request.max_output_tokens),
        is_estimated=True,
    )


# --- Settlement ---------------------------------------------------------------------------------


def price_of(caller: Caller, hold: PlacedHold, usage: Usage) -> int:
    """Return what these tokens cost in micro-credits, at most the held amount."""
    price = caller.model.price(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_input_tokens=usage.cached_input_tokens or 0,
    )
    return min(price, hold.amount_microcredits)


def settle(call: HeldCall, reply: Reply, *, now: datetime, storing: Storing) -> Settlement:
    """Charge an answer and store what goes with it. Raises billing.errors.HoldNotOpen."""
    if call.is_fixed:
        return billing.settle_free(hold=call.hold, now=now, storing=storing)
    return billing.capture_hold(
        hold=call.hold,
        charge_microcredits=price_of(call.caller, call.hold, reply.usage),
        now=now,
        reason=f"Reply by {call.caller.model.model_id}",
        request_id=call.hold.request_id,
        storing=storing,
    )


def why_not_open(call: HeldCall) -> ApiError:
    """Return the error for an answer whose hold is no longer open."""
    if holds.is_known(call.hold):
        return AnsweredTooLate()
    return Overloaded("The gateway lost its database while answering. Nothing was charged.")


def told_of(call: HeldCall, reply: Reply) -> dict[str, Any]:
    """Return the parameters that store what a reply cost and why (storing.py)."""
    caller, model = call.caller, call.caller.model
    return {
        "channel": db.uuid_param(caller.channel_id),
        "is_test": caller.is_test,
        "request_model": model.model_id,
        "response_model": reply.completion.response_model,
        "provider_name": reply.provider_name,
        "finish_reason": reply.completion.finish_reason,
        "input_tokens": reply.usage.input_tokens,
        "output_tokens": reply.usage.output_tokens,
        "cached_input_tokens": reply.usage.cached_input_tokens,
        "reasoning_tokens": reply.usage.reasoning_tokens,
        "is_estimated": reply.usage.is_estimated,
        "price_per_reply": model.per_reply,
        "price_per_1k_input": model.per_1k_input,
        "price_per_1k_output": model.per_1k_output,
        "price_per_1k_cached_input": model.per_1k_cached_input,
        "duration_ms": int(reply.duration_seconds * 1000),
        "prompt_version": caller.prompt_version,
        "api_key": db.uuid_param(caller.key_id) if caller.key_id else None,
    }


def give_back(
    caller: Caller, hold: PlacedHold, error: BaseException | None, *, now: datetime
) -> None:
    """Release the hold of a call without a complete answer.

    Tokens that the provider used anyway are booked as the operator's loss.
    """
    lost = error.lost if isinstance(error, ProviderFailed) else None
    if lost is None:
        holds.release_hold(hold=hold, now=now)
        return
    billing.absorb_loss(
        hold=hold,
        loss_microcredits=price_of(caller, hold, lost),
        now=now,
        reason=_LOSSES.get(type(error), "The provider's answer was empty"),
    )


_LOSSES = {
    BrokenOff: "The provider broke off in mid-stream",
    ContentFiltered: "The provider filtered its answer",
}
