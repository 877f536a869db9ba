"""One of the processes of B1: charges one credit after the other, as the chat does."""

from __future__ import annotations

import time
from collections import Counter
from datetime import timedelta
from random import Random
from typing import Any

from django.db import transaction
from django.utils import timezone

from billing import admission
from billing import settlement as billing
from billing.errors import CreditsExhausted
from billing.holds import PlacedHold
from channels.callers import Caller, find_caller
from common.db import uuid7
from conversations.models import ChatSession, Message

CREDIT = 1_000_000


def charge(order: dict[str, Any]) -> dict[str, int]:
    """Try to charge one credit many times, from `start_at` on. Counts the results."""
    caller = find_caller(order["api_key"])
    assert caller
    session = open_session(caller)
    outcomes: Counter[str] = Counter()
    pauses = Random(order["seed"])
    time.sleep(max(0.0, order["start_at"] - time.time()))
    for _ in range(order["attempts"]):
        outcomes[charge_once(caller, session)] += 1
        if pauses.random() < 0.05:
            time.sleep(pauses.random() * 0.002)
    return dict(outcomes)


def open_session(caller: Caller) -> ChatSession:
    now = timezone.now()
    return ChatSession.objects.create(
        channel_id=caller.channel_id,
        is_test=False,
        session_id=str(uuid7()),
        created_at=now,
        last_message_at=now,
    )


def charge_once(caller: Caller, session: ChatSession) -> str:
    """Hold in one transaction, capture in the next. Returns the result as one word."""
    try:
        with transaction.atomic():
            now = timezone.now()
            hold = admission.place_hold(
                caller=caller,
                amount_microcredits=CREDIT,
                now=now,
                expires_at=now + timedelta(seconds=70),
                request_id="acceptance",
            )
        with transaction.atomic():
            store(session, hold)
    except CreditsExhausted:
        return "refused"
    except Exception as error:  # noqa: BLE001  # every error is a finding
        return f"{type(error).__name__}: {error}"[:200]
    return "charged"


def store(session: ChatSession, hold: PlacedHold) -> None:
    """Capture a hold and store the turn that it paid for, in the caller's transaction."""
    settlement = billing.capture_hold(
        hold=hold,
        charge_microcredits=CREDIT,
        now=timezone.now(),
        reason="Reply",
        request_id="acceptance",
    )
    store_turn(session, hold=hold, charged=settlement.charged_microcredits)


def store_turn(session: ChatSession, *, hold: PlacedHold, charged: int) -> None:
    """Insert a turn's two messages and count them."""
    common: dict[str, Any] = {
        "session": session,
        "channel_id": hold.channel_id,
        "is_test": hold.is_test,
        "content": "x",
        "created_at": timezone.now(),
    }
    position = session.message_count
    Message.objects.bulk_create(
        [
            Message(position=position, role="user", **common),
            Message(
                id=hold.id,
                position=position + 1,
                role="assistant",
                charged_microcredits=charged,
                **common,
            ),
        ]
    )
    session.message_count += 2
    ChatSession.objects.filter(pk=session.pk).update(message_count=session.message_count)
