"""One key, one turn: a retry with the same Idempotency-Key is never charged or answered twice.

The record is in the same database as the money. One guarded statement claims it before the message
is admitted. The transaction that charges the message completes it. A request that charges nothing
frees it. If its process dies, a claim expires by itself, later than its call could have ended.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from channels.callers import Caller
from common import db
from common.clock import HONEST_SKEW
from conversations.chat import calls
from conversations.errors import IdempotencyKeyReused, RequestInProgress
from conversations.models import IdempotencyRecord, ManagementRecord

Records = type[IdempotencyRecord] | type[ManagementRecord]
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
    model: Records = IdempotencyRecord


def fingerprint(body: bytes, *, path: str = "") -> str:
    """Return the digest that distinguishes one request from another."""
    return hashlib.sha256(path.encode() + body).hexdigest()


def _claiming(table: str, scope: tuple[str, ...], *more: str) -> str:
    """Return the statement that claims a key within a scope, and keeps `more` of the request."""
    columns = (*scope, "key", "fingerprint", *more)
    return f"""
INSERT INTO {table} AS r ({", ".join(columns)}, claim_number, claimed_at, expires_at)
VALUES ({", ".join(f"%({name})s" for name in columns)}, 1, %(now)s, %(end)s)
ON CONFLICT ({", ".join(scope)}, key) DO UPDATE
   SET {"".join(f"{name} = excluded.{name}, " for name in ("fingerprint", *more))}body = NULL,
       claim_number = r.claim_number + 1, claimed_at = excluded.claimed_at,
       expires_at = excluded.expires_at
 WHERE r.expires_at <= %(now)s OR (r.body IS NULL AND r.claimed_at > %(believed)s)
RETURNING id, claim_number
"""  # noqa: S608  # built from constants only


_CLAIM = _claiming("conversations_idempotencyrecord", ("channel_id", "is_test"), "session_id")
_CLAIM_FOR_ACCOUNT = _claiming("conversations_managementrecord", ("account_id",))
# Longer than any request to /api/manage/ takes. A slower one loses its claim, and does nothing.
MANAGEMENT_CLAIM_LASTS = timedelta(minutes=2)


def claim(caller: Caller, key: Key, *, session_id: str, is_stream: bool) -> Claim:
    """Claim a request's key. Raises RequestInProgress and IdempotencyKeyReused.

    A request that raises frees it. It charged nothing, because the charge and the stored body
    commit together.
    """
    now = timezone.now()
    waited = now + timedelta(seconds=settings.SESSION_WAIT_SECONDS)
    # After the latest end of its call's hold, so that two claims never both charge.
    end = calls.hold_until(waited, caller.model, is_stream=is_stream) + timedelta(seconds=5)
    scope = {"channel_id": caller.channel_id, "is_test": caller.is_test}
    more = {"channel_id": caller.channel_id.hex, "session_id": session_id}
    return _claim(_CLAIM, IdempotencyRecord, key, scope, scope | more, now=now, end=end)


def claim_for_account(account_id: int, key: Key) -> Claim:
    """Claim the key of a request to /api/manage/. Raises what `claim` raises."""
    now = timezone.now()
    scope = {"account_id": account_id}
    end = now + MANAGEMENT_CLAIM_LASTS
    return _claim(_CLAIM_FOR_ACCOUNT, ManagementRecord, key, scope, scope, now=now, end=end)


def _claim(
    statement: str,
    model: Records,
    key: Key,
    scope: dict[str, Any],
    params: dict[str, Any],
    *,
    now: datetime,
    end: datetime,
) -> Claim:
    params = params | {
        # A claim from the future comes from a wrong clock, and may be taken over. A stored answer
        # may not: the request would be charged again.
        "believed": db.param(now + HONEST_SKEW),
        "key": key.key,
        "fingerprint": key.fingerprint,
        "now": db.param(now),
        "end": db.param(end),
    }
    row = db.fetch_row(statement, params)
    if row is not None:
        return Claim(row[0], row[1], now, model=model)
    record = model._default_manager.filter(**scope, key=key.key).first()
    if record is None:
        raise RequestInProgress  # freed at this very moment; a retry can claim it
    if record.fingerprint != key.fingerprint:
        raise IdempotencyKeyReused
    if record.body is None:
        raise RequestInProgress
    return Claim(record.id, record.claim_number, record.claimed_at, replay=record.body, model=model)


def complete(claim: Claim, body: bytes) -> None:
    """Store the first request's answer, in the transaction that charges it.

    Raises RequestInProgress if the claim was lost.
    """
    stored = _record_of(claim).update(
        body=body.decode(), expires_at=claim.claimed_at + REPLAYED_FOR
    )
    if not stored:
        # Erased, or taken over after it expired, so this request must not be charged.
        raise RequestInProgress


def free(claim: Claim) -> None:
    """Delete a claim that has no answer to replay."""
    _record_of(claim).filter(body=None).delete()


def _record_of(claim: Claim) -> QuerySet[Any]:
    """Return the claim's record, or nothing if the claim was lost."""
    records: QuerySet[Any] = claim.model._default_manager.all()
    return records.filter(id=claim.record_id, claim_number=claim.claim_number)


def delete_expired(*, now: datetime) -> int:
    """Delete records that are neither claimed nor replayed any more. Returns how many.

    An answer from the future comes from a clock that ran ahead. It is replayed for a day from now.
    """
    deleted = 0
    for model in (IdempotencyRecord, ManagementRecord):
        records: QuerySet[Any] = model._default_manager.all()
        records.filter(claimed_at__gt=now + HONEST_SKEW).exclude(body=None).update(
            claimed_at=now, expires_at=now + REPLAYED_FOR
        )
        deleted += records.filter(expires_at__lte=now).delete()[0]
    return deleted
