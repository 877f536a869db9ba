"""The routes that can answer a caller, in the order to try them, each behind its breaker."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from django.conf import settings
from django.db import connection
from django.utils import timezone

from channels import adaptation, breaker, probes
from channels.breaker import BREAKER_OPEN, Health
from channels.callers import Caller, ModelTerms
from channels.errors import ProviderError
from channels.models import FixedAnswer, Provider, Route
from channels.providers.base import ChatRequest, Completion, OnDelta, Patience, ProviderClient
from channels.providers.demo import DemoProvider
from channels.providers.fixed import FixedAnswerProvider
from channels.providers.openai_compatible import OpenAiCompatibleProvider, ask
from channels.providers.simulated import SimulatedProvider
from channels.providers.traits import PLAIN, Traits
from channels.sealing import PROVIDER_KEYS
from common import crypto, db
from common.text import normalize_question

logger = logging.getLogger("gateway.channels")

# The name of the provider of PROVIDER_BASE_URL, which has no row in the database.
DEFAULT_PROVIDER = "default"

# Lists all providers, even those without a route to this model and those that are switched off:
# they distinguish an installation without any provider (the demo answers) from a model that no
# provider serves. The provider of PROVIDER_BASE_URL, which has no row, comes first. Each comes with
# its learned traits and its health.
_TRAITS = """t.base_url, t.has_stream_options, t.system_messages, t.has_text_content,
       t.context_window_tokens, t.max_output_tokens, t.begins_in_thought,
       t.ignores_temperature, t.ignores_stop"""
_HEALTH = """h.failure_count, h.stream_failure_count, h.is_for_streams, h.opened_at, h.retry_at,
       h.failed_at"""
_LIST_ROUTES = f"""
SELECT -1 AS step, 0 AS id, NULL, 'default', TRUE, '', '', NULL, '', %(model_id)s,
       '', t.limit_name, {_TRAITS}, {_HEALTH}
  FROM (SELECT 1) AS always
  LEFT JOIN channels_routetraits t ON t.provider_name = 'default'
                                  AND t.provider_model = %(model_id)s
  LEFT JOIN channels_routehealth h ON h.provider_name = 'default'
                                  AND h.provider_model = %(model_id)s
UNION ALL
SELECT COALESCE(r.position, 0), COALESCE(r.id, 0), p.id, p.name, p.is_enabled, p.base_url,
       p.key_setting, p.key_ciphertext, p.encryption_key_id, r.provider_model,
       r.allowed_parameters, COALESCE(NULLIF(r.limit_name, ''), t.limit_name), {_TRAITS},
       {_HEALTH}
  FROM channels_provider p
  LEFT JOIN channels_route r ON r.provider_id = p.id AND r.model_id = %(model)s
                            AND r.is_enabled AND p.is_enabled
  LEFT JOIN channels_routetraits t ON t.provider_name = p.name
                                  AND t.provider_model = r.provider_model
  LEFT JOIN channels_routehealth h ON h.provider_name = p.name
                                  AND h.provider_model = r.provider_model
 ORDER BY step, id
"""  # noqa: S608  # built from constants only


class RouteRow(NamedTuple):
    """A provider and its route to the requested model, if any, with the route's known state."""

    step: int
    id: int
    provider_id: Any  # None: the one of PROVIDER_BASE_URL
    provider_name: str
    is_enabled: bool
    base_url: str
    key_setting: str
    key_ciphertext: Any
    encryption_key_id: str
    provider_model: str | None
    allowed_parameters: str | None = ""
    # The fields below are None if nothing was learned.
    limit_name: str | None = None
    learned_at_url: str | None = None
    has_stream_options: bool | None = None
    system_messages: str | None = None
    has_text_content: bool | None = None
    context_window_tokens: int | None = None
    max_output_tokens: int | None = None
    begins_in_thought: bool | None = None
    ignores_temperature: bool | None = None
    ignores_stop: bool | None = None
    failure_count: int | None = None
    stream_failure_count: int | None = None
    is_for_streams: bool | None = None
    opened_at: Any = None
    retry_at: Any = None
    failed_at: Any = None

    def traits(self, base_url: str) -> Traits:
        """Return what the gateway learned about the route, if it learned it at this address."""
        if self.learned_at_url != base_url:
            return Traits(limit_name=self.limit_name) if self.limit_name else PLAIN
        return Traits(
            limit_name=self.limit_name or "",
            has_stream_options=self.has_stream_options is None or bool(self.has_stream_options),
            system_messages=self.system_messages or "",
            has_text_content=bool(self.has_text_content),
            context_window_tokens=self.context_window_tokens,
            max_output_tokens=self.max_output_tokens,
            begins_in_thought=bool(self.begins_in_thought),
            ignores_temperature=bool(self.ignores_temperature),
            ignores_stop=bool(self.ignores_stop),
        )

    def health(self) -> Health:
        return Health.read(*self[-6:])

    def missing(self, names: frozenset[str]) -> frozenset[str]:
        """Return the parameters among `names` that staff have not allowed for this route."""
        return names and names.difference(self._allowed())

    def _allowed(self) -> Sequence[str]:
        if self.provider_id is None:
            return settings.PROVIDER_ALLOWED_PARAMETERS if settings.PROVIDER_BASE_URL else ()
        return (self.allowed_parameters or "").split()


