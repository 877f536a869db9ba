"""The chat: from a visitor's message to a stored, paid reply; and the end of sessions."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.db import transaction
from django.utils import timezone

from billing import holds
from billing import services as billing
from billing.errors import CreditsExhausted, DailyQuotaReached, HoldNotOpen
from billing.holds import PlacedHold
from billing.services import Settlement
from channels import routes
from channels.callers import Caller
from channels.errors import ProviderError
from channels.providers.base import Completion, OnDelta, Patience, ProviderClient
from common import db, slots
from common.tokens import estimate_tokens
from conversations import idempotency, selectors, turns
from conversations.errors import ProviderFailed
from conversations.idempotency import Claim
from conversations.models import ChatSession, IdempotencyRecord, Message, WaitingTurn
from conversations.prompts import Page, Prompt, build_prompt
from conversations.turns import Turn

logger = logging.getLogger("gateway.conversations")

# Less than this is no answer: then the message is refused for want of credits.
SHORTEST_ANSWER_TOKENS = 64

EXPIRE_BATCH = 500


@dataclass(frozen=True, slots=True)
class Incoming:
    """A visitor's message, validated: trimmed text, the caller's session id, the page."""

    message: str
    session_id: str
    page: Page = Page()  # noqa: RUF009  # frozen
    idempotency_key: idempotency.Key | None = None
    is_stream: bool = False
    simulate: str = ""

    @property
    def deadline_seconds(self) -> int:
        """How long its call may take in all."""
        return settings.PROVIDER_STREAM_DEADLINE if self.is_stream else settings.PROVIDER_DEADLINE


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply, stored and paid for. Credits are micro-credits."""

    reply: str
    session_id: str
    message_id: uuid.UUID
    model_id: str
    provider_name: str
    finish_reason: str
    usage: Usage
    settlement: Settlement
    messages_today: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The body to send; without an `answer` it is the replay of an earlier one."""

    body: bytes
    answer: Answer | None


@dataclass(frozen=True, slots=True)
class Admission:
    """Everything a message has when its call begins: its turn, its hold, its prompt, its routes."""

    turn: Turn
    hold: PlacedHold
    prompt: Prompt
    routes: Sequence[ProviderClient]
    admitted_at: datetime


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, and whether they had to be estimated."""

    input_tokens: int
    output_tokens: int
    is_estimated: bool


def answer_message(
    *,
    caller: Caller,
    incoming: Incoming,
    request_id: str,
    render: Callable[[Answer], bytes],
    on_delta: OnDelta | None = None,
) -> Outcome:
    """Admit a message, let a provider answer it, store and charge the turn.

    Two short transactions with the provider's call between them; no transaction, lock or
    connection is held while the provider talks. `render` makes the body that is sent now and
    stored for replays; `on_delta` gets a streamed reply piece by piece. Raises Overloaded,
    RequestInProgress, IdempotencyKeyReused, SessionBusy, DailyQuotaReached, CreditsExhausted or
    ProviderFailed; each of them charged nothing and stored nothing.
    """
    with _call_gate().call(caller.channel_id), idempotency.claimed(caller, incoming) as claim:
        if claim is not None and claim.replay is not None:
            return Outcome(claim.replay.encode(), answer=None)
        with admitted(caller, incoming, request_id) as admission:
            db.release_connection()
            started = time.monotonic()
            with slots.slot_given_back():
                provider_name, completion = call_provider(admission, on_delta)
            call = Call(request_id, provider_name, completion, time.monotonic() - started)
            return store_turn(caller, incoming, admission, call, claim, render)


@cache
def _call_gate() -> slots.CallGate:
    return slots.CallGate(settings.PROVIDER_CALLS)


# --- Admission ----------------------------------------------------------------------------------


@contextmanager
def admitted(caller: Caller, incoming: Incoming, request_id: str) -> Iterator[Admission]:
    """Admit a message for the block; where the block raises, give everything back."""
    admission = admit_message(caller, incoming, request_id)
    try:
        yield admission
    except BaseException as error:
        give_back(caller, admission, error)
        raise


def admit_message(caller: Caller, incoming: Incoming, request_id: str) -> Admission:
    """Wait for the session's turn, then take turn, quota and credits in one transaction."""

    def start(ticket: int | None) -> Admission:
        try:
            return _admit(caller, incoming, request_id, ticket)
        except (DailyQuotaReached, CreditsExhausted):
            # Calls that never came back may still hold what this one needs. Asked again whatever
            # this frees: another request may have freed it in between.
            billing.free_up(account_id=caller.account_id, now=timezone.now())
            return _admit(caller, incoming, request_id, ticket)

    return turns.in_turn(caller=caller, session_id=incoming.session_id, start=start)


