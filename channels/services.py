"""Changes to accounts, channels, keys, models and providers; and the choice of routes."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from channels import keys, selectors
from channels.callers import Caller
from channels.errors import UnknownAccount, UnknownChannel, UnknownModel
from channels.models import (
    Account,
    ApiKey,
    Channel,
    FixedAnswer,
    LanguageModel,
    Membership,
    Provider,
    User,
)
from channels.providers.base import ProviderClient
from channels.providers.demo import DemoProvider
from channels.providers.fixed import FixedAnswerProvider
from channels.providers.openai_compatible import OpenAiCompatibleProvider
from channels.providers.simulated import SimulatedProvider
from common import crypto, db
from common.text import normalize_question

logger = logging.getLogger("gateway.channels")


# --- Accounts and channels ------------------------------------------------------------------


@transaction.atomic
def ensure_account(*, owner_email: str) -> Account:
    """Return the account this person owns, making person and account where they are missing.

    Raises ValidationError for what is no e-mail address.
    """
    account = find_account(owner_email=owner_email)
    if account is not None:
        return account
    user = User.objects.filter(email__iexact=owner_email).first()
    if user is None:
        User._meta.get_field("email").clean(owner_email, None)
        user = User.objects.create_user(owner_email)
    account = Account.objects.create(name=owner_email)
    Membership.objects.create(account=account, user=user, role=Membership.Role.OWNER)
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


def create_channel(*, account: Account, name: str, model_id: str = "", **fields: Any) -> Channel:
    """Make a channel; `model_id` defaults to the first model of the catalogue.

    Raises UnknownModel, and ValidationError naming each field that is wrong.
    """
    model = get_model(model_id, account_id=account.id)
    channel = Channel(account=account, name=name, model=model, **fields)
    channel.full_clean()
    channel.save(force_insert=True)
    return channel


def update_channel(*, channel_id: str, model_id: str = "", **fields: Any) -> Channel:
    """Change the given fields of a channel; the next request sees them.

    Raises UnknownChannel, UnknownModel, and ValidationError naming each field that is wrong.
    """
    channel = get_channel(channel_id)
    for name, value in fields.items():
        setattr(channel, name, value)
    if model_id:
        channel.model = get_model(model_id, account_id=channel.account_id)
    channel.full_clean()
    channel.save()
    return channel


def get_channel(channel_id: str) -> Channel:
    """Return a channel by its id. Raises UnknownChannel."""
    try:
        return Channel.objects.select_related("account").get(id=uuid.UUID(channel_id))
    except (ValueError, Channel.DoesNotExist):
        raise UnknownChannel(f"There is no channel '{channel_id}'.") from None


def get_model(model_id: str, *, account_id: int | None = None) -> LanguageModel:
    """Return a model the account may use by the gateway's id for it, the first one for ''.

    Raises UnknownModel, with the ids there are.
    """
    models = list(selectors.models_allowed(account_id))
    for model in models:
        if model_id in ("", model.model_id):
            return model
    known = ", ".join(model.model_id for model in models) or "none is enabled"
    raise UnknownModel(f"There is no model '{model_id}'. The models are: {known}.")


def set_price(*, model_id: str, **prices: int) -> LanguageModel:
    """Set a model's prices (field name -> micro-credits). Raises UnknownModel, ValidationError."""
    model = get_model(model_id)
    for name, value in prices.items():
        if value < 0:
            raise ValidationError({name: "A price is never negative."})
        setattr(model, name, value)
    model.save(update_fields=list(prices))
    return model


# --- Keys -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key's row and, this once, its clear text."""

    record: ApiKey
    clear: str


def issue_api_key(*, channel: Channel, is_test: bool) -> IssuedKey:
    """Make a key for a channel and store it encrypted."""
    clear = keys.generate_key(is_test=is_test)
    record = ApiKey(
        channel=channel,
        mode=ApiKey.Mode.TEST if is_test else ApiKey.Mode.LIVE,
        key_prefix=keys.key_prefix(is_test=is_test),
        key_last_four=clear[-4:],
        key_digest=crypto.digest(clear),
    )
    record.encryption_key_id, record.key_ciphertext = crypto.encrypt(
        clear, context=_key_context(record)
    )
    record.save(force_insert=True)
    return IssuedKey(record, clear)


def reveal_api_key(api_key: ApiKey) -> str:
    """Return a key's clear text. Raises common.crypto.DecryptionError."""
    return crypto.decrypt(
        api_key.encryption_key_id, bytes(api_key.key_ciphertext), context=_key_context(api_key)
    )


