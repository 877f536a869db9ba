"""The page of one request: how it ended, what it cost, and why."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.urls import path
from django.utils.translation import gettext as _

from billing.models import LedgerEntry
from common.pages.numbers import local_credits
from conversations.models import FailedRequest, Message, ReplayedRequest
from conversations.usage import request_log
from conversations.usage.request_filter import Kind
from conversations.usage.request_log import Entry
from dashboard.console import draft_log
from dashboard.console.access import Member, member_page
from dashboard.console.navigation import console_url
from dashboard.console.pages import render_page
from dashboard.console.requests import RequestsForm, describe
from dashboard.console.staff_view import note_reading
from dashboard.reference.facts import ERRORS

_MEANINGS = {row.code: row for row in ERRORS}


@member_page()
def reply(request: HttpRequest, member: Member, message_id: uuid.UUID) -> HttpResponse:
    """Show a request that was answered. A ledger entry's may be a request to a draft."""
    return _show(request, member, Kind.REPLY, message_id)


@member_page()
def failure(request: HttpRequest, member: Member, failure_pk: int) -> HttpResponse:
    """Show a request that failed or was refused."""
    return _show(request, member, Kind.FAILURE, failure_pk)


@member_page()
def replay(request: HttpRequest, member: Member, replay_pk: int) -> HttpResponse:
    """Show a request that returned the answer of an earlier one."""
    return _show(request, member, Kind.REPLAY, replay_pk)


def _show(request: HttpRequest, member: Member, kind: Kind, pk: uuid.UUID | int) -> HttpResponse:
    entry = None
    # SQLite raises an error for a number that no row can have.
    if isinstance(pk, uuid.UUID) or pk < 2**63:
        entry = request_log.find_request(account_id=member.account.id, kind=kind, pk=pk)
    if entry is None:
        if draft_log.find_by_reference(member.account, str(pk)).exists():
            return redirect(f"{member.url('drafts')}?{urlencode({'q': pk})}")
        raise Http404
    row = entry.row
    page_url = row.page_url if isinstance(row, FailedRequest) else ""
    if page_url:
        note_reading(member, f"page of request {row.request_id}")
    form = RequestsForm(QueryDict(), account=member.account)
    return render_page(
        request,
        member,
        "request.html",
        title=_("Request"),
        **describe(member, form, entry),
        **(_receipt(member, entry.reply) if entry.reply else {}),
        channel_url=console_url("channel", row.channel_id),
        page_url=page_url,
        meaning=_MEANINGS.get(entry.error_code),
        conversation_url=_conversation_url(member, entry),
        original_url=_original_url(member, row) if isinstance(row, ReplayedRequest) else "",
    )


def _receipt(member: Member, reply: Message) -> dict[str, Any]:
    """Return the price of a reply, and where it stands in the ledger."""
    charge = LedgerEntry.objects.filter(hold_id=reply.id).first()
    cached = reply.price_per_1k_cached_input
    prices = {
        _("Per reply"): reply.price_per_reply,
        _("Per 1,000 input tokens"): reply.price_per_1k_input,
        _("Per 1,000 cached input tokens"): cached,
        _("Per 1,000 output tokens"): reply.price_per_1k_output,
    }
    place = charge.sequence if charge else 0
    return {
        "prices": [(name, local_credits(price)) for name, price in prices.items() if price],
        "balance_after": local_credits(charge.balance_after_microcredits) if charge else "",
        "charge_number": place,
        "ledger_url": f"{member.url('credits')}?before={place + 1}#entry-{place}" if place else "",
        "prompt_url": console_url("prompt_version", reply.channel_id, reply.prompt_version)
        if reply.prompt_version
        else "",
    }


def _conversation_url(member: Member, entry: Entry) -> str:
    """Return the place in the conversation that the request belongs to, or '' if it has none."""
    session_pk = request_log.find_session_pk(entry)
    if session_pk is None:
        return ""
    place = f"#reply-{entry.reply.id}" if entry.reply else ""
    return member.url("conversation", session_pk) + place


def _original_url(member: Member, row: ReplayedRequest) -> str:
    """Return the request whose answer was returned again, or ''."""
    if row.message_id is None:
        return ""
    original = request_log.find_request(
        account_id=member.account.id, kind=Kind.REPLY, pk=row.message_id
    )
    return member.url("request", row.message_id) if original else ""


urlpatterns = [
    path("requests/<uuid:message_id>/", reply, name="request"),
    path("requests/failed/<int:failure_pk>/", failure, name="failed_request"),
    path("requests/replayed/<int:replay_pk>/", replay, name="replayed_request"),
]
