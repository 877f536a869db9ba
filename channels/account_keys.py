"""Issues and revokes account keys. An owner does both in the dashboard."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from channels import audit, authentication, limits, person_mails
from channels.audit import Actor
from channels.errors import MadeBefore, PlanLimitReached
from channels.models import Account, AccountKey
from channels.sealing import ACCOUNT_KEYS

# Far more than an account needs for its programs.
MOST_KEYS = 20


@dataclass(frozen=True, slots=True)
class IssuedAccountKey:
    """A new key's row, together with its clear text."""

    record: AccountKey
    clear: str


@transaction.atomic
def issue_account_key(
    *,
    account: Account,
    name: str,
    expires_at: datetime | None = None,
    key_id: uuid.UUID | None = None,
    actor: Actor,
) -> IssuedAccountKey:
    """Create a key that manages the account, and store it encrypted.

    Raises MadeBefore if a key with the given id exists, and PlanLimitReached.
    """
    limits.refuse_deleted(limits.lock_account(account.id))
    if usable_account_keys(timezone.now()).filter(account=account).count() >= MOST_KEYS:
        raise PlanLimitReached(
            f"This account may have at most {MOST_KEYS} working account keys. Revoke unused ones."
        )
    prefix = authentication.account_key_prefix()
    clear = authentication.generate(prefix)
    record = AccountKey(
        id=key_id or uuid.uuid4(),
        account=account,
        name=name,
        key_prefix=prefix,
        key_last_four=clear[-4:],
        created_by=actor.user,
        expires_at=expires_at,
    )
    ACCOUNT_KEYS.seal(record, clear)
    try:
        with transaction.atomic():
            record.save(force_insert=True)
    except IntegrityError:
        raise MadeBefore from None
    _record("account_key.issued", record, actor)
    key = f"Account key {record.masked}, which manages all channels"
    person_mails.tell_of_key(account_id=account.id, key=key, actor=actor)
    return IssuedAccountKey(record, clear)


@transaction.atomic
def revoke_account_key(*, account_key: AccountKey, actor: Actor) -> None:
    """Revoke a key at once. The next request in any process is refused."""
    now = timezone.now()
    if AccountKey.objects.filter(id=account_key.id, revoked_at=None).update(revoked_at=now):
        _record("account_key.revoked", account_key, actor)


def usable_account_keys(now: datetime) -> QuerySet[AccountKey]:
    """Return the keys that work now."""
    lives_on = Q(expires_at=None) | Q(expires_at__gt=now)
    return AccountKey.objects.filter(lives_on, revoked_at=None)


def _record(action: str, account_key: AccountKey, actor: Actor) -> None:
    audit.record(action, actor=actor, account_id=account_key.account_id, target=str(account_key))