def revoke_api_key(*, api_key: ApiKey, at: datetime | None = None) -> None:
    """Refuse the key from now, or from `at` on; the next request in any process sees it."""
    moment = at or timezone.now()
    # Only ever earlier: a key in the overlap of a rotation can still be revoked at once.
    later = Q(revoked_at=None) | Q(revoked_at__gt=moment)
    ApiKey.objects.filter(later, id=api_key.id).update(revoked_at=moment)


def _key_context(record: ApiKey) -> str:
    return f"channels_apikey.key_ciphertext.{record.id}"


# --- Providers and routes ---------------------------------------------------------------------


def set_provider_key(*, provider: Provider, clear: str) -> None:
    """Store a provider's key encrypted, or forget it for ''."""
    if clear:
        provider.encryption_key_id, provider.key_ciphertext = crypto.encrypt(
            clear, context=_provider_context(provider.id)
        )
    else:
        provider.encryption_key_id, provider.key_ciphertext = "", None
    provider.save(update_fields=["encryption_key_id", "key_ciphertext"])


def _provider_context(provider_id: uuid.UUID) -> str:
    return f"channels_provider.key_ciphertext.{provider_id}"


# All enabled providers, also those without a route to this model: they tell an installation
# without any provider (the demo answers) from a model that nobody serves.
_LIST_ROUTES = """
SELECT p.id, p.name, p.base_url, p.key_setting, p.key_ciphertext, p.encryption_key_id,
       r.provider_model
  FROM channels_provider p
  LEFT JOIN channels_route r ON r.provider_id = p.id AND r.model_id = %s AND r.is_enabled
 WHERE p.is_enabled
 ORDER BY r.position, r.id
"""


def find_fixed_answer(caller: Caller, message: str) -> ProviderClient | None:
    """Return who gives the owner's own answer to this message, or None where there is none."""
    if not caller.has_fixed_answers:
        return None
    answers = FixedAnswer.objects.filter(
        channel_id=caller.channel_id, question_normalized=normalize_question(message)
    )
    answer = answers.values_list("answer", flat=True).first()
    return FixedAnswerProvider(answer) if answer else None


def list_routes(caller: Caller, *, simulate: str = "") -> list[ProviderClient]:
    """Return who can answer this caller, in the order they are to be tried; may be empty.

    The provider of PROVIDER_BASE_URL goes first, under the gateway's own name for the model.
    The demo answers test keys, and everybody while no provider is configured at all. `simulate`
    is a behaviour of channels.providers.simulated, for a test key.
    """
    if caller.is_test:
        return [SimulatedProvider(simulate) if simulate else DemoProvider(is_test=True)]
    routes: list[ProviderClient] = []
    if settings.PROVIDER_BASE_URL:
        routes.append(_default_route(caller.model.model_id))
    has_provider = bool(routes)
    for row in db.fetch_rows(_LIST_ROUTES, [caller.model.id]):
        provider_id, name, base_url, key_setting, ciphertext, key_id, provider_model = row
        api_key = _provider_key(provider_id, key_setting, ciphertext, key_id)
        if api_key is None:
            continue
        has_provider = True
        if provider_model:
            routes.append(
                OpenAiCompatibleProvider(
                    provider_name=name,
                    base_url=base_url,
                    api_key=api_key,
                    provider_model=provider_model,
                    allow_private=settings.PROVIDER_ALLOW_PRIVATE_ADDRESSES,
                )
            )
    return routes if has_provider else [DemoProvider(is_test=False)]


def _default_route(model_id: str) -> ProviderClient:
    return OpenAiCompatibleProvider(
        provider_name="default",
        base_url=settings.PROVIDER_BASE_URL,
        api_key=settings.PROVIDER_API_KEY,
        provider_model=model_id,
        # The operator wrote this address down; Ollama and vLLM live on private ones.
        allow_private=True,
    )


def _provider_key(
    provider_id: Any, key_setting: str, ciphertext: Any, encryption_key_id: str
) -> str | None:
    """Return the provider's key, '' where it needs none, None where it is not configured."""
    if ciphertext is None:
        return settings.PROVIDER_KEYS.get(key_setting) or None if key_setting else ""
    try:
        context = _provider_context(uuid.UUID(str(provider_id)))
        return crypto.decrypt(encryption_key_id, bytes(ciphertext), context=context)
    except crypto.DecryptionError as error:
        # One undecryptable row takes its own route out, no other.
        logger.error("channels.provider_key.unreadable", extra={"reason": str(error)})
        return None
