"""API keys: issue, rotate, show, revoke, and expire them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from channels import audit, authentication, limits
from channels.audit import COMMAND_LINE, Actor
from channels.errors import KeyNotActive, MadeBefore
from channels.models import ApiKey, Channel
from channels.sealing import API_KEYS


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key's row, together with its clear text."""

    record: ApiKey
    clear: str


@transaction.atomic
def issue_api_key(
    *,
    channel: Channel,
    is_test: bool,
    key_id: uuid.UUID | None = None,
    actor: Actor = COMMAND_LINE,
) -> IssuedKey:
    """Create a key for a channel and store it encrypted.

    Raises MadeBefore if a key with the given id exists, PlanLimitReached, and UnknownChannel if the
    channel has just moved to another account.
    """
    if key_id and ApiKey.objects.filter(id=key_id).exists():
        raise MadeBefore
    limits.refuse_beyond(limits.lock_account_of(channel), limits.KEYS)
    clear = authentication.generate_key(is_test=is_test)
    record = ApiKey(
        id=key_id or uuid.uuid4(),
        channel=channel,
        mode=ApiKey.Mode.TEST if is_test else ApiKey.Mode.LIVE,
        key_prefix=authentication.key_prefix(is_test=is_test),
        key_last_four=clear[-4:],
    )
    API_KEYS.seal(record, clear)
    try:
        with transaction.atomic():
            record.save(force_insert=True)
    except IntegrityError:
        raise MadeBefore from None
    _record_key("key.issued", record, actor)
    return IssuedKey(record, clear)


@transaction.atomic
def rotate_api_key(*, api_key: ApiKey, overlap: timedelta, actor: Actor) -> IssuedKey:
    """Create a new key of the same kind. The given key keeps working for `overlap`, then expires.

    Without an overlap, revokes the given key now. Raises KeyNotActive if the key is revoked or has
    an end set, so only one of two simultaneous rotations creates a key. Raises PlanLimitReached.
    """
    # Before the key's own row lock, because a move of the channel takes them in this order too.
    limits.lock_account_of(api_key.channel)
    ends_at = timezone.now() + overlap
    column = "expires_at" if overlap else "revoked_at"
    active = ApiKey.objects.filter(id=api_key.id, revoked_at=None, expires_at=None)
    if not active.update(**{column: ends_at}):
        raise KeyNotActive
    _record_key("key.rotated", api_key, actor, **{column: (None, ends_at)})
    return issue_api_key(
        channel=api_key.channel, is_test=api_key.mode == ApiKey.Mode.TEST, actor=actor
    )


@transaction.atomic
def show_api_key(*, api_key: ApiKey, actor: Actor, is_copy: bool = False) -> str:
    """Return a key's clear text to a person, and record that in the audit log.

    Raises common.crypto.DecryptionError.
    """
    _record_key("key.copied" if is_copy else "key.revealed", api_key, actor)
    return reveal_api_key(api_key)


def note_key_copied(*, api_key: ApiKey, actor: Actor) -> None:
    """Record in the audit log that a person copied a key that the page already showed them."""
    _record_key("key.copied", api_key, actor)


def reveal_api_key(api_key: ApiKey) -> str:
    """Return a key's clear text. Raises common.crypto.DecryptionError."""
    return API_KEYS.unseal(api_key)


@transaction.atomic
def revoke_api_key(*, api_key: ApiKey, actor: Actor = COMMAND_LINE) -> None:
    """Revoke a key at once, whatever its expiry. The next request in any process is refused.

    The time of a revocation does not matter: a clock that runs ahead may put it in the future.
    """
    now = timezone.now()
    if ApiKey.objects.filter(id=api_key.id, revoked_at=None).update(revoked_at=now):
        _record_key("key.revoked", api_key, actor, revoked_at=(api_key.revoked_at, now))


@transaction.atomic
def expire_api_key(*, api_key: ApiKey, at: datetime, actor: Actor = COMMAND_LINE) -> None:
    """Let the key work until `at`, and no longer. A key that ends earlier keeps its end."""
    later = Q(expires_at=None) | Q(expires_at__gt=at)
    if ApiKey.objects.filter(later, id=api_key.id, revoked_at=None).update(expires_at=at):
        _record_key("key.expires", api_key, actor, expires_at=(api_key.expires_at, at))


def _record_key(action: str, api_key: ApiKey, actor: Actor, **changes: tuple[Any, Any]) -> None:
    audit.record(
        action,
        actor=actor,
        account_id=api_key.channel.account_id,
        channel=api_key.channel,
        target=str(api_key),
        changes=changes,
    )