@transaction.atomic
def _admit(caller: Caller, incoming: Incoming, request_id: str, ticket: int | None) -> Admission:
    now = timezone.now()
    # One moment for both: a turn that can no longer be charged can no longer be stored either.
    lifetime = incoming.deadline_seconds + settings.HOLD_GRACE_SECONDS
    expires_at = now + timedelta(seconds=lifetime)
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
    fixed_answer = routes.find_fixed_answer(caller, incoming.message)
    if fixed_answer:
        clients, highest_price = [fixed_answer], 0
    else:
        clients = routes.list_routes(caller, simulate=incoming.simulate)
        prompt = within_means(caller, prompt, now)
        highest_price = caller.model.price(
            input_tokens=prompt.most_input_tokens, output_tokens=prompt.max_output_tokens
        )
    hold = billing.place_hold(
        caller=caller,
        amount_microcredits=highest_price,
        now=now,
        expires_at=expires_at,
        request_id=request_id,
    )
    return Admission(turn, hold, prompt, clients, now)


def within_means(caller: Caller, prompt: Prompt, now: datetime) -> Prompt:
    """Shorten the answer to what the balance can pay, where tokens of it cost anything.

    The hold that follows is what decides; this only keeps a small balance from being refused
    for an answer longer than it needs.
    """
    if not caller.model.per_1k_output or caller.is_test:
        return prompt
    available = billing.get_available_microcredits(account_id=caller.account_id, now=now)
    affordable = caller.model.affordable_output_tokens(
        available, input_tokens=prompt.most_input_tokens
    )
    if not SHORTEST_ANSWER_TOKENS <= affordable < prompt.max_output_tokens:
        return prompt
    return prompt.with_room(affordable)


# --- The call -----------------------------------------------------------------------------------


class BrokenOff(ProviderFailed):
    """The provider broke off in mid-stream: too late for another route, and our own loss."""

    def __init__(self, text: str) -> None:
        super().__init__("The AI provider broke off its answer. Nothing was charged.")
        self.text = text


def call_provider(admission: Admission, on_delta: OnDelta | None) -> tuple[str, Completion]:
    """Return the name and answer of the first route that answers.

    Raises ProviderFailed, and BrokenOff once a piece of the reply has gone to the caller.
    """
    now = time.monotonic()
    patience = Patience(
        first_token_by=now + settings.PROVIDER_DEADLINE,
        stream_by=now + settings.PROVIDER_STREAM_DEADLINE,
        silence_seconds=settings.PROVIDER_STREAM_SILENCE,
    )
    pieces: list[str] = []
    for route in admission.routes:
        if time.monotonic() >= patience.first_token_by:
            break
        try:
            return route.provider_name, _ask(route, admission.prompt, patience, pieces, on_delta)
        except ProviderError as error:
            fields = {"provider": route.provider_name, "reason": error.reason}
            logger.warning("provider.call.failed", extra=fields | {"permanent": error.permanent})
            if pieces:
                raise BrokenOff("".join(pieces)) from error
    if not admission.routes:
        logger.error("provider.route.missing")
        raise ProviderFailed(
            "No AI provider serves this channel's model. Its owner can choose another model."
        )
    raise ProviderFailed


def _ask(
    route: ProviderClient,
    prompt: Prompt,
    patience: Patience,
    pieces: list[str],
    on_delta: OnDelta | None,
) -> Completion:
    """Ask one route, keeping what has gone out already."""
    room = prompt.max_output_tokens
    if on_delta is None:
        return route.complete(prompt.messages, max_output_tokens=room, patience=patience)

    def take(text: str) -> None:
        pieces.append(text)
        on_delta(text)

    return route.stream(prompt.messages, max_output_tokens=room, patience=patience, on_delta=take)


def measure_usage(caller: Caller, prompt: Prompt, completion: Completion) -> Usage:
    """Return the reported usage, or an estimate where it is missing or cannot be true."""
    window = caller.model.context_window_tokens
    reported = completion.input_tokens, completion.output_tokens
    if all(count is not None and count <= window for count in reported):
        return Usage(completion.input_tokens or 0, completion.output_tokens or 0, False)
    return Usage(
        min(prompt.estimated_input_tokens(), window),
        min(estimate_tokens(completion.text), prompt.max_output_tokens),
        True,
    )


# --- Settlement ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """A provider's answer and how it came about."""

    request_id: str
    provider_name: str
    completion: Completion
    duration_seconds: float


