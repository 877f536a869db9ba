"""Changes to accounts, channels, keys, models and providers."""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError, Q
from django.utils import timezone

from channels import audit, keys, limits, selectors
from channels.audit import COMMAND_LINE, Actor
from channels.errors import (
    ChannelChanged,
    ChannelInUse,
    KeyNotActive,
    MadeBefore,
    UnknownAccount,
    UnknownChannel,
    UnknownModel,
)
from channels.models import (
    Account,
    ApiKey,
    Channel,
    LanguageModel,
    Membership,
    PromptVersion,
    Provider,
    User,
)
from channels.sealing import API_KEYS, PROVIDER_KEYS

logger = logging.getLogger("gateway.channels")


# --- Accounts and channels ------------------------------------------------------------------


@transaction.atomic
def ensure_account(*, owner_email: str, name: str = "", actor: Actor = COMMAND_LINE) -> Account:
    """Return the account that this person owns. Creates the person and the account if needed.

    A new account is called `name`, or else the address. Raises ValidationError if the address is
    not an e-mail address.
    """
    account = find_account(owner_email=owner_email)
    if account is not None:
        return account
    user = User.objects.filter(email__iexact=owner_email).first()
    if user is None:
        User._meta.get_field("email").clean(owner_email, None)
        user = User.objects.create_user(owner_email)
    account = Account.objects.create(name=name or owner_email)
    Membership.objects.create(account=account, user=user, role=Membership.Role.OWNER)
    audit.record("account.created", actor=actor, account_id=account.id, target=account.name)
    return account


def find_account(*, owner_email: str) -> Account | None:
    """Return the first account this person owns, or None."""
    membership = (
        Membership.objects.filter(user__email__iexact=owner_email, role=Membership.Role.OWNER)
        .select_related("account")
        .order_by("id")
        .first()
    )
    return membership.account if membership else None


def get_account(*, owner_email: str) -> Account:
    """Return the first account this person owns. Raises UnknownAccount."""
    account = find_account(owner_email=owner_email)
    if account is None:
        raise UnknownAccount(f"Nobody with the address '{owner_email}' owns an account.")
    return account


@transaction.atomic
def create_channel(
    *,
    account: Account,
    name: str,
    model_id: str = "",
    actor: Actor = COMMAND_LINE,
    **fields: Any,
) -> Channel:
    """Create a channel. `model_id` defaults to the first model of the catalogue.

    Raises UnknownModel, PlanLimitReached, and ValidationError, which names each invalid field.
    """
    locked = limits.lock_account(account.id)
    model = get_model(model_id, account_id=account.id)
    channel = Channel(account=account, name=name, model=model, **fields)
    channel.full_clean()
    limits.refuse_beyond(locked, limits.CHANNELS)
    limits.refuse_beyond(locked, limits.PROMPT_VERSIONS)
    channel.save(force_insert=True)
    PromptVersion.objects.create(
        channel=channel, number=1, text=channel.system_prompt, author=actor.user
    )
    audit.record("channel.created", actor=actor, account_id=account.id, channel=channel)
    return channel


@transaction.atomic
def create_channel_with_keys(
    *,
    account: Account,
    id: uuid.UUID | None = None,  # noqa: A002  # the field's own name
    actor: Actor = COMMAND_LINE,
    **fields: Any,
) -> tuple[Channel, list[IssuedKey]]:
    """Create a channel with a live key and a test key.

    Raises what create_channel raises, and MadeBefore if the given `id` is taken.
    """
    if id is not None:
        fields["id"] = id
    try:
        channel = create_channel(account=account, actor=actor, **fields)
    except IntegrityError:  # the same form was submitted twice at the same time
        raise MadeBefore from None
    except ValidationError as error:
        if "id" in error.error_dict:
            raise MadeBefore from None
        raise
    issued = [
        issue_api_key(channel=channel, is_test=is_test, actor=actor) for is_test in (False, True)
    ]
    return channel, issued