class GuardedRoute:
    """A provider behind its breaker: not called while the route is out, observed when called.

    Requests share it, so nothing here changes. `health` is what was read with the route.
    """

    is_free = False

    def __init__(self, client: OpenAiCompatibleProvider, health: Health) -> None:
        self.provider_name = client.provider_name
        self.health = health
        # All routes of the model, in order.
        self.siblings: Sequence[GuardedRoute] = (self,)
        self._client = client

    def _share(self, patience: Patience, *, is_stream: bool) -> Patience:
        """Leave half of the time to the next route, in case this one hangs.

        A next route that is out does not count: no answer is cut short in its favour.
        """
        now = timezone.now()
        later = self.siblings[self.siblings.index(self) + 1 :]
        if all(route.health.is_out(is_stream=is_stream, now=now) for route in later):
            return patience
        return patience.halved(now=time.monotonic())

    def stream(self, request: ChatRequest, *, patience: Patience, on_delta: OnDelta) -> Completion:
        return self.complete(request, patience=patience, on_delta=on_delta)

    def complete(
        self, request: ChatRequest, *, patience: Patience, on_delta: OnDelta | None = None
    ) -> Completion:
        is_stream = on_delta is not None
        if self is not self.siblings[-1]:
            patience = self._share(patience, is_stream=is_stream)
        has_failed = self.health.failed_at is not None
        if has_failed:
            if self.health.is_open:
                self._probe_if_due(self.health, is_slow=patience.is_long)
            if self._is_left_out(is_stream=is_stream):
                raise ProviderError(BREAKER_OPEN)
            db.release_connection()
        try:
            completion, client = ask(self._client, request, patience=patience, on_delta=on_delta)
        except ProviderError as error:
            # A timeout of a model that thinks in silence is no sign of an outage.
            if not (patience.is_long and error.reason == "timeout"):
                self._note_failure(error, is_stream=is_stream, is_slow=patience.is_long)
            raise
        if client is not self._client:
            adaptation.remember(client, self._client.traits)
        # An empty answer or a refusal is evidence neither for nor against a route.
        if has_failed and (completion.text.strip() or completion.tool_calls):
            route = self.provider_name, self._client.provider_model
            breaker.note_success(*route, self.health, is_stream=is_stream, now=timezone.now())
        return completion

    def _note_failure(self, error: ProviderError, *, is_stream: bool, is_slow: bool) -> None:
        route = self.provider_name, self._client.provider_model
        health = breaker.note_failure(*route, error, is_stream=is_stream, now=timezone.now())
        self._probe_if_due(health, is_slow=is_slow)
        db.release_connection()

    def _probe_if_due(self, health: Health, *, is_slow: bool) -> None:
        probes.start_if_due(self._client, health, now=timezone.now(), is_slow=is_slow)

    def _is_left_out(self, *, is_stream: bool) -> bool:
        """Return whether to skip this route. If all routes are out, the first may still be asked.

        That ends once a probe has proven that the first one fails. Until then the provider's own
        error is better than none.
        """
        now = timezone.now()
        if not self.health.is_out(is_stream=is_stream, now=now):
            return False
        is_last_left = self is self.siblings[0] and all(
            route.health.is_out(is_stream=is_stream, now=now) for route in self.siblings
        )
        return not (is_last_left and self.health.is_open and not self.health.is_proven)


