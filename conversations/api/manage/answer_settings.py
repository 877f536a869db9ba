"""Answer settings, as programs read and write them. They belong to versions of the prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from channels import catalogue
from channels.errors import UnknownModel
from channels.models import SHORTEST_ANSWER_TOKENS, Channel, LanguageModel, PromptVersion
from conversations.api.manage.fields import LARGEST, Fields


def read_answer_settings(
    fields: Fields, *, account_id: int, channel: Channel | None
) -> dict[str, Any]:
    """Return the settings that the body has, as the services name them.

    "" removes one, and [] the stop words. The services judge the values.
    """
    read: dict[str, Callable[[], Any]] = {
        "temperature": lambda: fields.decimal("temperature"),
        "max_answer_tokens": lambda: fields.integer(
            "max_answer_tokens", least=SHORTEST_ANSWER_TOKENS, most=LARGEST
        ),
        "stop_words": lambda: fields.list_of_texts("stop_words") or None,
        "fallback_model": lambda: _read_fallback(fields, account_id, channel),
    }
    removable = read.keys() - {"stop_words"}
    return {
        name: None if name in removable and fields.data[name] == "" else value()
        for name, value in read.items()
        if fields.has(name)
    }


def _read_fallback(
    fields: Fields, account_id: int, channel: Channel | None
) -> LanguageModel | None:
    """Return a model to choose, or the one chosen before, even if nobody may choose it any more."""
    model_id = fields.text("fallback_model", limit=100)
    if not model_id:
        return None
    before = channel.fallback_model if channel else None
    if before is not None and before.model_id == model_id:
        return before
    try:
        return catalogue.get_model(model_id, account_id=account_id)
    except UnknownModel as error:
        fields.wrong["fallback_model"] = str(error)
        return None


def describe_answer_settings(settings: Channel | PromptVersion) -> dict[str, Any]:
    temperature, fallback = settings.temperature, settings.fallback_model
    return {
        "temperature": None if temperature is None else float(temperature),
        "max_answer_tokens": settings.max_answer_tokens,
        "stop_words": settings.stop_words or [],
        "fallback_model": fallback.model_id if fallback else None,
    }
