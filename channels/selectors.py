"""Reads of the catalogue and of keys, and the staff's search for channels and accounts."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db.models import Exists, Q, QuerySet

from channels.callers import Caller, ModelTerms
from channels.models import ApiKey, Channel, LanguageModel, Membership
from common.money import format_credits


def list_models(
    *, account_id: int | None = None, current_model_id: str = ""
) -> list[dict[str, Any]]:
    """Return the models an account may choose, as callers see them. `current` marks one of them."""
    return [
        describe_model(model, is_current=model.model_id == current_model_id)
        for model in models_allowed(account_id)
    ]


def models_allowed(account_id: int | None) -> QuerySet[LanguageModel]:
    """Return the enabled models of an account's plan, or all if the plan names none.

    Without an account, returns all enabled models.
    """
    models = LanguageModel.objects.filter(is_enabled=True)
    if account_id is None:
        return models
    chosen = LanguageModel.objects.filter(plans__accounts=account_id).order_by()
    return models.filter(Q(id__in=chosen.values("id")) | ~Exists(chosen))


def find_terms(*, caller: Caller, model_id: str) -> ModelTerms | None:
    """Return the terms of the channel's own model or another it may use, or None for any other."""
    if model_id == caller.model.model_id:
        return caller.model
    row = _terms(models_allowed(caller.account_id).filter(model_id=model_id)).first()
    return ModelTerms(*row) if row else None


def list_terms(*, caller: Caller) -> list[ModelTerms]:
    """Return the terms of every model the channel may use. Always includes its own model."""
    found = [ModelTerms(*row) for row in _terms(models_allowed(caller.account_id))]
    if caller.model.model_id not in {model.model_id for model in found}:
        found.insert(0, caller.model)
    return found


def _terms(models: QuerySet[LanguageModel]) -> QuerySet[LanguageModel, Any]:
    return models.values_list(
        "id",
        "model_id",
        "context_window_tokens",
        "max_output_tokens",
        "price_per_reply_microcredits",
        "price_per_1k_input_tokens_microcredits",
        "price_per_1k_output_tokens_microcredits",
        "price_per_1k_cached_input_tokens_microcredits",
        "hides_thinking",
        "first_token_seconds",
        "image_tokens",
    )


def describe_model(model: LanguageModel, *, is_current: bool) -> dict[str, Any]:
    """Return one model as callers see it. Prices are in decimal credits."""
    price = {
        "per_reply": format_credits(model.price_per_reply_microcredits),
        "per_1k_input_tokens": format_credits(model.price_per_1k_input_tokens_microcredits),
        "per_1k_output_tokens": format_credits(model.price_per_1k_output_tokens_microcredits),
    }
    cached = model.price_per_1k_cached_input_tokens_microcredits
    if cached is not None:
        price["per_1k_cached_input_tokens"] = format_credits(cached)
    return {
        "id": model.model_id,
        "name": model.name,
        "context_window": model.context_window_tokens,
        "max_output_tokens": model.max_output_tokens,
        "speed_tps": model.speed_tps,
        "best_for": model.best_for,
        "price": price,
        "current": is_current,
    }


def list_live_keys(*, channel_ids: Sequence[uuid.UUID], now: datetime) -> dict[uuid.UUID, ApiKey]:
    """Return the live key to show for each channel: the newest, if possible one without an end."""
    keys = usable_keys(now).filter(channel_id__in=channel_ids, mode=ApiKey.Mode.LIVE)
    by_age = sorted(keys, key=lambda key: (key.expires_at is None, key.created_at))
    return {key.channel_id: key for key in by_age}


def usable_keys(now: datetime) -> QuerySet[ApiKey]:
    """Return the keys that work now. Defers their ciphertext and digest."""
    return ApiKey.objects.filter(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None).defer(
        "key_ciphertext", "key_digest"
    )


# --- Search for the staff ---------------------------------------------------------------------


def accounts_matching(term: str) -> Q:
    """Return a filter for accounts by name, by a member's address, or by one of their channels."""
    members = Membership.objects.filter(user__email__icontains=term)
    channels = Channel.objects.filter(_channel_itself(term))
    return (
        Q(name__icontains=term)
        | Q(id__in=members.values("account_id"))
        | Q(id__in=channels.values("account_id"))
    )


def channels_matching(term: str) -> Q:
    """Return a filter for channels by their own fields, their account's name, or a member."""
    members = Membership.objects.filter(user__email__icontains=term)
    return (
        _channel_itself(term)
        | Q(account__name__icontains=term)
        | Q(account_id__in=members.values("account_id"))
    )


def _channel_itself(term: str) -> Q:
    """Return a filter for channels by a part of their name or site, their id, or a key's end."""
    found = Q(name__icontains=term) | Q(site_url__icontains=term)
    if ending := key_ending(term):
        with_key = ApiKey.objects.filter(key_last_four=ending)
        found |= Q(id__in=with_key.values("channel_id"))
    try:
        return found | Q(id=uuid.UUID(term))
    except ValueError:
        return found


def key_ending(term: str) -> str:
    """Return the end of a key, typed alone or with its mask (`amgai_…x7Qf`), or '' otherwise."""
    found = re.fullmatch(r"(?:.*…)?([0-9A-Za-z]{4})", term.strip())
    return found[1] if found else ""
