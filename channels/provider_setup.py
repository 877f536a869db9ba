"""Setting up a provider: addresses to begin with, a test before anything is saved, and saving."""

from __future__ import annotations

import time
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Max
from django.utils.translation import gettext_lazy as _

from channels import audit, catalogue, provider_lists, route_tests, routes
from channels.audit import Actor
from channels.errors import ProviderError
from channels.models import LanguageModel, Provider, Route
from channels.providers.openai_models import list_served_models
from channels.route_tests import Result
from channels.sealing import PROVIDER_KEYS
from common import db

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

LIST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Preset:
    """A known provider. Its address can be changed; models change too often to be listed here."""

    name: str
    title: StrOrPromise
    base_url: str
    note: StrOrPromise = ""
    # The others run on the operator's own machines, which may ask for none.
    needs_key: bool = True


PRESETS = {
    one.name: one
    for one in (
        Preset("openai", "OpenAI", "https://api.openai.com/v1"),
        Preset(
            "anthropic",
            "Anthropic",
            "https://api.anthropic.com/v1",
            _(
                "Anthropic's endpoint that is compatible with OpenAI's. It ignores some "
                "parameters, and may give no list of models: type a model's name to test it."
            ),
        ),
        Preset("groq", "Groq", "https://api.groq.com/openai/v1"),
        Preset("mistral", "Mistral", "https://api.mistral.ai/v1"),
        Preset("deepseek", "DeepSeek", "https://api.deepseek.com/v1"),
        Preset("together", "Together", "https://api.together.xyz/v1"),
        Preset("openrouter", "OpenRouter", "https://openrouter.ai/api/v1"),
        Preset(
            "ollama",
            "Ollama",
            "http://127.0.0.1:11434/v1",
            _(
                "On this machine, no key. Set PROVIDER_ALLOW_PRIVATE_ADDRESSES=true and restart "
                "first: its address is private."
            ),
            needs_key=False,
        ),
        Preset(
            "vllm",
            "vLLM",
            "http://127.0.0.1:8000/v1",
            _(
                "On this machine; a key only if it was started with one. Set "
                "PROVIDER_ALLOW_PRIVATE_ADDRESSES=true and restart first: its address is private."
            ),
            needs_key=False,
        ),
        Preset(
            "custom",
            _("Another one"),
            "",
            _("Any server that speaks OpenAI's protocol."),
            needs_key=False,
        ),
    )
}


def must_enter_key(preset: Preset) -> bool:
    """Return whether the provider needs a key and has none yet, stored or in the environment."""
    if not preset.needs_key:
        return False
    known = Provider.objects.filter(name=preset.name).first()
    if known is None or not (known.key_setting or known.encryption_key_id):
        return True
    known.is_enabled = True  # as it will be; the key of one that is off counts as there
    return not routes.has_key(known)


@dataclass(frozen=True, slots=True)
class Trial:
    """What a provider answered: its list of models or why not, and a call of one of them."""

    names: list[str] = field(default_factory=list)
    list_error: str = ""
    result: Result | None = None

    @property
    def list_words(self) -> str:
        return provider_lists.explain(self.list_error)


def try_out(*, provider: Provider, clear_key: str, provider_model: str) -> Trial:
    """Fetch the provider's list of models and, if one is named, call it. Saves nothing.

    `provider` need not be saved. `clear_key` stands in for its stored key if it is not ''. No
    transaction may be open.
    """
    provider = copy(provider)
    if clear_key:
        PROVIDER_KEYS.seal(provider, clear_key)
    route = Route(provider=provider, provider_model=provider_model)
    client = routes.client_of(route)
    if client is None:
        return Trial(list_error=route_tests.NO_KEY)
    db.release_connection()
    names, list_error = [], ""
    try:
        names = list_served_models(client, deadline=time.monotonic() + LIST_SECONDS)
    except ProviderError as error:
        list_error = error.reason
    result = route_tests.try_route(route) if provider_model else None
    return Trial(names, list_error, result)


@transaction.atomic
def save(
    *,
    provider: Provider,
    clear_key: str,
    model: LanguageModel | None,
    provider_model: str,
    actor: Actor,
) -> None:
    """Save a provider, its key if it is not '', and a last route to it for a model if there is one.

    A provider that exists is switched on.
    """
    is_new = provider._state.adding
    was_enabled = provider.is_enabled and not is_new
    provider.is_enabled = True
    provider.save()
    before = {} if is_new else {"is_enabled": was_enabled}
    after = {"name": provider.name, "base_url": provider.base_url} if is_new else {}
    changes = audit.changes_between(before, after | {"is_enabled": True})
    if changes:
        deed = "provider.created" if is_new else "provider.updated"
        audit.record(deed, actor=actor, account_id=None, target=str(provider), changes=changes)
    if clear_key:
        catalogue.set_provider_key(provider=provider, clear=clear_key, actor=actor)
    if model is not None:
        last = model.routes.aggregate(last=Max("position"))["last"]
        position = 0 if last is None else last + 1
        Route.objects.create(
            model=model, provider=provider, provider_model=provider_model, position=position
        )
        audit.record("route.created", actor=actor, account_id=None, target=f"{model} at {provider}")
