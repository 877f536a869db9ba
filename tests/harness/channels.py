"""Creates the channels, providers, and routes that checks need, with the gateway's own code."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from channels import catalogue
from channels.models import LanguageModel, Provider, Route
from gateway import provisioning


def channels(wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Create channels with both keys, all in one transaction."""
    with transaction.atomic():
        return [make_channel(number, one) for number, one in enumerate(wanted)]


def make_channel(number: int, wanted: dict[str, Any]) -> dict[str, Any]:
    fields = {name: wanted[name] for name in ("requests_per_minute", "daily_quota")}
    channel, api_key, test_key = provisioning.create_channel(
        owner_email=wanted["owner"],
        model_id=ensure_model(wanted["model_id"]),
        credit_microcredits=wanted["microcredits"],
        name=f"Channel {number}",
        system_prompt=wanted["system_prompt"],
        **fields,
    )
    return {
        "channel_id": str(channel.id),
        "account_id": channel.account_id,
        "api_key": api_key,
        "test_key": test_key,
        "model_id": channel.model.model_id,
    }


def ensure_model(model_id: str) -> str:
    """Create a model like the catalogue's first, served by the same provider."""
    if model_id and not LanguageModel.objects.filter(model_id=model_id).exists():
        model = LanguageModel.objects.order_by("position", "model_id")[0]
        model.pk, model.model_id, model.position = None, model_id, 1000
        model.save(force_insert=True)
    return model_id


def routes(wanted: list[dict[str, str]]) -> None:
    """Create providers and routes for models, in this order. They replace the models' routes."""
    Route.objects.filter(model__model_id__in={one["model_id"] for one in wanted}).delete()
    for position, one in enumerate(wanted):
        provider = Provider.objects.create(name=one["name"], base_url=one["base_url"])
        if one.get("key"):
            catalogue.set_provider_key(provider=provider, clear=one["key"])
        model = LanguageModel.objects.get(model_id=one["model_id"])
        Route.objects.create(
            model=model, provider=provider, provider_model="mock-model", position=position
        )