@transaction.atomic
def update_channel(
    *,
    channel_id: str,
    model_id: str = "",
    actor: Actor = COMMAND_LINE,
    prompt_note: str = "",
    move_reason: str = "",
    expected_digest: str = "",
    **fields: Any,
) -> Channel:
    """Change the given fields of a channel. Changes apply to the next request.

    A changed system prompt becomes a new version, with `prompt_note`. A different `account` moves
    the channel and revokes its keys (see move_channel). Raises UnknownChannel, UnknownModel,
    PlanLimitReached, ValidationError, which names each invalid field, and ChannelChanged if
    `expected_digest` (see digest_fields) does not match the stored fields.
    """
    channel, account = _lock_channel(channel_id, fields.get("account"))
    if model_id:
        fields["model"] = get_model(model_id, account_id=channel.account_id)
    if expected_digest and expected_digest != digest_fields(channel, fields):
        raise ChannelChanged
    before = {name: getattr(channel, name) for name in fields}
    for name, value in fields.items():
        setattr(channel, name, value)
    _clean(channel, set(fields))
    # After cleaning, because that may have normalized a value.
    changes = audit.changes_between(before, {name: getattr(channel, name) for name in fields})
    if not changes:
        return channel
    if "account" in changes:
        _move(channel, before["account"], account, actor, reason=move_reason)
        del changes["account"]
    if "system_prompt" in changes:
        limits.refuse_beyond(account, limits.PROMPT_VERSIONS)
        channel.prompt_version = _keep_prompt(channel, author=actor.user, note=prompt_note)
        changes["system_prompt"] = (
            f"version {channel.prompt_version - 1}",
            f"version {channel.prompt_version}",
        )
    channel.save()
    if changes:
        audit.record(
            "channel.updated",
            actor=actor,
            account_id=channel.account_id,
            channel=channel,
            changes=changes,
        )
    return channel


def _lock_channel(channel_id: str, target: Account | None) -> tuple[Channel, Account]:
    """Lock a channel and its account, or the account it moves to. Returns both.

    Because of the row lock, the second of two editors builds on what the first one saved.
    """
    channel = get_channel(channel_id)
    account_id = channel.account_id
    target_id = target.id if target else account_id
    # Always in the same order, so that two moves cannot deadlock.
    locked = {one: limits.lock_account(one) for one in sorted({account_id, target_id})}
    rows = Channel.objects.select_for_update(of=["self"]).select_related("account")
    found = rows.filter(id=channel.id, account_id=account_id).first()
    if found is None:  # moved or deleted after it was read
        raise UnknownChannel(f"There is no channel '{channel_id}'.")
    return found, locked[target_id]


def move_channel(*, channel: Channel, owner_email: str, reason: str, actor: Actor) -> Channel:
    """Move a channel, with its conversations and prompts, to the account that this person owns.

    Revokes its keys, because the previous account's people hold them. Both accounts' audit logs
    record the move. Raises UnknownAccount, and ValidationError if the new account's plan does not
    allow the channel.
    """
    account = get_account(owner_email=owner_email)
    return update_channel(
        channel_id=str(channel.id), account=account, move_reason=reason, actor=actor
    )


def _move(channel: Channel, left: Account, entered: Account, actor: Actor, *, reason: str) -> None:
    limits.refuse_beyond(entered, limits.CHANNELS)
    brought = channel.prompt_versions.count(), channel.fixed_answers.count()
    limits.refuse_beyond(entered, limits.PROMPT_VERSIONS, adding=brought[0])
    limits.refuse_beyond(entered, limits.SAVED_REPLIES, adding=brought[1])
    for api_key in selectors.usable_keys(timezone.now()).filter(channel=channel):
        revoke_api_key(api_key=api_key, actor=actor)
    # Neither account's log names the other account.
    for account, moved in ((left, (left.name, None)), (entered, (None, entered.name))):
        audit.record(
            "channel.moved",
            actor=actor,
            account_id=account.id,
            channel=channel,
            target=f"{channel.name} ({channel.id})",
            changes={"account": moved, "reason": (None, reason)},
        )


