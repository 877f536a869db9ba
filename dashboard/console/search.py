"""What the palette and the switcher of the console find: only what this member may see."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.db.models import Case, Value, When
from django.db.models.expressions import Combinable
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels.models import Channel
from channels.search import named_like
from common.pages.requests import read_term
from conversations.usage import request_log
from dashboard import palette
from dashboard.console.access import Member, member_page
from dashboard.console.navigation import CHANNEL_TABS, console_url, sidebar
from dashboard.console.request_links import OUTCOMES
from dashboard.console.requests import DETAILS
from dashboard.palette import Result

# Title, icon, URL name, as of the tabs.
_CHANNEL_COMMANDS = (
    (gettext_lazy("New key for %(channel)s"), "add", "new_key"),
    (gettext_lazy("Rotate a key of %(channel)s"), "autorenew", "keys"),
)
_PAGE_OF_CHANNEL = "%(channel)s: {}"
_MOST_PAGES = 12


@dataclass(frozen=True, slots=True)
class _Found:
    """A channel that was found. `is_whole` if each word is in its name, its id, or its tags."""

    id: uuid.UUID
    name: str
    external_id: str
    tags: str
    is_whole: bool


@member_page()
def search(request: HttpRequest, member: Member) -> HttpResponse:
    """Return what a term finds. The switcher asks for channels and accounts alone."""
    term = read_term(request, "s")
    channels = _find_channels(member, term)
    rows = _channels(channels) + _accounts(member, term)
    if request.GET.get("in") == "switcher":
        return palette.render(rows)
    fixed = [*palette.pages_of(sidebar(request)), *_commands(request, member)]
    found = palette.matching(fixed, term)
    if not term:
        return palette.render([*found, *rows])
    pages = _channel_pages(member, channels, term)
    return palette.render([*rows, *_requests(member, term), *found, *pages])


def _find_channels(member: Member, term: str) -> list[_Found]:
    """Return the channels that each word of the term finds, except words that name a page.

    Those with most of the words come first.
    """
    words = palette.words_of(term)
    found = Channel.objects.filter(account=member.account)
    hits: Combinable = Value(0)
    for word in words:
        hits += Case(When(named_like(word), then=1), default=0)
        if not _names_a_page(word):
            found = found.filter(named_like(word))
    fields = ("id", "name", "external_id", "tags", "hits")
    rows = found.annotate(hits=hits).order_by("-hits", "name", "id").values_list(*fields)
    return [
        _Found(channel_id, name, external_id or "", tags, is_whole=hits == len(words))
        for channel_id, name, external_id, tags, hits in rows[: palette.MOST_ROWS]
    ]


def _channels(channels: list[_Found]) -> list[Result]:
    return [
        Result(_("Channels"), one.name, "hub", console_url("channel", one.id), one.external_id)
        for one in channels
        if one.is_whole
    ]


def _names_a_page(word: str) -> bool:
    pages = (*CHANNEL_TABS, *_CHANNEL_COMMANDS)
    return any(palette.names(word, str(title)) for title, *_ in pages)


def _channel_pages(member: Member, channels: list[_Found], term: str) -> list[Result]:
    """Return the pages and commands of channels that the words name, the best channel's first.

    Words of the name alone offer the pages of a channel only if they find no other channel.
    """
    words = palette.words_of(term)
    places = [(_("Pages"), _PAGE_OF_CHANNEL, title, "hub", name) for title, name in CHANNEL_TABS]
    if member.can_edit:
        places += [(_("Commands"), "{}", *page) for page in _CHANNEL_COMMANDS]
    found = []
    for one in channels:
        about = f"{one.name} {one.external_id} {one.tags}".lower()
        is_only = one.is_whole and len(channels) == 1
        for group, pattern, title, icon, name in places:
            named = [word for word in words if palette.names(word, str(title))]
            if (named or is_only) and all(word in named or word in about for word in words):
                shown = pattern.format(title) % {"channel": one.name}
                found.append(Result(group, shown, icon, console_url(name, one.id)))
    return found[:_MOST_PAGES]


def _accounts(member: Member, term: str) -> list[Result]:
    """Return the person's other accounts. Choosing one is remembered, so it is no mere link."""
    found = [
        Result(_("Accounts"), one.name, "domain", does="switch_account", value=str(one.id))
        for one in member.accounts
        if one.id != member.account.id and term.lower() in one.name.lower()
    ]
    return found[: palette.MOST_ROWS]


def _requests(member: Member, reference: str) -> list[Result]:
    """Return the newest requests with this request or message id."""
    if len(reference) < palette.SHORTEST_REFERENCE:
        return []
    found = request_log.find_by_reference(
        account_id=member.account.id, reference=reference, most=palette.MOST_REQUESTS
    )
    return [
        Result(
            _("Requests"),
            entry.row.request_id or reference,
            "receipt_long",
            member.url(DETAILS[entry.kind], entry.row.pk),
            _("Request: %(outcome)s") % {"outcome": OUTCOMES[entry.outcome][0].lower()},
        )
        for entry in found
    ]


def _commands(request: HttpRequest, member: Member) -> list[Result]:
    account_id = member.account.id
    found = []
    if member.can_edit:
        found.append(palette.command(_("New channel"), "add", "console:new_channel", account_id))
    if member.is_owner:
        found += [
            palette.command(_("Redeem a code"), "redeem", "console:credits", account_id),
            palette.command(_("Ask for credits"), "inbox", "console:credits", account_id),
            palette.command(_("Invite somebody"), "person_add", "console:team", account_id),
        ]
    return found + palette.personal_commands(request)
