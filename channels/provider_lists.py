"""Providers' own lists of their models, and whether they still have the names that routes use.

A nightly task and a button fetch them. Pages read only what is stored.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from channels import route_tests, routes
from channels.errors import ProviderError
from channels.models import LanguageModel, Provider, ProviderList, Route
from channels.providers.openai_compatible import OpenAiCompatibleProvider
from channels.providers.openai_models import list_served_models
from common import db

MOST_NAMES = 5_000
LONGEST_NAME = 200
# For one provider's list.
SECONDS_EACH = 15.0
NO_TIME = "no_time"
LISTED, MISSING, UNKNOWN = "listed", "missing", "unknown"

_WORDS = {
    NO_TIME: _("The lists before it took all the time. Fetch this one alone."),
    "status_404": _("The provider gives no list of its models."),
    "status_405": _("The provider gives no list of its models."),
    "status_501": _("The provider gives no list of its models."),
    "garbage": _("The answer is not a list of models. Does the address end in /v1?"),
}
# OpenRouter appends these to any of its models, and lists the plain name alone.
# https://openrouter.ai/docs/guides/routing/model-variants
_SHORTCUTS = (":nitro", ":floor", ":online")


@dataclass(frozen=True, slots=True)
class Source:
    """A provider that can be asked: one that is switched on, or that of PROVIDER_BASE_URL."""

    name: str
    # Without its query, which may hold a key.
    base_url: str
    provider: Provider | None

    @property
    def has_key(self) -> bool:
        """Whether the provider has a key, or needs none."""
        return self.provider is None or routes.has_key(self.provider)

    def client(self) -> OpenAiCompatibleProvider | None:
        """Return the provider's client, or None if it has no key."""
        if self.provider is None:
            return routes.default_client_of("")
        return routes.client_of(Route(provider=self.provider))


def list_sources() -> list[Source]:
    """Return the providers in use, that of PROVIDER_BASE_URL first."""
    default = Source(routes.DEFAULT_PROVIDER, _plain(settings.PROVIDER_BASE_URL), None)
    sources = [default] if default.base_url else []
    in_use = Provider.objects.filter(is_enabled=True)
    return sources + [Source(one.name, _plain(one.base_url), one) for one in in_use]


def _plain(base_url: str) -> str:
    return str(base_url).partition("?")[0]


def fetch_lists(*, deadline: float, name: str = "") -> dict[str, str]:
    """Fetch the lists of all providers in use, or of one. Returns each one's error, or ''.

    `deadline` is a time.monotonic() value. No transaction may be open, because this releases the
    database connection before each call. A failure keeps the names fetched before.
    """
    found: dict[str, str] = {}
    for source in list_sources():
        if name in ("", source.name):
            found[source.name] = _fetch(source, deadline)
    if not name:
        ProviderList.objects.exclude(provider_name__in=found).delete()
    return found


def _fetch(source: Source, deadline: float) -> str:
    now = time.monotonic()
    if now >= deadline:
        return _note_failure(source, NO_TIME)
    client = source.client()
    if client is None:
        return _note_failure(source, route_tests.NO_KEY)
    db.release_connection()
    try:
        served = list_served_models(client, deadline=min(deadline, now + SECONDS_EACH))
    except ProviderError as error:
        return _note_failure(source, error.reason)
    names = _bounded(served, used=_names_used(source))
    fetched_at = timezone.now()
    ProviderList.objects.update_or_create(
        provider_name=source.name,
        defaults={
            "base_url": source.base_url,
            "names": names,
            "is_cut": len(names) < len(served),
            "fetched_at": fetched_at,
            "tried_at": fetched_at,
            "error": "",
        },
    )
    return ""


def _note_failure(source: Source, reason: str) -> str:
    """Store why a list was not fetched. Names from another address do not stay."""
    tried = {"tried_at": timezone.now(), "error": reason[:50]}
    row, is_new = ProviderList.objects.get_or_create(
        provider_name=source.name, defaults=tried | {"base_url": source.base_url}
    )
    if is_new:
        return reason
    rows = ProviderList.objects.filter(pk=row.pk)
    rows.exclude(base_url=source.base_url).update(
        base_url=source.base_url, names=[], is_cut=False, fetched_at=None
    )
    rows.update(**tried)
    return reason


