"""Who can answer a caller, in the order they are to be tried, each behind its breaker."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from django.conf import settings
from django.utils import timezone

from channels import breaker
from channels.breaker import BREAKER_OPEN, Health
from channels.callers import Caller, ModelTerms
from channels.errors import ProviderError
from channels.models import FixedAnswer, Route
from channels.providers.base import (
    ChatRequest,
    Completion,
    OnDelta,
    Patience,
    ProviderClient,
)
from channels.providers.demo import DemoProvider
from channels.providers.fixed import FixedAnswerProvider
from channels.providers.openai_compatible import OpenAiCompatibleProvider
from channels.providers.openai_errors import CONTEXT_LENGTH_EXCEEDED
from channels.providers.simulated import SimulatedProvider
from channels.sealing import PROVIDER_KEYS
from common import crypto, db
from common.text import normalize_question

logger = logging.getLogger("gateway.channels")

# All enabled providers, also those without a route to this model: they tell an installation
# without any provider (the demo answers) from a model that nobody serves. First the one of
# PROVIDER_BASE_URL, which is no row of its own; each with what is known of its health.
_LIST_ROUTES = """
SELECT -1 AS step, 0 AS id, NULL, 'default', '', '', NULL, '', %(model_id)s,
       h.failure_count, h.is_permanent, h.retry_at
  FROM (SELECT 1) AS always
  LEFT JOIN channels_routehealth h ON h.provider_name = 'default'
                                  AND h.provider_model = %(model_id)s
UNION ALL
SELECT COALESCE(r.position, 0), COALESCE(r.id, 0), p.id, p.name, p.base_url, p.key_setting,
       p.key_ciphertext, p.encryption_key_id, r.provider_model,
       h.failure_count, h.is_permanent, h.retry_at
  FROM channels_provider p
  LEFT JOIN channels_route r ON r.provider_id = p.id AND r.model_id = %(model)s AND r.is_enabled
  LEFT JOIN channels_routehealth h ON h.provider_name = p.name
                                  AND h.provider_model = r.provider_model
 WHERE p.is_enabled
 ORDER BY step, id