def find_fixed_answer(caller: Caller, message: str) -> FixedAnswerProvider | None:
    """Return a provider that gives the saved reply to this message, or None if there is none."""
    found = FixedAnswer.objects.filter(
        wordings__channel_id=caller.channel_id, wordings__normalized=normalize_question(message)
    )
    reply = found.values_list("id", "answer").first()
    return FixedAnswerProvider(*reply) if reply and reply[1] else None


def list_routes(
    caller: Caller, *, simulate: str = "", unlisted_options: frozenset[str] = frozenset()
) -> Sequence[ProviderClient]:
    """Return the routes that can answer this caller, in the order to try them. May be empty.

    Leaves out routes that do not take all of `unlisted_options` (see find_refused).

    The provider of PROVIDER_BASE_URL goes first, under the gateway's own name for the model. The
    demo answers test keys, and every key while no provider is set up. `simulate` is a behaviour of
    channels.providers.simulated, for a test key.
    """
    if caller.is_test:
        return [SimulatedProvider(simulate) if simulate else DemoProvider(is_test=True)]
    kept = _kept_routes(caller.model, caller.catalogue_mark)
    if not unlisted_options:
        return kept.clients
    return _clients_of(kept.rows, unlisted_options)


def _clients_of(
    rows: Sequence[RouteRow], unlisted_options: frozenset[str] = frozenset()
) -> Sequence[ProviderClient]:
    """Return the routes in these rows that take the options, or the demo if none is set up."""
    if not any(map(_is_set_up, rows)):
        return [DemoProvider(is_test=False)]
    clients = [
        (_client(row), row.health())
        for row in rows
        if row.provider_model and not row.missing(unlisted_options)
    ]
    routes = [GuardedRoute(client, health) for client, health in clients if client is not None]
    for route in routes:
        route.siblings = routes
    return routes


def find_refused(caller: Caller, names: frozenset[str]) -> frozenset[str]:
    """Return the parameters that exclude every route, or an empty set if one route takes them all.

    If every route refuses some, returns those of the route that refuses the fewest. `names` are in
    none of the gateway's tables. Test keys get the same answer as live keys.
    """
    rows = _kept_routes(caller.model, caller.catalogue_mark).rows
    missing = [row.missing(names) for row in rows if row.provider_model]
    return min(missing, key=len, default=names)


def is_demo(mark: str = "") -> bool:
    """Return whether the demo answers live keys, because no provider is set up for any model.

    With the catalogue's mark, providers are read once for as long as it stays.
    """
    return not settings.PROVIDER_BASE_URL and not any(_has_key(*row) for row in _providers(mark))


# The mark, and whether each provider is enabled, the setting with its key, and the key's own key.
_kept_providers: tuple[str, list[tuple[bool, str, str]]] = ("", [])


def _providers(mark: str) -> list[tuple[bool, str, str]]:
    global _kept_providers
    if mark and mark == _kept_providers[0]:
        return _kept_providers[1]
    rows = list(Provider.objects.values_list("is_enabled", "key_setting", "encryption_key_id"))
    # Within a transaction, rows can change again under the same mark.
    if mark and not connection.in_atomic_block:
        _kept_providers = mark, rows
    return rows


def has_key(provider: Provider) -> bool:
    """Return whether a provider has a key, or needs none. Decrypts nothing."""
    return _has_key(provider.is_enabled, provider.key_setting, provider.encryption_key_id)


def _is_set_up(row: RouteRow) -> bool:
    if row.provider_id is None:
        return bool(settings.PROVIDER_BASE_URL)
    return _has_key(bool(row.is_enabled), row.key_setting, row.encryption_key_id)


def _has_key(is_enabled: bool, key_setting: str, encryption_key_id: str) -> bool:
    """Return whether a provider has a key, or needs none.

    A provider that is switched off counts as having a key, and so does one whose key cannot be
    decrypted. Otherwise visitors would get the demo because somebody paused a provider or lost an
    encryption key.
    """
    has_stored = bool(encryption_key_id)
    return not is_enabled or has_stored or not key_setting or bool(_key_of_setting(key_setting))


