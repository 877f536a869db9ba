"""The chat: from a visitor's message to a stored, paid reply."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

from django.db import Error as AnyDatabaseError
from django.db import transaction
from django.utils import timezone

from billing import services as billing
from billing.errors import HoldNotOpen
from billing.services import Storing
from channels import routes
from channels.callers import Caller
from common import db
from common.ids import uuid7
from conversations import calls, failures, idempotency, selectors, turns
from conversations.calls import Answer, HeldCall, Outcome, Reply, Tell
from conversations.errors import AnsweredTooLate
from conversations.idempotency import Claim
from conversations.messages import STORE_TURN
from conversations.prompts import Page, build_prompt
from conversations.turns import Turn


@dataclass(frozen=True, slots=True)
class Incoming:
    """A visitor's message, validated: trimmed text, the caller's session id, the page."""

    message: str
    session_id: str
    page: Page = Page()  # noqa: RUF009  # frozen
    idempotency_key: idempotency.Key | None = None
    is_stream: bool = False
    simulate: str = ""


@dataclass(frozen=True, slots=True)
class Admission:
    """Everything a message has when its call begins: its turn, and a call that may be made."""

    turn: Turn
    call: HeldCall


def answer_message(
    *,
    caller: Caller,
    incoming: Incoming,
    request_id: str,
    render: Callable[[Answer], bytes],
    tell: Tell | None = None,
) -> Outcome:
    """Admit a message, let a provider answer it, store and charge the turn.

    Two short transactions with the provider's call between them; no transaction, lock or
    connection is held while the provider talks. `render` makes the body that is sent now and
    stored for replays; `tell` hears a streamed reply piece by piece. Raises Overloaded,
    RequestInProgress, IdempotencyKeyReused, SessionBusy, DailyQuotaReached, CreditsExhausted or
    ProviderFailed; each of them charged nothing and stored no message.
    """
    with (
        failures.recorded(
            caller,
            request_id=request_id,
            model_id=caller.model.model_id,
            session_id=incoming.session_id,
            page_url=incoming.page.url,
        ),
        calls.call_gate().call(caller.channel_id),
        idempotency.claimed(
            caller,
            incoming.idempotency_key,
            session_id=incoming.session_id,
            is_stream=incoming.is_stream,
        ) as claim,
    ):
        if claim is not None and claim.replay is not None:
            return Outcome(claim.replay.encode(), answer=None)
        with admitted(caller, incoming, request_id) as admission:
            reply = calls.make(admission.call, tell)
            return store_turn(incoming, admission, reply, claim, render)


# --- Admission ----------------------------------------------------------------------------------


@contextmanager
def admitted(caller: Caller, incoming: Incoming, request_id: str) -> Iterator[Admission]:
    """Admit a message for the block; where the block raises, give everything back."""
    admission = admit_message(caller, incoming, request_id)
    try:
        yield admission
    except BaseException as error:
        give_back(admission, error)
        raise


def admit_message(caller: Caller, incoming: Incoming, request_id: str) -> Admission:
    """Wait for the session's turn, then take turn, quota and credits in one transaction."""

    def start(ticket: int | None) -> Admission:
        return calls.freeing_up(caller, lambda: _admit(caller, incoming, request_id, ticket))

    return turns.in_turn(caller=caller, session_id=incoming.session_id, start=start)


@transaction.atomic
def _admit(caller: Caller, incoming: Incoming, request_id: str, ticket: int | None) -> Admission:
    now = timezone.now()
    # One moment for both: a turn that can no longer be charged can no longer be stored either.
    expires_at = calls.hold_until(now, is_stream=incoming.is_stream)
    turn, newest = turns.take_turn(
        caller=caller,
        session_id=incoming.session_id,
        now=now,
        expires_at=expires_at,
        ticket=ticket,
    )
    prompt = build_prompt(
        model=caller.model,
        system_prompt=caller.system_prompt,
        page=incoming.page,
        latest_turns=selectors.latest_turns(
            newest,
            session_pk=turn.session_pk,
            message_count=turn.message_count,
            model_id=caller.model.model_id,
        ),
        message=incoming.message,
    )
    fixed_answer = None
    if not incoming.simulate:
        fixed_answer = routes.find_fixed_answer(caller, incoming.message)
    if fixed_answer:
        clients, highest_price = [fixed_answer], 0
    else:
        clients = routes.list_routes(caller, simulate=incoming.simulate)
        prompt = calls.within_means(caller, prompt, now=now)
        highest_price = calls.highest_price(caller, prompt)
    hold = billing.place_hold(
        caller=caller,
        amount_microcredits=highest_price,
        now=now,
        expires_at=expires_at,
        request_id=request_id,
    )
    return Admission(turn, HeldCall(caller, hold, prompt, clients, now, bool(fixed_answer)))


# --- Settlement ---------------------------------------------------------------------------------


def store_turn(
    incoming: Incoming,
    admission: Admission,
    reply: Reply,
    claim: Claim | None,
    render: Callable[[Answer], bytes],
) -> Outcome:
    """Store both messages, capture the hold and keep the body for replays: all or nothing.

    Raises ProviderFailed where the answer came after its hold had expired.
    """
    call = admission.call
    now = timezone.now()
    storing = Storing(STORE_TURN, _told_of_turn(incoming, admission, reply))
    try:
        # Charging and storing is all or nothing by itself; with a body to keep, so are all three.
        with transaction.atomic() if claim else nullcontext():
            answer = Answer(call, reply, calls.settle(call, reply, now=now, storing=storing))
            body = render(answer)
            if claim is not None and turns.is_kept(admission.turn):
                idempotency.complete(claim, body)
            elif claim is not None:
                idempotency.free(claim)
    except HoldNotOpen:
        raise AnsweredTooLate from None
    return Outcome(body, answer)


def _told_of_turn(incoming: Incoming, admission: Admission, reply: Reply) -> dict[str, Any]:
    turn, call = admission.turn, admission.call
    return {
        **calls.told_of(call, reply),
        "session": turn.session_pk,
        "lease_number": turn.lease_number,
        "position": turn.message_count,
        "user_message": uuid7().hex,
        "user_text": incoming.message,
        "page_url": incoming.page.url,
        "page_title": incoming.page.title,
        "admitted_at": db.time_param(call.admitted_at),
        "reply_text": reply.completion.text,
    }


def give_back(admission: Admission, error: BaseException) -> None:
    """Release hold and turn of a message that got no whole answer, in one short transaction.

    Where even giving back fails, hold and turn end by themselves when their time has passed.
    """
    now = timezone.now()
    with suppress(AnyDatabaseError), transaction.atomic():
        turns.give_up_turn(admission.turn)
        calls.give_back(admission.call, error, now=now)
