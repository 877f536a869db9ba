"""Adapts requests to what a route accepts, and stores what it learns for all processes.

If a provider refuses the form of a request and not its content, the gateway tries again at once.
That costs only time, because providers charge for answers. The gateway keeps a lesson once the
provider has accepted the request in the new form. One lesson comes from answers: whether they begin
within a thought (channels/providers/thinking.py). Only the answer to the staff's route test teaches
it, because a tenant's words could make a model write the tag and so delay everybody's streams.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, replace
from typing import Any

from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext

from channels.errors import ProviderError
from channels.models import LanguageModel, Route, RouteTraits
from channels.providers.base import ChatRequest, Completion, OnDelta, Patience
from channels.providers.faults import CONTEXT_LENGTH_EXCEEDED
from channels.providers.lessons import learn, without_named
from channels.providers.openai_compatible import OpenAiCompatibleProvider
from channels.providers.traits import (
    NO_SYSTEM_ROLE,
    ONE_SYSTEM_MESSAGE,
    REFUSABLE,
    Traits,
    arranged,
)
from common import db
from common.pages.numbers import local_number

logger = logging.getLogger("gateway.channels")

# The gateway retries only with a request that the refusal's lesson has changed, and never twice in
# the same form. There are nine lessons (lessons.py), and real providers teach one to three in one
# call. Or it retries without a setting of the channel, or with fewer turns of a long conversation:
# half of them, then each time a quarter of the rest, so that six tries go from 2,000 turns to none.
# It retries nothing else.
MOST_TRIES = 10
_FIRST_DIVISOR, _NEXT_DIVISOR = 2, 4
# The gateway shortens an answer no further than this if the provider does not say what would fit.
_SHORTEST_ANSWER_TOKENS = 64


def ask(
    client: OpenAiCompatibleProvider,
    request: ChatRequest,
    *,
    patience: Patience,
    on_delta: OnDelta | None = None,
) -> Completion:
    """Return the answer to a request, in whatever form the provider accepts the request.

    Makes at most MOST_TRIES calls. Each call after the first needs a lesson that changes the
    request, a setting of the channel that can be left out, or a conversation that can be shortened.
    Raises the ProviderError of the last try, at
    once if it teaches nothing. Uses the database only at the end, and only if something was
    learned.
    """
    before, asked = client.traits, request
    tried: set[Traits] = set()
    for left in reversed(range(MOST_TRIES)):
        try:
            if on_delta is None:
                completion = client.complete(request, patience=patience)
            else:
                completion = client.stream(request, patience=patience, on_delta=on_delta)
        except ProviderError as error:
            error.places = [place for _, place in arranged(request.messages, client.traits)]
            if error.has_begun or not left or time.monotonic() >= patience.first_token_by:
                raise
            tried.add(client.traits)
            traits = learn(error, request, client.traits, tried=tried)
            if traits is not None:
                client = client.with_traits(traits)
                continue
            lesser = without_named(error, request) or _shorter(error, request, asked)
            if lesser is None:
                raise
            request = lesser
            kept = {"turns_left": request.turn_count, "options": sorted(request.options)}
            logger.info("provider.request.lessened", extra=kept)
        else:
            if client.traits is not before:
                remember(client, before)
            return completion
    raise AssertionError("the last try returns or raises")


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


def _shorter(error: ProviderError, request: ChatRequest, asked: ChatRequest) -> ChatRequest | None:
    """Return the request with fewer turns, or then with less room, if its length may be at fault.

    `asked` is the request before anything was left out. Token counts are estimates until a provider
    reports its own, and every tokenizer differs. A refusal that the gateway does not recognize may
    be about the length too, so it is worth one try.
    """
    has_tried_shorter = (request.turn_count, request.max_output_tokens) != (
        asked.turn_count,
        asked.max_output_tokens,
    )
    if error.reason == CONTEXT_LENGTH_EXCEEDED:
        divisor = _NEXT_DIVISOR if has_tried_shorter else _FIRST_DIVISOR
        return request.with_fewer_turns(divisor) or request.with_less_room(
            _SHORTEST_ANSWER_TOKENS, divisor
        )
    is_unknown = error.status in (400, 422) and error.reason == f"status_{error.status}"
    return request.with_fewer_turns() if is_unknown and not has_tried_shorter else None


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
        "time": f"{traits.learned_at:%Y-%m-%d %H:%M}",
    }
