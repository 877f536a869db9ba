"""The results of the palette (Ctrl+K) and of the switcher, as JSON for finder.js."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from dashboard.frame import account_links

# A list shows this many channels and this many accounts. Typing more letters finds the rest.
MOST_ROWS = 20
MOST_REQUESTS = 5
# Shorter words are no ids, and are not looked up with each letter.
SHORTEST_REFERENCE = 6
# More words find nothing more.
_MOST_WORDS = 8
# A shorter word names a page only if it is one of its words.
_SHORTEST_START = 3

_THEMES = (
    (gettext_lazy("Light theme"), "light_mode", "light"),
    (gettext_lazy("Dark theme"), "dark_mode", "dark"),
    (gettext_lazy("Use system theme"), "computer", "auto"),
)


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the list. It leads to a URL, or does what `does` names in finder.js."""

    group: str
    title: str
    icon: str
    url: str = ""
    note: str = ""
    does: str = ""
    value: str = ""


def render(results: Iterable[Result]) -> JsonResponse:
    """Return the results. Never cached, because permissions may change."""
    answer = JsonResponse({"results": [asdict(result) for result in results]})
    answer["Cache-Control"] = "no-store"
    return answer


def matching(results: Iterable[Result], term: str) -> list[Result]:
    """Return the results that contain each word of the term. All of them without a term."""
    words = term.lower().split()
    return [
        result
        for result in results
        if all(word in f"{result.group} {result.title} {result.note}".lower() for word in words)
    ]


def words_of(term: str) -> list[str]:
    return term.lower().split()[:_MOST_WORDS]


def names(word: str, title: str) -> bool:
    """Return whether a typed word is a word of a title, or how one begins."""
    is_start = len(word) >= _SHORTEST_START
    return any(word == one or (is_start and one.startswith(word)) for one in title.lower().split())


def pages_of(groups: Iterable[dict[str, Any]]) -> list[Result]:
    """Return the pages of a sidebar."""
    return [
        Result(_("Pages"), str(item["title"]), item["icon"], item["link"], str(group["title"]))
        for group in groups
        for item in group["items"]
    ]


def personal_commands(request: HttpRequest) -> list[Result]:
    """Return what everybody can do wherever they are."""
    group = _("Commands")
    own = [Result(group, one["title"], "person", one["link"]) for one in account_links(request)]
    themes = [
        Result(group, str(title), icon, does="theme", value=value) for title, icon, value in _THEMES
    ]
    return [*own, *themes, Result(group, _("Log out"), "logout", does="log_out")]


def command(title: str, icon: str, name: str, *args: Any) -> Result:
    """Return a command that is a page with a form."""
    return Result(_("Commands"), title, icon, reverse(name, args=args))
