"""API keys: issue, change, rotate, show, revoke, and expire them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from channels import audit, authentication, catalogue, key_terms, limits, person_mails
from channels.audit import COMMAND_LINE, Actor
from channels.errors import ChannelChanged, ExcludesLatestCaller, KeyNotActive, MadeBefore
from channels.key_terms import LONGEST_NAME, NO_TERMS, KeyTerms
from channels.models import ApiKey, Channel, KeyUse
from channels.sealing import API_KEYS
from channels.usable_keys import usable_keys
from common.pages.numbers import local_number


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
    terms: KeyTerms = NO_TERMS,
    actor: Actor = COMMAND_LINE,
) -> IssuedKey:
    """Create a key for a channel and store it encrypted.

    Raises MadeBefore if a key with the given id exists, ValidationError, which names each invalid
    term, PlanLimitReached, and UnknownChannel if the channel has just moved to another account.
    """
    if key_id and ApiKey.objects.filter(id=key_id).exists():
        raise MadeBefore
    terms = _clean_terms(terms, channel, before=NO_TERMS)
    return _issue(channel=channel, is_test=is_test, key_id=key_id, terms=terms, actor=actor)


def _issue(
    *, channel: Channel, is_test: bool, key_id: uuid.UUID | None, terms: KeyTerms, actor: Actor
) -> IssuedKey:
    """Create a key without checking its terms, as for a successor, which takes them over."""
    limits.refuse_beyond(limits.lock_account_of(channel), limits.KEYS)
    clear = authentication.generate_key(is_test=is_test)
    record = ApiKey(
        id=key_id or uuid.uuid4(),
        channel=channel,
        mode=ApiKey.Mode.TEST if is_test else ApiKey.Mode.LIVE,
        key_prefix=authentication.key_prefixes()[is_test],
        key_last_four=clear[-4:],
        created_by=actor.user,
        **terms.columns(),
    )
    API_KEYS.seal(record, clear)
    try:
        with transaction.atomic():
            record.save(force_insert=True)
    except IntegrityError:
        raise MadeBefore from None
    changes = audit.changes_between(NO_TERMS.columns(), terms.columns())
    _record_key("key.issued", record, actor, **changes)
    key = f"{record.masked} ({record.mode}) of the channel {channel.name}"
    person_mails.tell_of_key(account_id=channel.account_id, key=key, actor=actor)
    return IssuedKey(record, clear)


@transaction.atomic
def rotate_api_key(*, api_key: ApiKey, overlap: timedelta, actor: Actor) -> IssuedKey:
    """Create a new key of the same kind with the same terms, its end included.

    The given key keeps working for `overlap`, but not beyond its own end, then expires. Without an
    overlap, revokes it now. Raises KeyNotActive if the key no longer works or has a successor, so
    only one of two simultaneous rotations creates a key. Raises PlanLimitReached.
    """
    # Before the key's own row lock, because a move of the channel takes them in this order too.
    limits.lock_account_of(api_key.channel)
    now = timezone.now()
    active = usable_keys(now).filter(id=api_key.id, rotated_at=None)
    old = active.select_for_update(of=["self"]).select_related("channel").first()
    if old is None:
        raise KeyNotActive
    terms = terms_of(old)
    column = "expires_at" if overlap else "revoked_at"
    ends_at = min(now + overlap, terms.expires_at or now + overlap)
    active.update(rotated_at=now, **{column: ends_at})
    _record_key("key.rotated", api_key, actor, **{column: (getattr(old, column), ends_at)})
    return _issue(
        channel=old.channel,
        is_test=old.mode == ApiKey.Mode.TEST,
        key_id=None,
        terms=terms,
        actor=actor,
    )


def terms_of(api_key: ApiKey) -> KeyTerms:
    """Return the terms of a stored key."""
    return KeyTerms(
        name=api_key.name,
        expires_at=api_key.expires_at,
        allowed_addresses=key_terms.read_lines(api_key.allowed_addresses),
        allowed_models=key_terms.read_lines(api_key.allowed_models),
    )


@transaction.atomic
def update_api_key(
    *,
    api_key: ApiKey,
    terms: KeyTerms,
    actor: Actor,
    expected_digest: str = "",
    may_exclude_latest: bool = False,
) -> None:
    """Change the terms of a key. They apply to the next request.

    Raises KeyNotActive if the key no longer works, ChannelChanged if `expected_digest` is not that
    of the stored terms, and ValidationError, which names each invalid term. Raises
    ExcludesLatestCaller if new ranges exclude the key's latest caller, unless
    `may_exclude_latest`.
    """
    rows = usable_keys(timezone.now()).select_for_update(of=["self"]).select_related("channel")
    stored = rows.filter(id=api_key.id).first()
    if stored is None:
        raise KeyNotActive
    before = terms_of(stored)
    terms = _clean_terms(terms, stored.channel, before=before)
    changes = audit.changes_between(before.columns(), terms.columns())
    if not changes:  # also if the same form was submitted twice
        return
    if expected_digest and expected_digest != before.digest():
        raise ChannelChanged
    if "allowed_addresses" in changes and not may_exclude_latest:
        _refuse_exclusion(stored, terms)
    ApiKey.objects.filter(id=stored.id).update(**terms.columns())
    _record_key("key.updated", stored, actor, **changes)


def _refuse_exclusion(api_key: ApiKey, terms: KeyTerms) -> None:
    """Raise ExcludesLatestCaller if the ranges exclude the key's latest caller."""
    latest = KeyUse.objects.filter(key=api_key).exclude(address="").first()
    ranges = key_terms.read_ranges("\n".join(terms.allowed_addresses))
    if latest and ranges and not key_terms.contains(ranges, latest.address):
        raise ExcludesLatestCaller(latest.address, latest.last_used_at)


def _clean_terms(terms: KeyTerms, channel: Channel, *, before: KeyTerms) -> KeyTerms:
    """Return the terms in their canonical spelling.

    Raises ValidationError with a sentence for each invalid one. Terms that are the same as `before`
    are not checked again: a model may have been switched off since.
    """
    errors: dict[str, list[str]] = {}
    name, ranges = terms.name.strip(), list(terms.allowed_addresses)
    if len(name) > LONGEST_NAME:
        text = _("Use at most %(limit_value)s characters, not %(show_value)s.")
        bound = {"limit_value": LONGEST_NAME, "show_value": local_number(len(name))}
        errors["name"] = [text % bound]
    if "\x00" in name:
        errors["name"] = [_("Remove the NUL character: it cannot be stored.")]
    ends_at = terms.expires_at
    if ends_at and ends_at != before.expires_at and ends_at <= timezone.now():
        errors["expires_at"] = [_("This time has passed. Choose a later day, or revoke the key.")]
    try:
        ranges = key_terms.clean_ranges(ranges)
    except ValidationError as error:
        errors["allowed_addresses"] = error.messages
    models = list(dict.fromkeys(terms.allowed_models))
    if unknown := set(models) - set(before.allowed_models):
        offered = {model.model_id for model in catalogue.models_allowed(channel.account_id)}
        offered.add(channel.model.model_id)
        if unfit := sorted(unknown - offered):
            text = _("There is no model “%(model)s”. Use %(models)s.")
            named = {"model": unfit[0][:80], "models": ", ".join(sorted(offered))}
            errors["allowed_models"] = [text % named]
    if errors:
        raise ValidationError(errors)
    return KeyTerms(name, ends_at, ranges, models)


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
        target=f"{api_key.masked} ({api_key.mode})",
        changes=changes,
    )
