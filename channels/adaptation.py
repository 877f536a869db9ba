"""Asks a provider the way its route takes it, and remembers for all processes what it learns.

A refusal of how the gateway asks, rather than of what is asked, is followed by another try at
once. It costs nothing but its time: providers charge for answers. What was learned is kept when the
provider has taken the request that way. An answer teaches one thing itself: whether it begins
within a thought (channels/providers/thinking.py). The next one that does not takes that back.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, replace
from typing import Any

from django.db import Error as AnyDatabaseError
from django.utils import timezone

from channels.errors import ProviderError
from channels.models import Route, RouteTraits
from channels.providers.base import ChatRequest, Completion, OnDelta, Patience
from channels.providers.faults import CONTEXT_LENGTH_EXCEEDED
from channels.providers.lessons import learn
from channels.providers.openai_compatible import OpenAiCompatibleProvider
from channels.providers.traits import NO_SYSTEM_ROLE, ONE_SYSTEM_MESSAGE, Traits, arranged
from common import db

logger = logging.getLogger("gateway.channels")

# A provider is asked again only with another request, changed by what its refusal taught, and never
# twice the same way. There are seven lessons (lessons.py), of which real providers teach one to
# three at once. Or it is asked with less of a long conversation: half of the turns, then a quarter
# of those each time, so that six tries go from 2,000 turns to none. All else is asked once.
MOST_TRIES = 8
_FIRST_DIVISOR, _NEXT_DIVISOR = 2, 4
# An answer is made shorter down to this, where a provider does not say what would fit.
_SHORTEST_ANSWER_TOKENS = 64


def ask(
    client: OpenAiCompatibleProvider,
    request: ChatRequest,
    *,
    patience: Patience,
    on_delta: OnDelta | None = None,
) -> Completion:
    """Return the answer to a request, however the provider wants to be asked.

    At most MOST_TRIES calls: each after the first needs a lesson that changes the request, or a
    conversation that can be shorter. What teaches nothing is raised at once. Raises ProviderError,
    of the last try. No connection to the database is held but at the end, where something was
    learned.
    """
    before, has_tried_shorter = client.traits, False
    tried = {before}
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
            traits = learn(error, request, client.traits)
            if traits is not None and traits not in tried:
                client.traits = traits
                tried.add(traits)
                continue
            shorter = _shorter(error, request, has_tried_shorter=has_tried_shorter)
            if shorter is None:
                raise
            request, has_tried_shorter = shorter, True
            logger.info("provider.context.shortened", extra={"turns_left": request.turn_count})
        else:
            in_thought = completion.began_in_thought
            if in_thought not in (None, client.traits.begins_in_thought):
                client.traits = replace(client.traits, begins_in_thought=bool(in_thought))
            remember(client, before)
            return completion
    raise AssertionError("the last try returns or raises")


def _shorter(
    error: ProviderError, request: ChatRequest, *, has_tried_shorter: bool
) -> ChatRequest | None:
    """Return the request with fewer turns, then with less room, where that may be its fault.

    Token counts are estimates until a provider has told its own, and every tokenizer differs. A
    refusal that nobody understands may mean the length too, so that it is worth one try.
    """
    if error.reason == CONTEXT_LENGTH_EXCEEDED:
        divisor = _NEXT_DIVISOR if has_tried_shorter else _FIRST_DIVISOR
        return request.with_fewer_turns(divisor) or request.with_less_room(
            _SHORTEST_ANSWER_TOKENS, divisor
        )
    is_unknown = error.status in (400, 422) and error.reason == f"status_{error.status}"
    return request.with_fewer_turns() if is_unknown and not has_tried_shorter else None


def remember(client: OpenAiCompatibleProvider, before: Traits) -> None:
    """Keep for every process what was learned of a route since it had the traits of before.

    Never fails: it can be learned again.
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
        # What was learned elsewhere would hold here from now on.
        RouteTraits.objects.filter(**route).exclude(base_url=client.base_url).delete()
        RouteTraits.objects.update_or_create(
            **route,
            defaults=learned | {"base_url": client.base_url, "learned_at": timezone.now()},
        )
    except AnyDatabaseError:
        logger.warning("provider.route.not_remembered", extra=route)
    finally:
        db.release_connection()


def describe(route: Route) -> str:
    """Return in words what was learned of a route; empty where nothing was."""
    traits = RouteTraits.objects.filter(
        provider_name=route.provider.name, provider_model=route.provider_model
    ).first()
    if traits is None:
        return ""
    limit, window = traits.max_output_tokens, traits.context_window_tokens
    systems = {
        ONE_SYSTEM_MESSAGE: "takes one system message, the first",
        NO_SYSTEM_ROLE: "takes no system message; its text goes in front of the first message",
    }
    parts = [
        traits.limit_name and f"calls the answer's limit {traits.limit_name}",
        "" if traits.has_stream_options else "takes no stream_options, so that usage is estimated",
        systems.get(traits.system_messages, ""),
        "takes content as text only" if traits.has_text_content else "",
        f"has a context window of {window:,} tokens" if window else "",
        f"answers with at most {limit:,} tokens" if limit else "",
        "begins its answers within a thought" if traits.begins_in_thought else "",
    ]
    said = "; ".join(filter(None, parts))
    if not said:  # all of it was taken back
        return ""
    return f"{said[:1].upper()}{said[1:]}. Since {traits.learned_at:%Y-%m-%d %H:%M} UTC."
