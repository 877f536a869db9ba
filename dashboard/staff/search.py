"""The search of the staff admin: pages, and in the palette (Ctrl+K) also accounts, channels, and
requests by their id.
"""

from __future__ import annotations

import time

from django.core.paginator import InvalidPage, Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.dataclasses import SearchResult

from channels import search
from channels.models import Account, Channel
from common.pages.requests import read_term
from conversations.usage import request_log
from dashboard.staff import navigation
from dashboard.staff.pages import staff_url

PER_PAGE = 100
# For accounts and for channels each. Typing more letters finds the rest.
MOST_ROWS = 20
MOST_REQUESTS = 5
# Shorter words are not ids, and are not looked up with each letter.
SHORTEST_REFERENCE = 8


def answer(request: HttpRequest) -> HttpResponse:
    """Return what unfold's search box and palette show for a term.

    Replaces unfold's search, which caches results by person and term for five minutes. Its cache
    outlives a permission that is taken away, and mixes up the search box and the palette, although
    the box finds less.
    """
    started = time.perf_counter()
    term = read_term(request, "s")
    if not term:
        return HttpResponse()
    is_palette = "extended" in request.GET
    found = _pages(request, term) + (_rows(request, term) if is_palette else [])
    paginator = Paginator(found, PER_PAGE)
    try:
        page = paginator.page(request.GET.get("page", 1))
    except InvalidPage as error:
        raise Http404(str(error)) from None
    return TemplateResponse(
        request,
        f"unfold/helpers/{'command' if is_palette else 'search'}_results.html",
        {
            "page_obj": paginator,
            "results": page,
            "page_counter": (page.number - 1) * PER_PAGE,
            "execution_time": time.perf_counter() - started,
            "command_show_history": False,
        },
        headers={"HX-Trigger": "search"},
    )


def _pages(request: HttpRequest, term: str) -> list[SearchResult]:
    """Return the sidebar entries whose own name or group name contains the term."""
    wanted = term.lower()
    return [
        SearchResult(item["title"], group["title"] or "Staff", item["link"], item["icon"])
        for group in navigation.sidebar(request)
        for item in group["items"]
        if wanted in item["title"].lower() or wanted in group["title"].lower()
    ]


def _rows(request: HttpRequest, term: str) -> list[SearchResult]:
    """Return the accounts and channels that this staff member may see."""
    found: list[SearchResult] = []
    if request.user.has_perm("channels.view_account"):
        accounts = Account.objects.filter(search.accounts_matching(term)).order_by("-id")
        found += [
            SearchResult(one.name, "Account", staff_url("customer", one.pk), "domain")
            for one in accounts[:MOST_ROWS]
        ]
    if request.user.has_perm("channels.view_channel"):
        channels = Channel.objects.filter(search.channels_matching(term)).order_by("-id")
        found += [
            SearchResult(
                one.name,
                f"Channel of {one.account}",
                staff_url("channels_channel_change", one.pk),
                "hub",
            )
            for one in channels.select_related("account")[:MOST_ROWS]
        ]
    # A term that finds a row by its name is not an id.
    return found or _requests(request, term)


def _requests(request: HttpRequest, reference: str) -> list[SearchResult]:
    """Return the newest requests with this request or message id that this person may see."""
    if len(reference) < SHORTEST_REFERENCE:
        return []
    entries = request_log.find_by_reference(
        account_id=None, reference=reference, most=MOST_REQUESTS
    )
    return [
        SearchResult(
            entry.row.request_id or reference,
            f"Request of {entry.row.channel}",
            staff_url(f"conversations_{entry.row._meta.model_name}_change", entry.row.pk),
            "receipt_long",
        )
        for entry in entries
        if request.user.has_perm(f"conversations.view_{entry.row._meta.model_name}")
    ]
