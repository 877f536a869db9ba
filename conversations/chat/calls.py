"""A call whose cost is held: how long it may take, what it may cost, and the routes in turn."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.db import transaction
from django.utils import timezone

from billing import admission, holds, spend_caps
from billing import settlement as billing
from billing.holds import PlacedHold
from billing.settlement import Settlement
from channels import routes
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
from channels.providers.tokens import estimate_tokens
from common import db
from conversations.chat import turns
from conversations.chat.prompt import Prompt
from conversations.chat.turns import Turn
from conversations.errors import ContentFiltered, ProviderFailed, RequestRefused
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
    # The turn in a session, and what its messages are stored with (storing.py).
    turn: Turn | None = None
    messages: Mapping[str, Any] = field(default_factory=dict)
    # The prompt for the caller's fallback model, if its price depends on its length.
    fallback: Prompt | None = None


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


@dataclass(slots=True)
class Answer:
    """A provider's answer. Once it is stored: also what it cost, and the body to send."""

    call: HeldCall
    provider_name: str
    completion: Completion
    usage: Usage
    duration_seconds: float
    settlement: Settlement = field(init=False)
    body: bytes = field(init=False)


@dataclass(frozen=True, slots=True)
class Replay:
    """The body of an earlier answer, sent again."""

    body: bytes


@cache
def call_gate() -> slots.CallGate:
    """Return the gate that limits this process's calls in flight."""
    return slots.CallGate(settings.PROVIDER_CALLS, settings.PROVIDER_CALLS_PER_ACCOUNT)


# --- Admission ----------------------------------------------------------------------------------


def hold_until(now: datetime, model: ModelTerms, *, is_stream: bool) -> datetime:
    """Return when the hold of a call that begins now expires."""
    deadline = settings.PROVIDER_STREAM_DEADLINE if is_stream else _first_token_seconds(model)
    return now + timedelta(seconds=deadline + settings.HOLD_GRACE_SECONDS)


def _first_token_seconds(model: ModelTerms) -> float:
    """Return how long the first token of a stream, or a whole plain answer, may take."""
    usual: float = settings.PROVIDER_DEADLINE
    return max(usual, min(model.first_token_seconds, settings.PROVIDER_STREAM_DEADLINE))


def hold(
    caller: Caller,
    prompt: Prompt,
    clients: Sequence[ProviderClient],
    *,
    is_stream: bool,
    request_id: str,
    now: datetime,
) -> HeldCall:
    """Count a call without a session in the day's quota, and hold the most it can cost.

    Raises DailyQuotaReached, SpendCapReached, and CreditsExhausted.
    """
    is_free = any(client.is_free for client in clients)
    if not is_free:
        prompt = within_means(caller, prompt, now=now)
    placed = admission.place_hold(
        caller=caller,
        amount_microcredits=0 if is_free else highest_price(prompt),
        now=now,
        expires_at=hold_until(now, caller.model, is_stream=is_stream),
        request_id=request_id,
    )
    return HeldCall(caller, placed, prompt, clients, now)


def within_means(caller: Caller, prompt: Prompt, *, now: datetime) -> Prompt:
    """Limit the answer to what balance and spend caps can pay, if output tokens have a price.

    The later hold decides. This only keeps an account with few credits left from being refused
    because of a long answer that it may not need.
    """
    if not prompt.model.per_1k_output or caller.is_test:
        return prompt
    available = min(
        billing.guess_available_microcredits(account_id=caller.account_id, now=now),
        spend_caps.guess_left(caller=caller, now=now),
    )
    affordable = prompt.model.affordable_output_tokens(
        available, input_tokens=prompt.most_input_tokens
    )
    if not SHORTEST_ANSWER_TOKENS <= affordable < prompt.request.max_output_tokens:
        return prompt
    return prompt.with_room(affordable)


def highest_price(prompt: Prompt) -> int:
    """Return the highest price of a call, in micro-credits."""
    return prompt.model.price(Usage(prompt.most_input_tokens, prompt.request.max_output_tokens))


# --- The call -----------------------------------------------------------------------------------


class BrokenOff(ProviderFailed):
    """A stream that the provider broke off: too late for another route, and the operator's loss."""

    default_message = "The AI provider broke off its answer. Nothing was charged."


