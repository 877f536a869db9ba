"""Changes to channels: create, update, move, delete."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable
from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.utils import timezone
from django.utils.translation import gettext as _

from channels import accounts, api_keys, audit, catalogue, fixed_answers, limits, model_ends
from channels.audit import COMMAND_LINE, Actor
from channels.errors import ChannelChanged, ChannelInUse, MadeBefore, UnknownChannel
from channels.key_terms import KeyTerms
from channels.models import (
    ANSWER_SETTINGS,
    Account,
    Channel,
    LanguageModel,
    PromptVersion,
    User,
)
from channels.usable_keys import usable_keys

# The names of the keys that a new channel gets. They are stored, so they are in one language.
KEY_NAMES = {False: "Live key", True: "Test key"}
# The fields of a channel that belong to a version of its prompt.
OF_A_VERSION = {"system_prompt", *ANSWER_SETTINGS}
_MODELS = {"model", "fallback_model"}


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
    model = catalogue.get_model(model_id, account_id=account.id)
    channel = Channel(account=account, name=name, model=model, **fields)
    channel.full_clean()
    limits.refuse_beyond(locked, limits.CHANNELS)
    limits.refuse_beyond(locked, limits.PROMPT_VERSIONS)
    channel.save(force_insert=True)
    _keep_version(channel, author=actor.user)
    audit.record("channel.created", actor=actor, account_id=account.id, channel=channel)
    return channel


@transaction.atomic
def create_channel_with_keys(
    *,
    account: Account,
    id: uuid.UUID | None = None,  # noqa: A002  # the field's own name
    actor: Actor = COMMAND_LINE,
    **fields: Any,
) -> tuple[Channel, list[api_keys.IssuedKey]]:
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
        api_keys.issue_api_key(
            channel=channel, is_test=is_test, terms=KeyTerms(name=name), actor=actor
        )
        for is_test, name in KEY_NAMES.items()
    ]
    return channel, issued


# What a copy of a channel has in common with it.
_COPIED = (
    "site_url", "tags", "system_prompt", "fallback_replies", "requests_per_minute", "daily_quota",
    *ANSWER_SETTINGS,
)  # fmt: skip


@transaction.atomic
def duplicate_channel(
    *,
    channel: Channel,
    id: uuid.UUID,  # noqa: A002  # the field's own name
    actor: Actor,
) -> tuple[Channel, list[api_keys.IssuedKey]]:
    """Create a channel with the same settings, prompt, and saved replies, and keys of its own.

    “Copy of” in its name is in the language of the person who asks. Spend caps and the id that a
    program gave stay with the original. Raises what create_channel_with_keys raises.
    """
    name = _("Copy of %(name)s") % {"name": channel.name}
    copy, issued = create_channel_with_keys(
        account=channel.account,
        id=id,
        actor=actor,
        name=name[: Channel._meta.get_field("name").max_length],
        model_id=channel.model.model_id,
        **{field: getattr(channel, field) for field in _COPIED},
    )
    fixed_answers.copy_fixed_answers(source=channel, target=copy, actor=actor)
    return copy, issued


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

    A changed system prompt or answer setting becomes a new version, with `prompt_note`. A different
    `account` moves the channel and revokes its keys (see move_channel). Raises UnknownChannel,
    UnknownModel, PlanLimitReached, ValidationError, which names each invalid field, and
    ChannelChanged if `expected_digest` (see digest_fields) does not match the stored fields.
    """
    channel, account = _lock_channel(channel_id, fields.get("account"))
    if model_id:
        fields["model"] = catalogue.get_model(model_id, account_id=channel.account_id)
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
    _refuse_unfit_models(channel, set(changes))
    if "account" in changes:
        _move(channel, before["account"], account, actor, reason=move_reason)
        del changes["account"]
    if changes.keys() & OF_A_VERSION:
        limits.refuse_beyond(account, limits.PROMPT_VERSIONS)
        changes["system_prompt"] = _add_version(channel, author=actor.user, note=prompt_note)
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


