"""From a validated request to a stored and paid answer: the same for every endpoint."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from django.db import Error as AnyDatabaseError
from django.db import transaction
from django.utils import timezone

from billing import holds, settlement
from billing.errors import CreditsExhausted, DailyQuotaReached, HoldNotOpen, SpendCapReached
from billing.settlement import Storing
from channels import catalogue
from channels.authentication import check_model
from channels.callers import Caller
from channels.providers.base import Delta
from channels.providers.faults import CONTENT_FILTER, is_cut, is_filtered
from common import db
from common.errors import ApiError, Overloaded
from conversations.chat import calls, failures, idempotency, turns
from conversations.chat.calls import Answer, Begun, HeldCall, Replay, Tell
from conversations.chat.idempotency import Claim
from conversations.chat.storing import STORE_DRAFT, STORE_REPLY, STORE_TURN
from conversations.errors import (
    AnsweredTooLate,
    ContentFiltered,
    ModelNotFound,
    ProviderFailed,
    RequestRefused,
)
from server import slots


class Format(Protocol):
    """How an endpoint writes a stream. Each method returns complete events."""

    def delta(self, delta: Delta) -> bytes:
        """Return the events of a piece."""
        ...

    def end(self, answer: Answer) -> bytes:
        """Return the events after the last piece."""
        ...

    def error(self, error: Exception) -> bytes:
        """Return the events that end a stream that broke off."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A validated request. message.py and complete.py admit it; its endpoint renders the answer.

    Without `model_id`, the channel's model answers. `session_id` and `page_url` are kept with a
    failure, except that of a draft (drafts.py), which concerns no visitor.
    """

    model_id: str = ""
    session_id: str = ""
    page_url: str = ""
    is_stream: bool = False
    idempotency_key: idempotency.Key | None = None
    simulate: str = ""
    is_draft: bool = False

    def admit(self, caller: Caller, request_id: str) -> HeldCall:
        """Return the call, with a place in the day's quota and credits for its highest price.

        Raises DailyQuotaReached, SpendCapReached, or CreditsExhausted, and what its kind may raise.
        """
        raise NotImplementedError

    def explain(self, call: HeldCall, error: RequestRefused) -> ApiError:
        """Return what the caller reads when every route refused the request itself."""
        return error

    def render(self, answer: Answer) -> bytes:
        """Return the body of an answer, which is sent now and stored for replays."""
        raise NotImplementedError

    def events(self, caller: Caller, begun: Begun) -> Format:
        """Return what writes a running answer as events."""
        raise NotImplementedError

    def replay(self, body: bytes) -> Iterable[bytes]:
        """Return the events of a stored answer."""
        raise NotImplementedError


def answer(
    *, caller: Caller, asked: Asked, request_id: str, tell: Tell | None = None
) -> Answer | Replay:
    """Admit a request, let a provider answer it, and store and charge the answer.

    Runs two statements, each its own transaction, with the provider's call between them. Holds no
    transaction, lock, connection, or slot while the provider answers. `tell` receives a streamed
    answer piece by piece.

    Raises Overloaded, RequestInProgress, IdempotencyKeyReused, DailyQuotaReached, SpendCapReached,
    CreditsExhausted, ContentFiltered, ProviderFailed, and what `Asked.admit` raises. After each of
    these, nothing was charged and no message was stored.
    """
    started = time.monotonic()
    claim = call = None
    try:
        caller = with_model(caller, asked.model_id) if asked.model_id else caller
        with calls.call_gate().call(
            caller.account_id, caller.channel_id, is_only_account=caller.is_only_account
        ):
            if asked.idempotency_key is not None:
                claim = idempotency.claim(
                    caller,
                    asked.idempotency_key,
                    session_id=asked.session_id,
                    is_stream=asked.is_stream,
                )
                if claim.replay is not None:
                    failures.record_replay(
                        claim.replay,
                        caller=caller,
                        request_id=request_id,
                        model_id=asked.model_id or caller.model.model_id,
                        session_id=asked.session_id,
                    )
                    return Replay(claim.replay.encode())
            try:
                call = asked.admit(caller, request_id)
            except (DailyQuotaReached, SpendCapReached, CreditsExhausted) as refusal:
                # What calls that never returned still hold counted against the limit. Try again in
                # any case, because another request may have freed it in the meantime.
                settlement.free_up(account_id=caller.account_id, now=timezone.now())
                if not isinstance(refusal, DailyQuotaReached):
                    # The fallback model may cost more than is left, and the channel's own may not.
                    caller = replace(caller, fallback=None)
                call = asked.admit(caller, request_id)
            db.release_connection()
            with slots.slot_given_back():
                answer = calls.make(call, tell)
            if call.turn is not None or asked.is_draft:
                require_text(answer)
            store(asked, answer, claim)
            return answer
    except BaseException as error:
        give_back(call, claim, error)
        if call is not None and isinstance(error, RequestRefused):
            error = asked.explain(call, error)
        if isinstance(error, Exception) and not isinstance(error, failures.NOT_RECORDED):
            failures.record_failure(
                error,
                caller=caller,
                request_id=request_id,
                model_id=asked.model_id or caller.model.model_id,
                session_id=asked.session_id,
                page_url=asked.page_url,
                duration_seconds=time.monotonic() - started,
                is_draft=asked.is_draft,
            )
        raise error  # noqa: TRY201  # perhaps explained


def with_model(caller: Caller, model_id: str) -> Caller:
    """Return the caller with the terms of the model they ask for.

    Raises ModelNotFound, and NotAllowed for a model of the channel that the key may not use.
    """
    terms = catalogue.find_terms(caller=caller, model_id=model_id)
    if terms is None:
        raise ModelNotFound(model_id)
    check_model(caller, model_id)
    # A caller who names a model wants no other one.
    return replace(caller, model=terms, fallback=None)


def require_text(answer: Answer) -> None:
    """Refuse an answer without visible text. Raises ContentFiltered or ProviderFailed."""
    finish_reason = answer.completion.finish_reason
    if answer.completion.text.strip():
        return
    lost = answer.call.caller.model.price(answer.usage)
    if is_filtered(finish_reason):
        raise ContentFiltered(reason=CONTENT_FILTER, lost_microcredits=lost)
    # If it was cut before the first word, usually by hidden reasoning, a retry would be cut too.
    would_be_again = is_cut(finish_reason)
    raise ProviderFailed(
        "The AI provider's answer was empty. Nothing was charged.",
        reason="empty_length" if would_be_again else "no_text",
        lost_microcredits=lost,
        may_retry=not would_be_again,
    )


def store(asked: Asked, answer: Answer, claim: Claim | None) -> None:
    """Charge the answer, store its messages, and keep its body for replays: all or nothing.

    Sets the answer's settlement and body. Raises AnsweredTooLate if the hold expired before the
    answer came, and Overloaded if the hold was lost.
    """
    call, now = answer.call, timezone.now()
    model = call.caller.model
    statements = STORE_TURN if call.turn is not None else STORE_REPLY
    if asked.is_draft:
        statements = STORE_DRAFT
    storing = Storing(statements, {**call.messages, **_told_of(answer)})
    try:
        # Charging and storing is one statement. Keeping the body as well needs a transaction.
        with transaction.atomic() if claim else nullcontext():
            if call.is_fixed:
                answer.settlement = settlement.settle_free(hold=call.hold, now=now, storing=storing)
            else:
                answer.settlement = settlement.capture_hold(
                    hold=call.hold,
                    charge_microcredits=model.price(answer.usage),
                    now=now,
                    reason=f"{'Draft reply' if asked.is_draft else 'Reply'} by {model.model_id}",
                    request_id=call.hold.request_id,
                    storing=storing,
                )
            answer.body = asked.render(answer)
            if claim is not None and (call.turn is None or turns.is_kept(call.turn)):
                idempotency.complete(claim, answer.body)
            elif claim is not None:
                idempotency.free(claim)
    except HoldNotOpen:
        if holds.is_known(call.hold):
            raise AnsweredTooLate from None
        message = "The gateway lost its database while answering. Nothing was charged."
        raise Overloaded(message) from None


def _told_of(answer: Answer) -> dict[str, Any]:
    """Return the parameters that store a reply: what it cost and why, and its text in a session."""
    caller, model, usage = answer.call.caller, answer.call.caller.model, answer.usage
    return {
        "channel": db.param(caller.channel_id),
        "is_test": caller.is_test,
        "request_model": model.model_id,
        "response_model": answer.completion.response_model,
        "provider_name": answer.provider_name,
        "reply_text": answer.completion.text,
        "finish_reason": answer.completion.finish_reason,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_input_tokens": usage.cached_input_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "is_estimated": usage.is_estimated,
        "price_per_reply": model.per_reply,
        "price_per_1k_input": model.per_1k_input,
        "price_per_1k_output": model.per_1k_output,
        "price_per_1k_cached_input": model.per_1k_cached_input,
        "duration_ms": int(answer.duration_seconds * 1000),
        "prompt_version": caller.prompt_version,
        "api_key": db.param(caller.key_id) if caller.key_id else None,
    }


def give_back(call: HeldCall | None, claim: Claim | None, error: BaseException | None) -> None:
    """Release the hold, the turn, and the key of a request without a complete answer.

    Tokens that the provider used anyway are booked as the operator's loss. If even this fails, the
    hold, the turn, and the key expire by themselves.
    """
    with suppress(AnyDatabaseError):
        if call is not None:
            calls.give_back(call.hold, call.turn, error)
    with suppress(AnyDatabaseError):
        if claim is not None:
            idempotency.free(claim)