def make(call: HeldCall, tell: Tell | None) -> Answer:
    """Return the answer of the first route that gives one. `tell` receives its start and pieces.

    If every route of the model fails, asks those of the fallback model before the same deadline.
    The answer's `call` then has that model. The answer may be empty (channels/providers/base.py).
    Raises ContentFiltered or ProviderFailed, and BrokenOff if the caller has already received a
    piece of the answer.
    """
    if tell is not None:
        tell(Begun(call.hold.id, call.admitted_at))
    started = time.monotonic()
    first_token_seconds = _first_token_seconds(call.caller.model)
    patience = Patience(
        first_token_by=started + first_token_seconds,
        stream_by=started + settings.PROVIDER_STREAM_DEADLINE,
        silence_seconds=settings.PROVIDER_STREAM_SILENCE,
        is_long=first_token_seconds > settings.PROVIDER_DEADLINE,
    )
    pieces: list[Delta] = []
    errors: list[ProviderError] = []
    failure: ProviderFailed | None = None
    attempt: HeldCall | None = call
    while attempt is not None:
        request = attempt.prompt.request
        share = patience
        if attempt.caller.fallback:  # gets the other half, in case the last route hangs
            share = patience.halved(now=time.monotonic())
        for route in attempt.routes:
            if time.monotonic() >= share.first_token_by:
                break
            try:
                if tell is None:
                    completion = route.complete(request, patience=share)
                else:
                    on_delta = _keep_and_tell(Answering(route.provider_name), pieces, tell)
                    completion = route.stream(request, patience=share, on_delta=on_delta)
            except ProviderError as error:
                _log_failure(route.provider_name, error)
                _raise_if_final(attempt, error, pieces)
                errors.append(error)
            else:
                usage = measure_usage(attempt, completion)
                duration_seconds = time.monotonic() - started
                return Answer(attempt, route.provider_name, completion, usage, duration_seconds)
        # If the fallback model fails too, the failure of the channel's own model says more.
        failure = failure or _why_none(attempt, errors)
        attempt, errors = _fallback_of(attempt, failure), []
    raise failure or AssertionError("every attempt fails or returns")


def _raise_if_final(call: HeldCall, error: ProviderError, pieces: Sequence[Delta]) -> None:
    """Raise BrokenOff or ContentFiltered if no other route may be asked after this failure."""
    if pieces:
        lost = _estimate(call, "".join(map(text_of_delta, pieces)))
        price = call.caller.model.price(lost)
        raise BrokenOff(reason=error.reason, lost_microcredits=price) from error
    if error.fault is Fault.DECLINED:
        raise ContentFiltered(reason=error.reason) from error


def _fallback_of(call: HeldCall, failure: ProviderFailed) -> HeldCall | None:
    """Return the same call for the channel's fallback model, or None if that is not to be asked.

    It is not if every route refused the request itself, or if the message does not fit its window.
    """
    caller = call.caller
    is_free = any(route.is_free for route in call.routes)
    if caller.fallback is None or is_free or isinstance(failure, RequestRefused):
        return None
    prompt = call.fallback or call.prompt.for_model(caller.fallback, caller.max_answer_tokens)
    if (fitted := prompt.fitted()) is None:
        return None
    other = replace(caller, model=caller.fallback, fallback=None)
    try:
        clients = routes.list_routes(other)
    except AnyDatabaseError:
        return None
    finally:
        db.release_connection()
    fields = {"model": other.model.model_id, "instead_of": caller.model.model_id}
    logger.info("chat.fallback.asked", extra=fields)
    return replace(call, caller=other, prompt=fitted, routes=clients, fallback=None)


def _log_failure(provider_name: str, error: ProviderError) -> None:
    fields = {
        "provider": provider_name,
        "reason": error.reason,
        "permanent": error.permanent,
    }
    # A skipped route was logged when its breaker opened. Do not warn with every message.
    level = logging.INFO if error.reason == BREAKER_OPEN else logging.WARNING
    logger.log(level, "provider.call.failed", extra=fields)


def _why_none(call: HeldCall, errors: Sequence[ProviderError]) -> ProviderFailed:
    """Return the error of a call that no route answered."""
    if errors and all(error.is_refusal for error in errors):
        last = errors[-1]
        return RequestRefused(last.reason, said=last.said, places=last.places)
    if not call.routes:
        logger.error("provider.route.missing")
        return ProviderFailed(
            "No AI provider serves this channel's model. Its owner can choose another model.",
            reason="no_route",
        )
    return ProviderFailed(reason=_telling_reason(errors))


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


# --- Giving back --------------------------------------------------------------------------------


def give_back(hold: PlacedHold, turn: Turn | None, error: BaseException | None = None) -> None:
    """Release the hold and turn of a call without a complete answer, in one short transaction.

    Tokens that the provider used anyway are booked as the operator's loss.
    """
    lost = error.lost_microcredits if isinstance(error, ProviderFailed) else None
    now = timezone.now()
    with transaction.atomic():
        # If a database crash lost the hold, it lost the lease too, and the lease's number may
        # belong to another turn by now.
        if not holds.is_known(hold):
            return
        if turn is not None:
            turns.give_up_turn(turn)
        if lost is None:
            holds.release_hold(hold=hold, now=now)
            return
        billing.absorb_loss(
            hold=hold,
            loss_microcredits=lost,
            now=now,
            reason=_LOSSES.get(type(error), "The provider's answer was empty"),
        )


_LOSSES = {
    BrokenOff: "The provider broke off mid-stream",
    ContentFiltered: "The provider filtered its answer",
}
