"""Ends sessions: erases them on request, closes stale ones, erases text past its retention."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from channels import audit
from channels.audit import Actor
from channels.callers import Caller
from channels.models import Channel
from common.clock import HONEST_SKEW
from conversations.chat import idempotency, turns
from conversations.models import (
    ChatSession,
    DraftReply,
    FailedRequest,
    Feedback,
    IdempotencyRecord,
    Message,
    ReplayedRequest,
    WaitingTurn,
)

EXPIRE_BATCH = 500


def erase_history(*, caller: Caller, session_id: str) -> int:
    """Erase the text of a session for good. Returns how many messages were erased.

    Keeps tokens and charges. Also erases earlier conversations under the same session id.
    """
    return _erase_session(caller.channel_id, caller.is_test, session_id)


@transaction.atomic
def erase_session(*, session: ChatSession, actor: Actor) -> int:
    """Erase a session for a team member, with an entry in the audit log."""
    erased = _erase_session(session.channel_id, session.is_test, session.session_id)
    audit.record(
        "session.erased",
        actor=actor,
        account_id=session.channel.account_id,
        channel=session.channel,
        # Not the session id: it may name the visitor, who is to be forgotten.
        target=f"session {session.pk}, {erased} messages",
    )
    return erased


@transaction.atomic
def _erase_session(channel_id: uuid.UUID, is_test: bool, session_id: str) -> int:
    now = timezone.now()
    of_session = {"channel_id": channel_id, "is_test": is_test, "session_id": session_id}
    sessions = ChatSession.objects.filter(**of_session)
    sessions.filter(closed_at=None).update(closed_at=now, lease_expires_at=None)
    # Stored replays hold the reply's text too.
    IdempotencyRecord.objects.filter(**of_session).exclude(body=None).delete()
    # Failures still count, but no longer show whose they were.
    FailedRequest.objects.filter(**of_session).update(session_id="", page_url="")
    ReplayedRequest.objects.filter(**of_session).update(session_id="")
    return _erase_text(list(sessions.values_list("id", flat=True)), now=now)


def erase_channel(*, channel: Channel, now: datetime) -> int:
    """Erase the text of all sessions of a channel, in the caller's transaction."""
    ChatSession.objects.filter(channel=channel, closed_at=None).update(
        closed_at=now, lease_expires_at=None
    )
    IdempotencyRecord.objects.filter(channel=channel).exclude(body=None).delete()
    # A note may quote the text. The rating stays.
    notes = Feedback.objects.filter(message__session__channel=channel)
    notes.exclude(note="").update(note="")
    return Message.objects.filter(session__channel=channel, erased_at=None).update(
        content="", page_url="", page_title="", erased_at=now
    )


def expire_stale_sessions(*, now: datetime) -> tuple[int, int]:
    """Close sessions past their lifetime and erase text past its retention. Returns both counts.

    Only cleans up: every reader computes from the times whether a session is live.
    """
    # The last use comes from a clock that ran ahead. These sessions get a full lifetime from now.
    ChatSession.objects.filter(closed_at=None, last_message_at__gt=now + HONEST_SKEW).update(
        last_message_at=now
    )
    stale_before = now - timedelta(seconds=settings.SESSION_TTL)
    stale = ChatSession.objects.filter(closed_at=None, last_message_at__lte=stale_before).exclude(
        turns.is_leased(now)
    )
    closed = stale.update(closed_at=now, lease_expires_at=None)
    WaitingTurn.objects.filter(turns.has_gone(now)).delete()
    idempotency.delete_expired(now=now)
    kept_since = now - timedelta(days=settings.SESSION_RETENTION_DAYS)
    _delete_past_retention(FailedRequest.objects.all(), kept_since)
    _delete_past_retention(ReplayedRequest.objects.all(), kept_since)
    # Replies to drafts stay, because they are in the books.
    _delete_past_retention(DraftReply.objects.exclude(error_code=""), kept_since)
    return closed, _erase_past_retention(kept_since, now)


def _delete_past_retention(records: QuerySet[Any], kept_since: datetime) -> None:
    old = records.filter(created_at__lte=kept_since).order_by("created_at")
    while pks := list(old.values_list("id", flat=True)[:EXPIRE_BATCH]):
        records.filter(id__in=pks).delete()


def _erase_past_retention(kept_since: datetime, now: datetime) -> int:
    return erase_in_batches(ChatSession.objects.filter(last_message_at__lte=kept_since), now=now)


def erase_in_batches(sessions: QuerySet[ChatSession], *, now: datetime) -> int:
    """Erase text in small transactions, so that no request waits long for a row lock."""
    full = sessions.filter(messages__erased_at=None, messages__isnull=False).distinct()
    erased = 0
    while session_pks := list(full.values_list("id", flat=True)[:EXPIRE_BATCH]):
        erased += _erase_text(session_pks, now=now)
    return erased


def forget_session_ids(*, channel: Channel) -> None:
    """Close a channel's sessions and erase their ids, which may name visitors, in batches."""
    named = ChatSession.objects.filter(channel=channel).exclude(session_id="")
    while session_pks := list(named.values_list("id", flat=True)[:EXPIRE_BATCH]):
        batch = ChatSession.objects.filter(id__in=session_pks)
        batch.filter(closed_at=None).update(closed_at=timezone.now(), lease_expires_at=None)
        batch.update(session_id="")


@transaction.atomic
def _erase_text(session_pks: list[int], *, now: datetime) -> int:
    # A note may quote the text. The rating stays.
    Feedback.objects.filter(message__session_id__in=session_pks).exclude(note="").update(note="")
    return Message.objects.filter(session_id__in=session_pks, erased_at=None).update(
        content="", page_url="", page_title="", erased_at=now
    )
