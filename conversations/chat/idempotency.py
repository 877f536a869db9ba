"""One key, one turn: a retry with the same Idempotency-Key is never charged or answered twice.

The record is in the same database as the money. One guarded statement claims it before the message
is admitted. The transaction that charges the message completes it. A request that charges nothing
frees it. If its process dies, a claim expires by itself, later than its call could have ended.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from channels.callers import Caller
from common import db
from common.clock import HONEST_SKEW
from conversations.chat import calls
from conversations.errors import IdempotencyKeyReused, RequestInProgress
from conversations.models import IdempotencyRecord

REPLAYED_FOR = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Key:
    """The caller's key and the digest of the body it came with."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run a key's request, or with `replay` the answer it had before."""

    record_id: int
    claim_number: int
    claimed_at: datetime
    replay: str | None = None


def fingerprint(body: bytes, *, path: str = "") -> str:
    """Return the digest that distinguishes one request from another."""
    return hashlib.sha256(path.encode() + body).hexdigest()


_CLAIM = """
INSERT INTO conversations_idempotencyrecord AS r
       (channel_id, is_test, key, fingerprint, session_id, claim_number, claimed_at, expires_at)
VALUES (%(channel)s, %(is_test)s, %(key)s, %(fingerprint)s, %(session_id)s, 1, %(now)s, %(end)s)
ON CONFLICT (channel_id, is_test, key) DO UPDATE
   SET fingerprint = excluded.fingerprint, session_id = excluded.session_id, body = NULL,
       claim_number = r.claim_number + 1, claimed_at = excluded.claimed_at,
       expires_at = excluded.expires_at
 WHERE r.expires_at <= %(now)s OR (r.body IS NULL AND r.claimed_at > %(believed)s)
RETURNING id, claim_number
"""


def claim(caller: Caller, key: Key, *, session_id: str, is_stream: bool) -> Claim:
    """Claim a request's key. Raises RequestInProgress and IdempotencyKeyReused.

    A request that raises frees it. It charged nothing, because the charge and the stored body
    commit together.
    """
    now = timezone.now()
    waited = now + timedelta(seconds=settings.SESSION_WAIT_SECONDS)
    # After the latest end of its call's hold, so that two claims never both charge.
    end = calls.hold_until(waited, caller.model, is_stream=is_stream) + timedelta(seconds=5)
    params = {
        # A claim from the future comes from a wrong clock, and may be taken over. A stored answer
        # may not: the request would be charged again.
        "believed": db.time_param(now + HONEST_SKEW),
        "channel": caller.channel_id.hex,
        "is_test": caller.is_test,
        "key": key.key,
        "fingerprint": key.fingerprint,
        "session_id": session_id,
        "now": db.time_param(now),
        "end": db.time_param(end),
    }
    row = db.fetch_row(_CLAIM, params)
    if row is not None:
        return Claim(row[0], row[1], now)
    record = IdempotencyRecord.objects.filter(
        channel_id=caller.channel_id, is_test=caller.is_test, key=key.key
    ).first()
    if record is None:
        raise RequestInProgress  # freed at this very moment; a retry can claim it
    if record.fingerprint != key.fingerprint:
        raise IdempotencyKeyReused
    if record.body is None:
        raise RequestInProgress
    return Claim(record.id, record.claim_number, record.claimed_at, replay=record.body)


def complete(claim: Claim, body: bytes) -> None:
    """Store the first request's answer, in the transaction that charges it.

    Raises RequestInProgress if the claim was lost.
    """
    stored = IdempotencyRecord.objects.filter(
        id=claim.record_id, claim_number=claim.claim_number
    ).update(body=body.decode(), expires_at=claim.claimed_at + REPLAYED_FOR)
    if not stored:
        # Erased, or taken over after it expired, so this request must not be charged.
        raise RequestInProgress


def free(claim: Claim) -> None:
    """Delete a claim that has no answer to replay."""
    IdempotencyRecord.objects.filter(
        id=claim.record_id, claim_number=claim.claim_number, body=None
    ).delete()


def delete_expired(*, now: datetime) -> int:
    """Delete records that are neither claimed nor replayed any more. Returns how many.

    An answer from the future comes from a clock that ran ahead. It is replayed for a day from now.
    """
    IdempotencyRecord.objects.filter(claimed_at__gt=now + HONEST_SKEW).exclude(body=None).update(
        claimed_at=now, expires_at=now + REPLAYED_FOR
    )
    return IdempotencyRecord.objects.filter(expires_at__lte=now).delete()[0]