def _bounded(served: list[str], *, used: set[str]) -> list[str]:
    """Return at most MOST_NAMES of the names, those that routes use first."""
    storable = [name for name in served if len(name) <= LONGEST_NAME]
    wanted = {form for name in used for form in _forms_of(name)}
    storable.sort(key=lambda name: (name not in wanted, name))
    return sorted(storable[:MOST_NAMES])


def _names_used(source: Source) -> set[str]:
    if source.provider is None:
        return set(LanguageModel.objects.values_list("model_id", flat=True))
    return set(source.provider.routes.values_list("provider_model", flat=True))


def _forms_of(name: str) -> tuple[str, ...]:
    """Return the names under which providers list a model that they know by this one."""
    forms = [name, f"models/{name}", f"{name}:latest"]  # the latter two: Gemini, Ollama
    return (*forms, *(name.removesuffix(end) for end in _SHORTCUTS if name.endswith(end)))


def explain(reason: str) -> str:
    """Return in plain words why a list was not fetched."""
    return str(_WORDS.get(reason) or route_tests.explain(reason))


# --- Comparing ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ComparedRoute:
    """A route in use, and whether its provider lists its name."""

    model: LanguageModel
    provider_model: str
    state: str
    # None: asked by the gateway's own id at the provider of PROVIDER_BASE_URL.
    route_id: int | None


@dataclass(frozen=True, slots=True)
class ComparedProvider:
    """A provider, what is known of its list, and its routes."""

    source: Source
    fetched_at: datetime | None
    tried_at: datetime | None
    error: str
    name_count: int
    is_cut: bool
    routes: list[ComparedRoute]

    @property
    def words(self) -> str:
        """Why the last attempt failed, in plain words, or ''."""
        return explain(self.error)

    @property
    def missing_count(self) -> int:
        return sum(one.state == MISSING for one in self.routes)


def compare() -> list[ComparedProvider]:
    """Return every provider in use with its routes. Asks no provider."""
    return _compare_all({row.provider_name: row for row in ProviderList.objects.all()})


def count_missing() -> int:
    """Return how many routes in use have a name that their provider does not list."""
    rows = {row.provider_name: row for row in ProviderList.objects.all()}
    # Without a list, nothing is known to be missing.
    return sum(one.missing_count for one in _compare_all(rows)) if rows else 0


def _compare_all(rows: Mapping[str, ProviderList]) -> list[ComparedProvider]:
    in_use = Route.objects.filter(is_enabled=True, model__is_enabled=True)
    by_provider: dict[str, list[Route]] = {}
    for route in in_use.select_related("model", "provider").order_by("model__position", "position"):
        by_provider.setdefault(route.provider.name, []).append(route)
    return [
        _compare(source, rows.get(source.name), by_provider.get(source.name, ()))
        for source in list_sources()
    ]


def _compare(source: Source, row: ProviderList | None, own: Sequence[Route]) -> ComparedProvider:
    if row is not None and row.base_url != source.base_url:
        row = None  # of another address
    names = {name for name in row.names if isinstance(name, str)} if row else set()
    is_whole = row is not None and row.fetched_at is not None and not row.is_cut
    used: list[tuple[LanguageModel, str, int | None]]
    if source.provider is None:
        models = LanguageModel.objects.filter(is_enabled=True)
        used = [(model, model.model_id, None) for model in models]
    else:
        used = [(route.model, route.provider_model, route.pk) for route in own]
    return ComparedProvider(
        source=source,
        fetched_at=row.fetched_at if row else None,
        tried_at=row.tried_at if row else None,
        error=row.error if row else "",
        name_count=len(names),
        is_cut=row is not None and row.is_cut,
        routes=[
            ComparedRoute(model, name, _state_of(name, names, is_whole=is_whole), route_id)
            for model, name, route_id in used
        ],
    )


def _state_of(name: str, names: set[str], *, is_whole: bool) -> str:
    if names.intersection(_forms_of(name)):
        return LISTED
    return MISSING if is_whole else UNKNOWN