def _refuse_unfit_models(channel: Channel, changed: set[str]) -> None:
    """Raise ValidationError if a model that was just chosen has retired or is chosen twice."""
    today = timezone.now().date()
    for name in changed & _MODELS:
        model: LanguageModel | None = getattr(channel, name)
        if model is None:
            continue
        if model.ends_on is not None and model.is_over(today):
            day = model_ends.show_day(model.ends_on)
            text = _("%(model)s retired on %(day)s. Choose another model.")
            raise ValidationError({name: text % {"model": model, "day": day}})
        if name == "fallback_model" and not model.is_enabled:
            text = _("%(model)s is switched off. Choose another model.")
            raise ValidationError({name: text % {"model": model}})
    if "model" in changed and channel.fallback_model_id == channel.model_id:
        text = _(
            "%(model)s is this channel's fallback model. Choose another model, or change the "
            "fallback on the prompt's page first."
        )
        raise ValidationError({"model": text % {"model": channel.model}})


@transaction.atomic
def replace_model(
    *,
    channel_id: str,
    field: str,
    left: LanguageModel,
    entered: LanguageModel,
    action: str,
    actor: Actor,
) -> Channel:
    """Replace a channel's model, or its fallback model, even if nobody may choose that any more.

    `field` is "model" or "fallback_model". A fallback model belongs to the prompt's version, so
    that the channel gets a new one, whatever its account's plan allows. Raises UnknownChannel,
    ChannelChanged if `left` is no longer the channel's, and ValidationError if the plan does not
    allow `entered`, or if the channel has it already.
    """
    channel, _ = _lock_channel(channel_id, None)
    if channel.serializable_value(field) != left.pk:
        raise ChannelChanged
    setattr(channel, field, entered)
    _clean(channel, {field})
    changes: dict[str, Any] = {field: (left, entered)}
    if field in OF_A_VERSION:
        note = f"Fallback model: {entered} instead of {left}, which retired"
        if entered.is_over(timezone.now().date()):
            note = f"Fallback model: back to {entered}"
        changes["system_prompt"] = _add_version(channel, author=actor.user, note=note)
    channel.save(update_fields=[field, "prompt_version"])
    audit.record(
        action, actor=actor, account_id=channel.account_id, channel=channel, changes=changes
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
    account = accounts.get_account(owner_email=owner_email)
    return update_channel(
        channel_id=str(channel.id), account=account, move_reason=reason, actor=actor
    )


def _move(channel: Channel, left: Account, entered: Account, actor: Actor, *, reason: str) -> None:
    limits.refuse_beyond(entered, limits.CHANNELS)
    brought = channel.prompt_versions.count(), channel.fixed_answers.count()
    limits.refuse_beyond(entered, limits.PROMPT_VERSIONS, adding=brought[0])
    limits.refuse_beyond(entered, limits.SAVED_REPLIES, adding=brought[1])
    for api_key in usable_keys(timezone.now()).filter(channel=channel):
        api_keys.revoke_api_key(api_key=api_key, actor=actor)
    # It is unique in an account, and means nothing to another.
    channel.external_id = None
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
    judged = names | {NON_FIELD_ERRORS} | (_MODELS if "account" in names else set())
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
    """Delete a channel that no message, and no day of one, refers to. Raises ChannelInUse."""
    account_id, target = channel.account_id, f"{channel.name} ({channel.id})"
    try:
        channel.delete()
    except ProtectedError:
        raise ChannelInUse from None
    audit.record("channel.deleted", actor=actor, account_id=account_id, target=target)


def _add_version(channel: Channel, *, author: User | None, note: str) -> tuple[str, str]:
    """Make the channel's prompt and settings its next version. Returns the names of old and new."""
    channel.prompt_version += 1
    _keep_version(channel, author=author, note=note)
    return f"version {channel.prompt_version - 1}", f"version {channel.prompt_version}"


def _keep_version(channel: Channel, *, author: User | None, note: str = "") -> None:
    """Store the channel's prompt and answer settings as its version."""
    PromptVersion.objects.create(
        channel=channel,
        number=channel.prompt_version,
        text=channel.system_prompt,
        author=author,
        note=note,
        **{name: getattr(channel, name) for name in ANSWER_SETTINGS},
    )


def get_channel(channel_id: str) -> Channel:
    """Return a channel by its id. Raises UnknownChannel."""
    try:
        return Channel.objects.select_related("account").get(id=uuid.UUID(channel_id))
    except (ValueError, Channel.DoesNotExist):
        raise UnknownChannel(f"There is no channel '{channel_id}'.") from None