def _key_of_setting(name: str) -> str:
    return settings.PROVIDER_KEYS.get(name) or ""


def _client(row: RouteRow) -> OpenAiCompatibleProvider | None:
    """Return the client of a route, without its breaker. None if its provider has no key."""
    if _key_of(row) is None:
        return None
    is_default = row.provider_id is None
    base_url = settings.PROVIDER_BASE_URL if is_default else row.base_url
    return OpenAiCompatibleProvider(
        provider_name=row.provider_name,
        base_url=base_url,
        # Read for each call, because a cached client holds no key in clear.
        read_key=partial(_key_of, row),
        provider_model=row.provider_model or "",
        # The operator chose the default's address, and Ollama and vLLM run on private ones.
        allow_private=is_default or settings.PROVIDER_ALLOW_PRIVATE_ADDRESSES,
        traits=row.traits(base_url),
    )


class KeptRoutes(NamedTuple):
    """A model's routes: their rows, and what answers in the order to try them."""

    rows: Sequence[RouteRow]
    clients: Sequence[ProviderClient]


# The routes of each model under the current version: the catalogue's mark, and the address of the
# provider that has no row. Keys in them are encrypted, as stored.
_kept: tuple[tuple[str, str], dict[int, KeptRoutes]] = (("", ""), {})


def _kept_routes(model: ModelTerms, mark: str | None) -> KeptRoutes:
    """Return a model's routes. Cached for as long as the catalogue's mark stays."""
    global _kept
    version = mark or "", settings.PROVIDER_BASE_URL
    if mark and version == _kept[0] and model.id in _kept[1]:
        return _kept[1][model.id]
    found = db.fetch_rows(_LIST_ROUTES, {"model": model.id, "model_id": model.model_id})
    rows = [RouteRow(*row) for row in found]
    routes = KeptRoutes(rows, _clients_of(rows))
    # Rows that are newer than the mark do no harm, because the next caller brings a new mark. But a
    # failure may have happened between the two reads, and its end does not change the mark. So rows
    # with a failure are not cached.
    if mark and all(row.failed_at is None for row in rows):
        _kept = version, (_kept[1] if version == _kept[0] else {}) | {model.id: routes}
    return routes


def client_of(route: Route) -> OpenAiCompatibleProvider | None:
    """Return the client of one route, without its breaker. None if its provider has no key."""
    provider = route.provider
    row = RouteRow(
        step=route.position,
        id=route.pk,
        provider_id=provider.id,
        provider_name=provider.name,
        is_enabled=provider.is_enabled,
        base_url=provider.base_url,
        key_setting=provider.key_setting,
        key_ciphertext=provider.key_ciphertext,
        encryption_key_id=provider.encryption_key_id,
        provider_model=route.provider_model,
    )
    return _client(row)


def default_client_of(model_id: str) -> OpenAiCompatibleProvider | None:
    """Return PROVIDER_BASE_URL's client for a model, without its breaker. None if it is unset."""
    row = RouteRow(
        step=-1,
        id=0,
        provider_id=None,
        provider_name=DEFAULT_PROVIDER,
        is_enabled=True,
        base_url="",
        key_setting="",
        key_ciphertext=None,
        encryption_key_id="",
        provider_model=model_id,
    )
    return _client(row)


def _key_of(row: RouteRow) -> str | None:
    """Return the provider's key, '' if it needs none, or None if it has no readable key."""
    if row.provider_id is None:
        return settings.PROVIDER_API_KEY if settings.PROVIDER_BASE_URL else None
    if row.key_ciphertext is None:
        if not row.key_setting:
            return ""
        return _key_of_setting(row.key_setting) or None
    try:
        context = PROVIDER_KEYS.context(uuid.UUID(str(row.provider_id)))
        return crypto.decrypt(row.encryption_key_id, bytes(row.key_ciphertext), context=context)
    except crypto.DecryptionError as error:
        # A key that cannot be decrypted takes out its own route and no other.
        logger.error("channels.provider_key.unreadable", extra={"reason": str(error)})
        return None
