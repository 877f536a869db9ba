"""What the gateway learned about routes: stored for all processes, and described.

It keeps the form in which a provider accepted a request (`ask` in providers/openai_compatible.py).
One lesson comes from answers: whether they begin within a thought (providers/thinking.py). Only the
answer to the staff's route test teaches it, because a tenant's words could make a model write the
tag and so delay everybody's streams.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from typing import Any

from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext

from channels.models import LanguageModel, Route, RouteTraits
from channels.providers.base import Completion
from channels.providers.openai_compatible import OpenAiCompatibleProvider
from channels.providers.traits import (
    NO_SYSTEM_ROLE,
    ONE_SYSTEM_MESSAGE,
    REFUSABLE,
    Traits,
)
from common import db
from common.pages import dates
from common.pages.numbers import local_number

logger = logging.getLogger("gateway.channels")


def learn_of_thoughts(client: OpenAiCompatibleProvider, completion: Completion) -> None:
    """Store whether a route's answers begin within a thought, or revert that."""
    if completion.began_in_thought:
        learned = replace(client.traits, begins_in_thought=True)
        remember(client.with_traits(learned), client.traits)
    elif completion.began_in_thought is False:
        RouteTraits.objects.filter(
            provider_name=client.provider_name,
            provider_model=client.provider_model,
            begins_in_thought=True,
        ).update(begins_in_thought=False)


def remember(client: OpenAiCompatibleProvider, before: Traits) -> None:
    """Store what was learned about a route since it had the traits `before`, for every process.

    A database error is only logged, because the gateway can learn it again.
    """
    if client.traits == before:
        return
    learned = {
        name: value
        for name, value in asdict(client.traits).items()
        if value != getattr(before, name)
    }
    route: dict[str, Any] = {
        "provider_name": client.provider_name,
        "provider_model": client.provider_model,
    }
    logger.info("provider.route.learned", extra=route | learned)
    try:
        # Otherwise traits learned at another address would apply here too.
        RouteTraits.objects.filter(**route).exclude(base_url=client.base_url).delete()
        RouteTraits.objects.update_or_create(
            **route,
            defaults=learned | {"base_url": client.base_url, "learned_at": timezone.now()},
        )
    except AnyDatabaseError:
        logger.warning("provider.route.not_remembered", extra=route)
    finally:
        db.release_connection()


def list_ignored(model: LanguageModel) -> set[str]:
    """Return which settings of a channel a route of the model refuses, by the protocol's names."""
    routes = Route.objects.filter(
        model=model,
        is_enabled=True,
        provider__is_enabled=True,
        provider__name=OuterRef("provider_name"),
        provider__base_url=OuterRef("base_url"),
        provider_model=OuterRef("provider_model"),
    )
    # The provider of PROVIDER_BASE_URL has no row, and the gateway's names for models.
    of_settings = Q(
        provider_name="default", provider_model=model.model_id, base_url=settings.PROVIDER_BASE_URL
    )
    found = RouteTraits.objects.filter(Exists(routes) | of_settings)
    return {
        name
        for values in found.values(*REFUSABLE.values())
        for name, trait in REFUSABLE.items()
        if values[trait]
    }


def describe(route: Route) -> str:
    """Return a sentence about what was learned about a route, or '' if nothing was."""
    traits = RouteTraits.objects.filter(
        provider_name=route.provider.name, provider_model=route.provider_model
    ).first()
    if traits is None:
        return ""
    limit, window = traits.max_output_tokens, traits.context_window_tokens
    systems = {
        ONE_SYSTEM_MESSAGE: gettext("takes one system message, the first"),
        NO_SYSTEM_ROLE: gettext("takes no system message; its text goes before the first message"),
    }
    parts = [
        traits.limit_name
        and gettext("calls the answer's limit %(name)s") % {"name": traits.limit_name},
        ""
        if traits.has_stream_options
        else gettext("takes no stream_options, so that usage is estimated"),
        systems.get(traits.system_messages, ""),
        gettext("takes content as text only") if traits.has_text_content else "",
        gettext("has a context window of %(count)s tokens") % {"count": local_number(window)}
        if window
        else "",
        gettext("answers with at most %(count)s tokens") % {"count": local_number(limit)}
        if limit
        else "",
        gettext("begins its answers within a thought") if traits.begins_in_thought else "",
        gettext("takes no temperature; that of channels is left out")
        if traits.ignores_temperature
        else "",
        gettext("takes no stop words; those of channels are left out")
        if traits.ignores_stop
        else "",
    ]
    said = "; ".join(filter(None, parts))
    if not said:  # all of it was reverted
        return ""
    return gettext("%(learned)s. Since %(time)s UTC.") % {
        "learned": f"{said[:1].upper()}{said[1:]}",
        "time": dates.show(traits.learned_at, "j M Y, H:i"),
    }
