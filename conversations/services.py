"""The chat: from a visitor's message to a stored, paid reply; and the end of sessions."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import DatabaseError, transaction
from django.utils import timezone

from billing import selectors as billing_selectors
from billing import services as billing
from billing.errors import CreditsExhausted, DailyQuotaReached, HoldNotOpen
from billing.services import PlacedHold, Settlement
from channels import services as channels
from channels.callers import Caller
from channels.errors import ProviderError
from channels.providers.base import Completion, ProviderClient
from common import db
from common.ids import uuid7
from common.tokens import estimate_tokens
from conversations import selectors, turns
from conversations.errors import ProviderFailed
from conversations.models import ChatSession, Message, WaitingTurn
from conversations.prompts import Page, Prompt, build_prompt
from conversations.turns import Turn

logger = logging.getLogger("gateway.conversations")

EXPIRE_BATCH = 500


@dataclass(frozen=True, slots=True)
class Incoming:
    """A visitor's message, validated: trimmed text, the caller's session id, the page."""

    message: str
    session_id: str
    page: Page = Page()  # noqa: RUF009  # frozen


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply, stored and paid for. Credits are micro-credits."""

    reply: str
    session_id: str
    message_id: uuid.UUID
    model_id: str
    provider_name: str
    finish_reason: str
    input_tokens: int
    output_tokens: int
    is_estimated: bool
    charged_microcredits: int
    available_microcredits: int


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


def answer_message(*, caller: Caller, incoming: Incoming, request_id: str) -> Answer:
    """Admit a message, let a provider answer it, store and charge the turn.

    Two short transactions with the provider's call between them; no transaction, lock or
    connection is held while the provider talks. Raises SessionBusy, DailyQuotaReached,
    CreditsExhausted or ProviderFailed; each of them charged nothing and stored nothing.
    """
    admission = admit_message(caller=caller, incoming=incoming, request_id=request_id)
    db.release_connection()
    started = time.monotonic()
    try:
        provider_name, completion = call_provider(
            admission.routes, admission.prompt, deadline=started + settings.PROVIDER_DEADLINE
        )
        return store_turn(
            caller=caller,
            incoming=incoming,
            admission=admission,
            provider_name=provider_name,
            completion=completion,
            duration_seconds=time.monotonic() - started,
            request_id=request_id,
        )
    except BaseException:
        give_back(admission)
        raise


# --- Admission ----------------------------------------------------------------------------------


def admit_message(*, caller: Caller, incoming: Incoming, request_id: str) -> Admission:
    """Wait for the session's turn, then take turn, quota and credits in one transaction."""

    def start(ticket: int | None) -> Admission:
        try:
            return _admit(caller, incoming, request_id, ticket)
        except (DailyQuotaReached, CreditsExhausted):
            # Calls that never came back may still hold what this one needs.
            if not billing.expire_holds(account_id=caller.account_id, now=timezone.now()):
                raise
            return _admit(caller, incoming, request_id, ticket)

    return turns.in_turn(caller=caller, session_id=incoming.session_id, start=start)


@transaction.atomic
def _admit(caller: Caller, incoming: Incoming, request_id: str, ticket: int | None) -> Admission:
    now = timezone.now()
    # One moment for both: a turn that can no longer be charged can no longer be stored either.
    expires_at = now + timedelta(seconds=settings.PROVIDER_DEADLINE + settings.HOLD_GRACE_SECONDS)
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
            session_pk=turn.session_pk, message_count=turn.message_count
        ),
        message=incoming.message,
    )
    routes = channels.list_routes(caller)
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
    return Admission(turn, hold, prompt, routes, now)


# --- The call -----------------------------------------------------------------------------------


def call_provider(
    routes: Sequence[ProviderClient], prompt: Prompt, *, deadline: float
) -> tuple[str, Completion]:
    """Return the name and answer of the first route that answers. Raises ProviderFailed."""
    for route in routes:
        if time.monotonic() >= deadline:
            break
        try:
            return route.provider_name, route.complete(
                prompt.messages, max_output_tokens=prompt.max_output_tokens, deadline=deadline
            )
        except ProviderError as error:
            logger.warning(
                "provider.call.failed",
                extra={
                    "provider": route.provider_name,
                    "reason": error.reason,
                    "permanent": error.permanent,
                },
            )
    raise ProviderFailed


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


def store_turn(
    *,
    caller: Caller,
    incoming: Incoming,
    admission: Admission,
    provider_name: str,
    completion: Completion,
    duration_seconds: float,
    request_id: str,
) -> Answer:
    """Store both messages and capture the hold, all or nothing.

    Raises ProviderFailed where the answer came after its hold had expired.
    """
    message_id = uuid7()
    usage = measure_usage(caller, admission.prompt, completion)
    now = timezone.now()
    try:
        with transaction.atomic():
            is_kept = turns.end_turn(admission.turn, messages_added=2, now=now)
            settlement = billing.capture_hold(
                hold=admission.hold,
                charge_microcredits=caller.model.price(
                    input_tokens=usage.input_tokens, output_tokens=usage.output_tokens
                ),
                now=now,
                reason=f"Reply by {caller.model.model_id}",
                request_id=request_id,
                message_id=message_id,
            )
            _insert_turn(
                session_pk=admission.turn.session_pk,
                position=admission.turn.message_count,
                user={
                    "id": uuid7(),
                    "content": incoming.message,
                    "created_at": admission.admitted_at,
                    "page_url": incoming.page.url,
                    "page_title": incoming.page.title,
                },
                assistant={
                    "id": message_id,
                    "content": completion.text,
                    "created_at": now,
                    "request_id": request_id,
                    "request_model": caller.model.model_id,
                    "response_model": completion.response_model,
                    "provider_name": provider_name,
                    "finish_reason": completion.finish_reason,
                    "input_tokens": usage.input_tokens,
                    "output_tokens": usage.output_tokens,
                    "is_estimated": usage.is_estimated,
                    "charged_microcredits": settlement.charged_microcredits,
                    "duration_ms": int(duration_seconds * 1000),
                },
                # The session was erased while the provider talked: keep the books, not the text.
                erased_at=None if is_kept else now,
            )
    except HoldNotOpen:
        raise ProviderFailed("The AI provider answered too late. Nothing was charged.") from None
    return Answer(
        reply=completion.text,
        session_id=incoming.session_id,
        message_id=message_id,
        model_id=caller.model.model_id,
        provider_name=provider_name,
        finish_reason=completion.finish_reason,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        is_estimated=usage.is_estimated,
        charged_microcredits=settlement.charged_microcredits,
        available_microcredits=_available_after(settlement, caller, now),
    )


def _available_after(settlement: Settlement, caller: Caller, now: datetime) -> int:
    if settlement.available_microcredits is not None:
        return settlement.available_microcredits
    return billing_selectors.get_available_microcredits(account_id=caller.account_id, now=now)


def _insert_turn(
    *,
    session_pk: int,
    position: int,
    user: dict[str, object],
    assistant: dict[str, object],
    erased_at: datetime | None,
) -> None:
    erased = {"content": "", "page_url": "", "page_title": ""} if erased_at else {}
    common = {"session_id": session_pk, "erased_at": erased_at}
    Message.objects.bulk_create(
        [
            Message(position=position, role="user", **user | common | erased),
            Message(position=position + 1, role="assistant", **assistant | common | erased),
        ]
    )


def give_back(admission: Admission) -> None:
    """Release hold and turn of a message that got no answer.

    Where even that fails, both end by themselves when their time has passed.
    """
    with suppress(DatabaseError):
        now = timezone.now()
        billing.release_hold(hold=admission.hold, now=now)
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
