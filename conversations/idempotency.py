"""One key, one turn: a retry with the same Idempotency-Key never pays or speaks twice.

The record lives in the database beside the money: claimed by one guarded statement before the
message is admitted, completed in the very transaction that charges it, freed by whatever charged
nothing. A claim whose process died ends by arithmetic, after any call of it could have ended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.utils import timezone

from channels.callers import Caller
from common import db
from common.clock import latest_believed
from conversations import calls
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
    """The right to run a key's request; or, with `replay`, what came of it before."""

    record_id: int
    claim_number: int
    claimed_at: datetime
    replay: str | None = None


def fingerprint(body: bytes, *, path: str = "") -> str:
    """Return the digest that tells one request from another."""
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


@contextmanager
def claimed(
    caller: Caller, key: Key | None, *, session_id: str, is_stream: bool
) -> Iterator[Claim | None]:
    """Claim a request's key for the block, None without one; free it where the block raises.

    Whatever raises charged nothing: the charge and the stored body commit together. Raises
    RequestInProgress and IdempotencyKeyReused.
    """
    if key is None:
        yield None
        return
    claim = _claim(caller, key, session_id, is_stream)
    try:
        yield claim
    except BaseException:
        # A claim that cannot be freed now ends by itself.
        with suppress(AnyDatabaseError):
            free(claim)
        raise


def _claim(caller: Caller, key: Key, session_id: str, is_stream: bool) -> Claim:
    now = timezone.now()
    waited = now + timedelta(seconds=settings.SESSION_WAIT_SECONDS)
    # Later than the hold of its call can end, so that two claims never both charge.
    end = calls.hold_until(waited, caller.model, is_stream=is_stream) + timedelta(seconds=5)
    params = {
        # A claim from the future is of a clock that was wrong, and may be taken over. Not what came
        # of one: that would be charged again.
        "believed": db.time_param(latest_believed(now)),
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
        raise RequestInProgress  # freed in this very moment; the retry will find it so
    if record.fingerprint != key.fingerprint:
        raise IdempotencyKeyReused
    if record.body is None:
        raise RequestInProgress
    return Claim(record.id, record.claim_number, record.claimed_at, replay=record.body)


def complete(claim: Claim, body: bytes) -> None:
    """Store what the first request answered; part of the transaction that charges it."""
    stored = IdempotencyRecord.objects.filter(
        id=claim.record_id, claim_number=claim.claim_number
    ).update(body=body.decode(), expires_at=claim.claimed_at + REPLAYED_FOR)
    if not stored:
        # Erased, or taken over after its end: then nothing of this request may be charged.
        raise RequestInProgress


def free(claim: Claim) -> None:
    """Forget a claim of which nothing may be replayed."""
    IdempotencyRecord.objects.filter(
        id=claim.record_id, claim_number=claim.claim_number, body=None
    ).delete()


def delete_expired(*, now: datetime) -> int:
    """Delete records that are neither claimed nor replayed any more.

    An answer from the future, of a clock that ran ahead, is replayed for a day from now.
    """
    IdempotencyRecord.objects.filter(claimed_at__gt=latest_believed(now)).exclude(body=None).update(
        claimed_at=now, expires_at=now + REPLAYED_FOR
    )
    return IdempotencyRecord.objects.filter(expires_at__lte=now).delete()[0]
