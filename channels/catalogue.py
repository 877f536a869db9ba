"""The catalogue: which models an account may use, their prices, and providers' keys."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Exists, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from channels import audit, model_ends
from channels.audit import COMMAND_LINE, Actor
from channels.callers import Caller, ModelTerms
from channels.errors import UnknownModel
from channels.models import LanguageModel, Provider
from channels.sealing import PROVIDER_KEYS
from common.money import format_credits


def get_model(model_id: str, *, account_id: int | None = None) -> LanguageModel:
    """Return the model with this gateway id that the account may choose. '' means the first one.

    Raises UnknownModel, whose message lists the available ids.
    """
    return _find(model_id, list(models_offered(account_id)))


def _find(model_id: str, models: list[LanguageModel]) -> LanguageModel:
    for model in models:
        if model_id in ("", model.model_id):
            return model
    known = ", ".join(model.model_id for model in models) or _("none is enabled")
    text = _("There is no model '%(model)s'. The models are: %(models)s.")
    raise UnknownModel(text % {"model": model_id, "models": known})


def set_price(*, model_id: str, **prices: int | None) -> LanguageModel:
    """Set a model's prices: field name -> micro-credits. None removes the price of cached input.

    Raises UnknownModel and ValidationError.
    """
    model = _find(model_id, list(models_allowed(None)))
    for name, value in prices.items():
        if value is not None and value < 0:
            raise ValidationError({name: _("A price is never negative.")})
        setattr(model, name, value)
    model.clean()
    model.save(update_fields=list(prices))
    return model


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


def list_models(
    *, account_id: int | None = None, current_model_id: str = ""
) -> list[dict[str, Any]]:
    """Return the models an account may choose, as callers see them. `current` marks one of them.

    Includes the current one after it has retired, because it may still answer.
    """
    today = timezone.now().date()
    models = [
        model
        for model in models_allowed(account_id)
        if model.model_id == current_model_id or not model.is_over(today)
    ]
    ends = model_ends.list_ends(
        [model.model_id for model in models], account_id=account_id, today=today
    )
    return [
        describe_model(model, is_current=model.model_id == current_model_id) | ends[model.model_id]
        for model in models
    ]


def models_offered(account_id: int | None) -> QuerySet[LanguageModel]:
    """Return the models that a channel may change to: those allowed that have not retired."""
    is_left = Q(ends_on=None) | Q(ends_on__gt=timezone.now().date())
    return models_allowed(account_id).filter(is_left)


def models_allowed(account_id: int | None) -> QuerySet[LanguageModel]:
    """Return the enabled models of an account's plan, or all if the plan names none.

    Without an account, returns all enabled models. Includes retired ones, because callers who
    name them under /v1 still get an answer.
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