def _clean(channel: Channel, names: set[str]) -> None:
    """Raise ValidationError if any of these fields is invalid.

    Ignores the other fields. They may have become invalid since, such as a model that the plan no
    longer allows, and that must not keep anyone from switching the channel off.
    """
    judged = names | {NON_FIELD_ERRORS} | ({"model"} if "account" in names else set())
    try:
        channel.full_clean()
    except ValidationError as error:
        wrong = {name: words for name, words in error.error_dict.items() if name in judged}
        if wrong:
            raise ValidationError(wrong) from None


def digest_fields(channel: Channel, names: Iterable[str]) -> str:
    """Return a digest of these fields. A form carries it to notice if somebody else has saved."""
    values = {name: channel.serializable_value(name) for name in names}
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@transaction.atomic
def delete_channel(*, channel: Channel, actor: Actor) -> None:
    """Delete a channel that never received a message. Raises ChannelInUse for any other."""
    account_id, target = channel.account_id, f"{channel.name} ({channel.id})"
    try:
        channel.delete()
    except ProtectedError:
        raise ChannelInUse from None
    audit.record("channel.deleted", actor=actor, account_id=account_id, target=target)


def _keep_prompt(channel: Channel, *, author: User | None, note: str) -> int:
    """Store the channel's new prompt as its next version. Returns the version number."""
    number = channel.prompt_version + 1
    PromptVersion.objects.create(
        channel=channel, number=number, text=channel.system_prompt, author=author, note=note
    )
    return number


def get_channel(channel_id: str) -> Channel:
    """Return a channel by its id. Raises UnknownChannel."""
    try:
        return Channel.objects.select_related("account").get(id=uuid.UUID(channel_id))
    except (ValueError, Channel.DoesNotExist):
        raise UnknownChannel(f"There is no channel '{channel_id}'.") from None


def get_model(model_id: str, *, account_id: int | None = None) -> LanguageModel:
    """Return the model with this gateway id that the account may use. '' means the first one.

    Raises UnknownModel, whose message lists the available ids.
    """
    models = list(selectors.models_allowed(account_id))
    for model in models:
        if model_id in ("", model.model_id):
            return model
    known = ", ".join(model.model_id for model in models) or "none is enabled"
    raise UnknownModel(f"There is no model '{model_id}'. The models are: {known}.")


def set_price(*, model_id: str, **prices: int | None) -> LanguageModel:
    """Set a model's prices: field name -> micro-credits. None removes the price of cached input.

    Raises UnknownModel and ValidationError.
    """
    model = get_model(model_id)
    for name, value in prices.items():
        if value is not None and value < 0:
            raise ValidationError({name: "A price is never negative."})
        setattr(model, name, value)
    model.clean()
    model.save(update_fields=list(prices))
    return model


# --- Keys -------------------------------------------------------------------------------------


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
    clear = keys.generate_key(is_test=is_test)
    record = ApiKey(
        id=key_id or uuid.uuid4(),
        channel=channel,
        mode=ApiKey.Mode.TEST if is_test else ApiKey.Mode.LIVE,
        key_prefix=keys.key_prefix(is_test=is_test),
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


# --- Providers ---------------------------------------------------------------------------------


@transaction.atomic
def set_provider_key(*, provider: Provider, clear: str, actor: Actor = COMMAND_LINE) -> None:
    """Store a provider's key encrypted. '' deletes the stored key."""
    if clear:
        PROVIDER_KEYS.seal(provider, clear)
    else:
        provider.encryption_key_id, provider.key_ciphertext = "", None
    provider.save(update_fields=["encryption_key_id", "key_ciphertext"])
    action = "provider.key_set" if clear else "provider.key_forgotten"
    audit.record(action, actor=actor, account_id=None, target=provider.name)
