"""The chat: from a visitor's message to a stored and paid reply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime

from django.db import Error as AnyDatabaseError
from django.db import transaction
from django.utils import timezone

from billing import admission, holds
from billing.errors import CreditsExhausted, DailyQuotaReached, HoldNotOpen
from billing.holds import PlacedHold
from billing.settlement import Storing
from channels import routes
from channels.callers import Caller
from channels.providers.base import ProviderClient
from channels.providers.faults import CONTENT_FILTER, is_cut, is_filtered
from common import db
from common.ids import uuid7
from conversations.chat import calls, failures, history, idempotency, turns
from conversations.chat.calls import Answer, HeldCall, Outcome, Reply, Tell
from conversations.chat.history import MessageRow
from conversations.chat.idempotency import Claim
from conversations.chat.prompt import Page, Prompt, build_prompt
from conversations.chat.storing import STORE_TURN
from conversations.chat.turns import Turn
from conversations.errors import ContentFiltered, ProviderFailed


@dataclass(frozen=True, slots=True)
class Incoming:
    """A visitor's validated message: trimmed text, the caller's session id, and the page."""

    message: str
    session_id: str
    page: Page = Page()  # noqa: RUF009  # frozen
    idempotency_key: idempotency.Key | None = None
    is_stream: bool = False
    simulate: str = ""


@dataclass(frozen=True, slots=True)
class Admission:
    """What a message has when its call begins: its turn, and a call whose cost is held."""

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
    """Admit a message, let a provider answer it, and store and charge the turn.

    Runs two statements, each its own transaction, with the provider's call between them. Holds no
    transaction, lock, or connection while the provider answers. `render` creates the body, which is
    sent now and stored for replays. `tell` receives a streamed reply piece by piece.

    Raises Overloaded, RequestInProgress, IdempotencyKeyReused, SessionBusy, DailyQuotaReached,
    CreditsExhausted, ContentFiltered, or ProviderFailed. After each of these, nothing was charged
    and no message was stored.
    """
    with (
        failures.recorded(
            caller,
            request_id=request_id,
            model_id=caller.model.model_id,
            session_id=incoming.session_id,
            page_url=incoming.page.url,
        ),
        calls.in_flight(caller),
        idempotency.claimed(
            caller,
            incoming.idempotency_key,
            session_id=incoming.session_id,
            is_stream=incoming.is_stream,
        ) as claim,
    ):
        if claim is not None and claim.replay is not None:
            failures.record_replay(
                caller,
                request_id=request_id,
                model_id=caller.model.model_id,
                body=claim.replay,
                session_id=incoming.session_id,
            )
            return Outcome(claim.replay.encode(), answer=None)
        admission = admit(caller, incoming, request_id)
        try:
            reply = calls.make(admission.call, tell)
            require_text(reply)
            return store_turn(incoming, admission, reply, claim, render)
        except BaseException as error:
            give_back(caller, admission.turn, admission.call.hold, error)
            raise


# --- Admission ----------------------------------------------------------------------------------


def admit(caller: Caller, incoming: Incoming, request_id: str) -> Admission:
    """Wait for the session's turn, and take it with a message of the quota and the credits.

    Raises SessionBusy, DailyQuotaReached, or CreditsExhausted.
    """
    session_id = incoming.session_id
    with closing(turns.attempts(caller=caller, session_id=session_id)) as attempts:
        while True:
            ticket = next(attempts)
            try:
                admission = _try_to_admit(caller, incoming, request_id, ticket)
            except (DailyQuotaReached, CreditsExhausted):
                calls.free_up(caller)
                admission = _try_to_admit(caller, incoming, request_id, ticket)
            if admission is not None:
                return admission


def _try_to_admit(
    caller: Caller, incoming: Incoming, request_id: str, ticket: int | None
) -> Admission | None:
    """Take turn, quota, and credits, or none of them. Returns them with the prompt and the routes.

    Takes them in one statement, which also reads the session's newest messages. Returns None if
    another turn runs or is ahead in the queue. Raises DailyQuotaReached or CreditsExhausted.
    """
    now = timezone.now()
    session_id = incoming.session_id
    clients, is_fixed = _list_clients(caller, incoming)
    is_free = is_fixed or caller.is_test or routes.is_free(clients)
    foreseen = None if is_free or caller.model.is_flat else _foresee(caller, incoming, now)
    price = 0 if is_free else foreseen.highest_price if foreseen else caller.model.per_reply
    placement = admission.try_hold(
        caller=caller,
        amount_microcredits=price,
        now=now,
        # The end of both hold and lease, so a turn that cannot be charged cannot be stored either.
        expires_at=calls.hold_until(now, caller.model, is_stream=incoming.is_stream),
        request_id=request_id,
        opening=turns.opening(caller=caller, session_id=session_id, now=now, ticket=ticket),
    )
    opened = turns.read_turn(placement.opened)
    if placement.refusal:
        if opened:  # the limit was reached at this very moment
            turns.give_up_turn(opened[0])
        raise placement.refusal
    if placement.hold is None or opened is None:
        was_expired = turns.close_expired(caller=caller, session_id=session_id, now=now)
        return _try_to_admit(caller, incoming, request_id, ticket) if was_expired else None
    (turn, newest), hold = opened, placement.hold
    try:
        if foreseen is None:
            prompt = _build_prompt(caller, incoming, turn.session_pk, turn.message_count, newest)
        elif foreseen.is_still_so(turn):
            prompt = foreseen.prompt
        else:  # another turn ran between the read and ours
            give_back(caller, turn, hold)
            return None
    except BaseException as error:
        give_back(caller, turn, hold, error)
        raise
    return Admission(turn, HeldCall(caller, hold, prompt, clients, now, is_fixed))


def _list_clients(caller: Caller, incoming: Incoming) -> tuple[Sequence[ProviderClient], bool]:
    """Return the routes to ask, in order, and whether the answer is the owner's saved reply."""
    if caller.has_fixed_answers and not incoming.simulate:
        fixed_answer = routes.find_fixed_answer(caller, incoming.message)
        if fixed_answer:
            return [fixed_answer], True
    return routes.list_routes(caller, simulate=incoming.simulate), False


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A prompt and the most it can cost, valid while the conversation has not changed since."""

    session_pk: int
    message_count: int
    prompt: Prompt
    highest_price: int

    def is_still_so(self, turn: Turn) -> bool:
        """Return whether the turn found the same conversation.

        Every session without messages counts as the same.
        """
        if not self.message_count:
            return not turn.message_count
        return (self.session_pk, self.message_count) == (turn.session_pk, turn.message_count)


def _foresee(caller: Caller, incoming: Incoming, now: datetime) -> Foreseen:
    """Return the prompt and the most it can cost, before the turn is taken.

    Needed if tokens have a price: the hold that comes with the turn must cover the prompt.
    """
    session = history.find_open_session(caller=caller, session_id=incoming.session_id, now=now)
    session_pk, message_count = session or (0, 0)
    prompt = _build_prompt(caller, incoming, session_pk, message_count, ())
    prompt = calls.within_means(caller, prompt, now=now)
    return Foreseen(session_pk, message_count, prompt, calls.highest_price(caller, prompt))


def _build_prompt(
    caller: Caller,
    incoming: Incoming,
    session_pk: int,
    message_count: int,
    newest: Sequence[MessageRow],
) -> Prompt:
    return build_prompt(
        model=caller.model,
        system_prompt=caller.system_prompt,
        page=incoming.page,
        latest_turns=history.latest_turns(
            newest,
            session_pk=session_pk,
            message_count=message_count,
            model_id=caller.model.model_id,
        ),
        message=incoming.message,
    )


# --- Settlement ---------------------------------------------------------------------------------


def require_text(reply: Reply) -> None:
    """Refuse an answer without visible text. Raises ContentFiltered or ProviderFailed."""
    finish_reason = reply.completion.finish_reason
    if reply.completion.text.strip():
        return
    if is_filtered(finish_reason):
        raise ContentFiltered(reason=CONTENT_FILTER, lost=reply.usage)
    # If it was cut before the first word, usually by hidden reasoning, a retry would be cut too.
    would_be_again = is_cut(finish_reason)
    raise ProviderFailed(
        "The AI provider's answer was empty. Nothing was charged.",
        reason="empty_length" if would_be_again else "no_text",
        lost=reply.usage,
        may_retry=not would_be_again,
    )


def store_turn(
    incoming: Incoming,
    admission: Admission,
    reply: Reply,
    claim: Claim | None,
    render: Callable[[Answer], bytes],
) -> Outcome:
    """Store both messages, capture the hold, and keep the body for replays: all or nothing.

    Raises ProviderFailed if the hold expired before the answer came, and Overloaded if the hold
    was lost.
    """
    turn, call = admission.turn, admission.call
    now = timezone.now()
    told = {
        **calls.told_of(call, reply),
        "session": turn.session_pk,
        "lease_number": turn.lease_number,
        "position": turn.message_count,
        "user_message": db.uuid_param(uuid7()),
        "user_text": incoming.message,
        "page_url": incoming.page.url,
        "page_title": incoming.page.title,
        "admitted_at": db.time_param(call.admitted_at),
        "reply_text": reply.completion.text,
    }
    storing = Storing(STORE_TURN, told)
    try:
        # Charging and storing is one statement. Keeping the body as well needs a transaction.
        with transaction.atomic() if claim else nullcontext():
            answer = Answer(call, reply, calls.settle(call, reply, now=now, storing=storing))
            body = render(answer)
            if claim is not None and turns.is_kept(turn):
                idempotency.complete(claim, body)
            elif claim is not None:
                idempotency.free(claim)
    except HoldNotOpen:
        raise calls.why_not_open(call) from None
    return Outcome(body, answer)


def give_back(
    caller: Caller, turn: Turn, hold: PlacedHold, error: BaseException | None = None
) -> None:
    """Release the hold and turn of a message without a complete answer, in one short transaction.

    If even this fails, the hold and the turn expire by themselves.
    """
    with suppress(AnyDatabaseError), transaction.atomic():
        # If a database crash lost the hold, it lost the lease too, and the lease's number may
        # belong to another turn by now.
        if holds.is_known(hold):
            turns.give_up_turn(turn)
            calls.give_back(caller, hold, error, now=timezone.now())
