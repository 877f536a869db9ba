"""What the palette and the switcher of the console find: only what this member may see."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from channels.models import Channel
from channels.search import named_like
from common.pages.requests import read_term
from conversations.usage import request_log
from dashboard import palette
from dashboard.console.access import Member, member_page
from dashboard.console.navigation import console_url, sidebar
from dashboard.console.request_links import OUTCOMES
from dashboard.console.requests import DETAILS
from dashboard.palette import Result


@member_page()
def search(request: HttpRequest, member: Member) -> HttpResponse:
    """Return what a term finds. The switcher asks for channels and accounts alone."""
    term = read_term(request, "s")
    rows = _channels(member, term) + _accounts(member, term)
    if request.GET.get("in") == "switcher":
        return palette.render(rows)
    fixed = [*palette.pages_of(sidebar(request)), *_commands(request, member)]
    found = palette.matching(fixed, term)
    if not term:
        return palette.render([*found, *rows])
    return palette.render([*rows, *_requests(member, term), *found])


def _channels(member: Member, term: str) -> list[Result]:
    found = Channel.objects.filter(named_like(term), account=member.account)
    rows = found.order_by("name", "id").values_list("id", "name", "external_id")
    return [
        Result("Channels", name, "hub", console_url("channel", channel_id), external_id or "")
        for channel_id, name, external_id in rows[: palette.MOST_ROWS]
    ]


def _accounts(member: Member, term: str) -> list[Result]:
    """Return the person's other accounts. Choosing one is remembered, so it is no mere link."""
    found = [
        Result("Accounts", one.name, "domain", does="switch_account", value=str(one.id))
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
            "Requests",
            entry.row.request_id or reference,
            "receipt_long",
            member.url(DETAILS[entry.kind], entry.row.pk),
            f"Request: {OUTCOMES[entry.outcome][0].lower()}",
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