def store_turn(
    caller: Caller,
    incoming: Incoming,
    admission: Admission,
    call: Call,
    claim: Claim | None,
    render: Callable[[Answer], bytes],
) -> Outcome:
    """Store both messages, capture the hold and keep the body for replays: all or nothing.

    Raises ProviderFailed where the answer came after its hold had expired.
    """
    usage = measure_usage(caller, admission.prompt, call.completion)
    price = caller.model.price(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
    now = timezone.now()
    try:
        with transaction.atomic():
            is_kept = turns.end_turn(admission.turn, messages_added=2, now=now)
            settlement = billing.capture_hold(
                hold=admission.hold,
                charge_microcredits=price,
                now=now,
                reason=f"Reply by {caller.model.model_id}",
                request_id=call.request_id,
            )
            answer = Answer(
                reply=call.completion.text,
                session_id=incoming.session_id,
                message_id=admission.hold.id,
                model_id=caller.model.model_id,
                provider_name=call.provider_name,
                finish_reason=call.completion.finish_reason,
                usage=usage,
                settlement=settlement,
                messages_today=admission.hold.messages_today,
            )
            # A session that was erased while the provider talked keeps its books, not its text.
            erased_at = None if is_kept else now
            _insert_turn(caller, incoming, admission, call, answer, now, erased_at)
            body = render(answer)
            if claim is not None and is_kept:
                idempotency.complete(claim, body)
            elif claim is not None:
                idempotency.free(claim)
    except HoldNotOpen:
        raise ProviderFailed("The AI provider answered too late. Nothing was charged.") from None
    return Outcome(body, answer)


def _insert_turn(
    caller: Caller,
    incoming: Incoming,
    admission: Admission,
    call: Call,
    answer: Answer,
    now: datetime,
    erased_at: datetime | None,
) -> None:
    both = {
        "session_id": admission.turn.session_pk,
        "channel_id": caller.channel_id,
        "is_test": caller.is_test,
        "erased_at": erased_at,
    }
    is_kept = erased_at is None
    user = Message(
        **both,
        position=admission.turn.message_count,
        role=Message.Role.USER,
        content=incoming.message if is_kept else "",
        page_url=incoming.page.url if is_kept else "",
        page_title=incoming.page.title if is_kept else "",
        created_at=admission.admitted_at,
    )
    assistant = Message(
        **both,
        id=answer.message_id,
        position=admission.turn.message_count + 1,
        role=Message.Role.ASSISTANT,
        content=answer.reply if is_kept else "",
        created_at=now,
        request_id=call.request_id,
        request_model=answer.model_id,
        response_model=call.completion.response_model,
        provider_name=call.provider_name,
        finish_reason=answer.finish_reason,
        input_tokens=answer.usage.input_tokens,
        output_tokens=answer.usage.output_tokens,
        is_estimated=answer.usage.is_estimated,
        charged_microcredits=answer.settlement.charged_microcredits,
        price_per_reply=caller.model.per_reply,
        price_per_1k_input=caller.model.per_1k_input,
        price_per_1k_output=caller.model.per_1k_output,
        duration_ms=int(call.duration_seconds * 1000),
    )
    Message.objects.bulk_create([user, assistant])


def give_back(caller: Caller, admission: Admission, error: BaseException) -> None:
    """Release hold and turn of a message that got no whole answer.

    What a provider had said before it broke off is booked to the operator. Where even giving
    back fails, hold and turn end by themselves when their time has passed.
    """
    now = timezone.now()
    with suppress(AnyDatabaseError):
        if isinstance(error, BrokenOff):
            loss = caller.model.price(
                input_tokens=admission.prompt.estimated_input_tokens(),
                output_tokens=estimate_tokens(error.text),
            )
            billing.absorb_loss(hold=admission.hold, loss_microcredits=loss, now=now)
        else:
            holds.release_hold(hold=admission.hold, now=now)
        turns.end_turn(admission.turn, messages_added=0, now=now)


# --- The end of sessions ------------------------------------------------------------------------


@transaction.atomic
def erase_history(*, caller: Caller, session_id: str) -> int:
    """Erase the text of a session for good, keeping tokens and charges; return messages erased.

    Earlier conversations under the same session id are erased with it.
    """
    now = timezone.now()
    sessions = ChatSession.objects.filter(
        channel_id=caller.channel_id, is_test=caller.is_test, session_id=session_id
    )
    sessions.filter(closed_at=None).update(closed_at=now, lease_expires_at=None)
    # Stored replays hold the reply's text too.
    IdempotencyRecord.objects.filter(
        channel_id=caller.channel_id, is_test=caller.is_test, session_id=session_id
    ).exclude(body=None).delete()
    return _erase_text(list(sessions.values_list("id", flat=True)), now=now)


def expire_stale_sessions(*, now: datetime) -> tuple[int, int]:
    """Close sessions past their lifetime and erase text past retention; return both counts.

    Only tidies: whether a session is alive is arithmetic wherever one is read.
    """
    stale_before = now - timedelta(seconds=settings.SESSION_TTL)
    stale = ChatSession.objects.filter(closed_at=None, last_message_at__lte=stale_before).exclude(
        lease_expires_at__gt=now
    )
    closed = stale.update(closed_at=now, lease_expires_at=None)
    WaitingTurn.objects.filter(expires_at__lte=now).delete()
    idempotency.delete_expired(now=now)
    return closed, _erase_past_retention(now)


def _erase_past_retention(now: datetime) -> int:
    """Erase in small transactions, so that no request waits long for a row."""
    kept_since = now - timedelta(days=settings.SESSION_RETENTION_DAYS)
    old = ChatSession.objects.filter(
        last_message_at__lte=kept_since, messages__erased_at=None, messages__isnull=False
    ).distinct()
    erased = 0
    while session_pks := list(old.values_list("id", flat=True)[:EXPIRE_BATCH]):
        erased += _erase_text(session_pks, now=now)
    return erased


def _erase_text(session_pks: list[int], *, now: datetime) -> int:
    return Message.objects.filter(session_id__in=session_pks, erased_at=None).update(
        content="", page_url="", page_title="", erased_at=now
    )
