"""The command palette of the console: its pages, the account's channels, and requests by id."""

from __future__ import annotations

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.dataclasses import SearchResult

from channels.models import Channel
from channels.search import named_like
from common.pages.requests import read_term
from conversations.usage import request_log
from dashboard.console.access import Member, member_page
from dashboard.console.navigation import console_url, sidebar
from dashboard.console.requests import DETAILS, OUTCOMES

MOST_CHANNELS = 20
MOST_REQUESTS = 5
# Shorter words are not ids, and are not looked up with each letter.
SHORTEST_REFERENCE = 6


@member_page()
def search(request: HttpRequest, member: Member) -> HttpResponse:
    """Return unfold's palette results. Never cached: a cache may hold another site's results."""
    typed = read_term(request, "s")
    term = typed.lower()
    if not term:
        return HttpResponse()
    pages = [item for group in sidebar(request) for item in group["items"]]
    found = [
        SearchResult(title=item["title"], description="Page", link=item["link"], icon=item["icon"])
        for item in pages
        if term in item["title"].lower()
    ]
    channels = Channel.objects.filter(named_like(term), account=member.account)
    found += [
        SearchResult(
            title=channel.name,
            description=f"Channel {channel.external_id or ''}".strip(),
            link=console_url("channel", channel.id),
            icon="hub",
        )
        for channel in channels.order_by("name")[:MOST_CHANNELS]
    ]
    found += _requests(member, typed)
    paginator = Paginator(found, 100)
    context = {"page_obj": paginator, "results": paginator.page(1), "page_counter": 0}
    return TemplateResponse(request, "unfold/helpers/command_results.html", context)


def _requests(member: Member, reference: str) -> list[SearchResult]:
    """Return the newest requests with this request or message id."""
    if len(reference) < SHORTEST_REFERENCE:
        return []
    found = request_log.find_by_reference(
        account_id=member.account.id, reference=reference, most=MOST_REQUESTS
    )
    return [
        SearchResult(
            title=entry.row.request_id or reference,
            description=f"Request: {OUTCOMES[entry.outcome][0].lower()}",
            link=member.url(DETAILS[entry.kind], entry.row.pk),
            icon="receipt_long",
        )
        for entry in found
    ]