"""


class RouteRow(NamedTuple):
    """A provider, its way to the model that was asked for, if any, and what is known of that."""

    step: int
    id: int
    provider_id: Any  # None: the one of PROVIDER_BASE_URL
    provider_name: str
    base_url: str
    key_setting: str
    key_ciphertext: Any
    encryption_key_id: str
    provider_model: str | None
    failure_count: int | None
    is_permanent: bool | None
    retry_at: Any

    def health(self) -> Health:
        retry_at = self.retry_at and breaker.believed(db.time_value(self.retry_at))
        return Health(self.failure_count or 0, bool(self.is_permanent), retry_at)


class GuardedRoute:
    """A provider behind its breaker: not called while it is out, and watched when it is."""

    def __init__(self, client: ProviderClient, provider_model: str, health: Health) -> None:
        self.provider_name = client.provider_name
        self.health = health
        self.has_next = False
        self._client = client
        self._provider_model = provider_model

    def complete(self, request: ChatRequest, *, patience: Patience) -> Completion:
        patience = self._share(patience)
        return self._call(request, lambda asked: self._client.complete(asked, patience=patience))

    def stream(self, request: ChatRequest, *, patience: Patience, on_delta: OnDelta) -> Completion:
        patience = self._share(patience)
        return self._call(
            request,
            lambda asked: self._client.stream(asked, patience=patience, on_delta=on_delta),
        )

    def _share(self, patience: Patience) -> Patience:
        """Leave half of the time to the next route, should this one hang."""
        return patience.halved(now=time.monotonic()) if self.has_next else patience

    def _call(self, request: ChatRequest, ask: Callable[[ChatRequest], Completion]) -> Completion:
        route = self.provider_name, self._provider_model
        if not breaker.may_call(*route, self.health, now=timezone.now()):
            raise ProviderError(BREAKER_OPEN)
        db.release_connection()
        try:
            completion = _ask_fitting(request, ask)
        except ProviderError as error:
            if not error.is_request:
                breaker.note_failure(*route, error, now=timezone.now())
                db.release_connection()
            raise
        breaker.note_success(*route, self.health)
        return completion


def _ask_fitting(request: ChatRequest, ask: Callable[[ChatRequest], Completion]) -> Completion:
    """Ask; where the provider says that the context is too long, once more with fewer turns.

    Token counts are estimates until a provider has told its own, and every tokenizer differs.
    """
    try:
        return ask(request)
    except ProviderError as error:
        shorter = request.with_fewer_turns()
        if error.reason != CONTEXT_LENGTH_EXCEEDED or shorter is None:
            raise
        logger.info("provider.context.shortened", extra={"turns_left": shorter.turn_count})
        return ask(shorter)


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
    routes: list[GuardedRoute] = []
    has_provider = False
    for row in _rows(caller.model, caller.catalogue_mark):
        api_key = _default_key() if row.provider_id is None else _provider_key(row)
        if api_key is None:
            continue
        has_provider = True
        if row.provider_model:
            client = _client(row, api_key)
            routes.append(GuardedRoute(client, row.provider_model, row.health()))
    if not has_provider:
        return [DemoProvider(is_test=False)]
    now = timezone.now()
    keep_a_last_one(routes, now=now)
    share_the_time(routes, now=now)
    return [*routes]


def _client(row: RouteRow, api_key: str) -> ProviderClient:
    is_default = row.provider_id is None
    return OpenAiCompatibleProvider(
        provider_name=row.provider_name,
        base_url=settings.PROVIDER_BASE_URL if is_default else row.base_url,
        api_key=api_key,
        provider_model=row.provider_model or "",
        # The operator wrote the default's address down; Ollama and vLLM live on private ones.
        allow_private=is_default or settings.PROVIDER_ALLOW_PRIVATE_ADDRESSES,
    )


# The rows of each model under the present mark: keys are in them as they are stored, encrypted.
_kept: tuple[str, dict[int, list[RouteRow]]] = ("", {})


def _rows(model: ModelTerms, mark: str | None) -> list[RouteRow]:
    """Return the rows of a model's routes, as read before while the catalogue's mark stays."""
    global _kept
    if mark and mark == _kept[0] and model.id in _kept[1]:
        return _kept[1][model.id]
    found = db.fetch_rows(_LIST_ROUTES, {"model": model.id, "model_id": model.model_id})
    rows = [RouteRow(*row) for row in found]
    # Rows newer than the mark do no harm, as the next caller brings another. But a failure, which
    # leaves no mark when it is over, may have come between the two.
    if mark and all(row.failure_count is None for row in rows):
        _kept = mark, (_kept[1] if mark == _kept[0] else {}) | {model.id: rows}
    return rows


def client_of(route: Route) -> ProviderClient | None:
    """Return the client of one route, past its breaker; None where its provider has no key."""
    provider = route.provider
    row = RouteRow(
        step=route.position,
        id=route.pk,
        provider_id=provider.id,
        provider_name=provider.name,
        base_url=provider.base_url,
        key_setting=provider.key_setting,
        key_ciphertext=provider.key_ciphertext,
        encryption_key_id=provider.encryption_key_id,
        provider_model=route.provider_model,
        failure_count=None,
        is_permanent=None,
        retry_at=None,
    )
    api_key = _provider_key(row)
    return None if api_key is None else _client(row, api_key)


def keep_a_last_one(routes: list[GuardedRoute], *, now: datetime) -> None:
    """Where every route is out for a permanent reason, let the first be tried all the same.

    Better an error of its own than none at all; after five in a row, only once a second.
    """
    if routes and all(r.health.is_permanent and r.health.is_out(now=now) for r in routes):
        routes[0].health = replace(routes[0].health, is_last_left=True)


def share_the_time(routes: list[GuardedRoute], *, now: datetime) -> None:
    """Tell each route whether another is to have its turn within the same deadline.

    One that is out is none: nobody's answer is to be cut short for the sake of it.
    """
    has_next = False
    for route in reversed(routes):
        route.has_next = has_next
        has_next = has_next or not route.health.is_out(now=now)


def _default_key() -> str | None:
    """The key of PROVIDER_BASE_URL, '' where it needs none; None without such a provider."""
    return settings.PROVIDER_API_KEY if settings.PROVIDER_BASE_URL else None


def _provider_key(row: RouteRow) -> str | None:
    """Return the provider's key, '' where it needs none, None where it is not configured."""
    if row.key_ciphertext is None:
        if not row.key_setting:
            return ""
        return settings.PROVIDER_KEYS.get(row.key_setting) or None
    try:
        context = PROVIDER_KEYS.context(uuid.UUID(str(row.provider_id)))
        return crypto.decrypt(row.encryption_key_id, bytes(row.key_ciphertext), context=context)
    except crypto.DecryptionError as error:
        # One undecryptable row takes its own route out, no other.
        logger.error("channels.provider_key.unreadable", extra={"reason": str(error)})
        return None
