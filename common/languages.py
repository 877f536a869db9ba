"""The languages of pages and e-mails. The API, logs, and commands speak English, whoever asks."""

from __future__ import annotations

from collections.abc import Iterable

from django.conf import settings
from django.http import HttpRequest
from django.utils import translation


def offered() -> dict[str, str]:
    """Return the name of each language that people can choose, by its code."""
    return {code: str(name) for code, name in settings.LANGUAGES}


def known(language: str) -> str:
    """Return the language if it is offered, else English."""
    return language if language in offered() else settings.LANGUAGE_CODE


def current() -> str:
    """Return the code of the language that this thread speaks now."""
    return known(translation.get_language() or "")


def chosen_in(request: HttpRequest) -> str:
    """Return the language that was chosen in this browser, or ''."""
    language = request.COOKIES.get(settings.LANGUAGE_COOKIE_NAME, "")
    return language if language in offered() else ""


def speaking(language: str) -> translation.override:
    """Return a context in which texts are in the language, or in English if it is unknown."""
    return translation.override(known(language))


def group_by_language(people: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the addresses for each language, from pairs of address and chosen language.

    An e-mail to several people is written once for each of their languages.
    """
    groups: dict[str, list[str]] = {}
    for address, language in people:
        groups.setdefault(known(language), []).append(address)
    return groups
