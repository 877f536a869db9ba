"""The chat: from a visitor's message to a stored, paid reply."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

from django.db import Error as AnyDatabaseError
from django.db import transaction
from django.utils import timezone

from billing import services as billing
from billing.errors import HoldNotOpen
from channels import routes
from channels.callers import Caller
from conversations import calls, failures, idempotency, selectors, turns
from conversations.calls import Answer, HeldCall, Outcome, Reply, Tell
from conversations.errors import AnsweredTooLate
from conversations.idempotency import Claim
from conversations.messages import insert_messages
from conversations.models import Message
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
    turn = turns.take_turn(
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
    try:
        with transaction.atomic():
            is_kept = turns.end_turn(admission.turn, messages_added=2, now=now)
            # A session that was erased while the provider talked keeps its books, not its text.
            erased_at = None if is_kept else now
            _insert_turn(incoming, admission, reply, now, erased_at)
            # Last, as it locks the account's row, which all of its channels share.
            answer = Answer(call, reply, calls.settle(call, reply, now=now))
            body = render(answer)
            if claim is not None and is_kept:
                idempotency.complete(claim, body)
            elif claim is not None:
                idempotency.free(claim)
    except HoldNotOpen:
        raise AnsweredTooLate from None
    return Outcome(body, answer)


def _insert_turn(
    incoming: Incoming,
    admission: Admission,
    reply: Reply,
    now: datetime,
    erased_at: datetime | None,
) -> None:
    turn, call = admission.turn, admission.call
    is_kept = erased_at is None
    user = Message(
        session_id=turn.session_pk,
        channel_id=call.caller.channel_id,
        is_test=call.caller.is_test,
        position=turn.message_count,
        role=Message.Role.USER,
        content=incoming.message if is_kept else "",
        page_url=incoming.page.url if is_kept else "",
        page_title=incoming.page.title if is_kept else "",
        created_at=call.admitted_at,
        erased_at=erased_at,
    )
    assistant = calls.reply_message(
        call,
        reply,
        now=now,
        session_id=turn.session_pk,
        position=turn.message_count + 1,
        content=reply.completion.text if is_kept else "",
        erased_at=erased_at,
    )
    insert_messages([user, assistant])


def give_back(admission: Admission, error: BaseException) -> None:
    """Release hold and turn of a message that got no whole answer, in one short transaction.

    Where even giving back fails, hold and turn end by themselves when their time has passed.
    """
    now = timezone.now()
    with suppress(AnyDatabaseError), transaction.atomic():
        turns.end_turn(admission.turn, messages_added=0, now=now)
        calls.give_back(admission.call, error, now=now)
