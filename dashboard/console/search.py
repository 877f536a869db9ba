"""The command palette of the console: its pages, and the account's own channels."""

from __future__ import annotations

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.dataclasses import SearchResult

from channels.models import Channel
from common.pages.requests import read_term
from dashboard.console.access import Member, member_page
from dashboard.console.navigation import console_url, sidebar

MOST_CHANNELS = 20


@member_page()
def search(request: HttpRequest, member: Member) -> HttpResponse:
    """Return unfold's palette results. Never cached: a cache may hold those of another site."""
    term = read_term(request, "s").lower()
    if not term:
        return HttpResponse()
    pages = [item for group in sidebar(request) for item in group["items"]]
    found = [
        SearchResult(title=item["title"], description="Page", link=item["link"], icon=item["icon"])
        for item in pages
        if term in item["title"].lower()
    ]
    channels = Channel.objects.filter(account=member.account, name__icontains=term)
    found += [
        SearchResult(
            title=channel.name,
            description="Channel",
            link=console_url("channel", channel.id),
            icon="hub",
        )
        for channel in channels.order_by("name")[:MOST_CHANNELS]
    ]
    paginator = Paginator(found, 100)
    context = {"page_obj": paginator, "results": paginator.page(1), "page_counter": 0}
    return TemplateResponse(request, "unfold/helpers/command_results.html", context)
