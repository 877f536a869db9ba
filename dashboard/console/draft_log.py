"""The requests to drafts that people made in the playground: outcome, cost, and ledger entry."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from django import forms
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing.models import LedgerEntry
from channels.models import Account
from common.pages.numbers import local_credits
from conversations.models import DraftReply
from conversations.usage import outcomes
from dashboard.console.access import Member, member_page
from dashboard.console.filters import MomentsForm, read_model_names
from dashboard.console.pages import render_page
from dashboard.console.request_links import OUTCOMES

DRAFTS_ON_A_PAGE = 50


class DraftsForm(MomentsForm):
    """The filters of the page. Empty ones do not filter."""

    q = forms.CharField(
        required=False, max_length=200, label=gettext_lazy("Request id"), strip=True
    )
    field_order = ("q", "since", "until", "channel", "traffic")


@member_page()
def drafts(request: HttpRequest, member: Member) -> HttpResponse:
    """List requests to drafts, newest first."""
    form = DraftsForm(request.GET, account=member.account)
    form.is_valid()
    starts_at, ends_at = period = form.period(timezone.now())
    if reference := form.value("q"):
        found = find_by_reference(member.account, reference)
    else:
        found = _in_period(member.account, form, period)
    ordered = found.order_by("-created_at", "-id")
    page = Paginator(ordered, DRAFTS_ON_A_PAGE).get_page(request.GET.get("page"))
    charges = LedgerEntry.objects.filter(
        kind=LedgerEntry.Kind.CHARGE, hold_id__in=[draft.id for draft in page]
    )
    sequences = dict(charges.values_list("hold_id", "sequence"))
    models = read_model_names()
    return render_page(
        request,
        member,
        "drafts.html",
        title=_("Playground drafts"),
        form=form,
        ranges=form.tabs_of(period),
        starts_at=starts_at,
        ends_at=ends_at,
        page=page,
        rows=[
            _describe(member, form, draft, sequences.get(draft.id))
            | {"model_name": models.get(draft.request_model, draft.request_model)}
            for draft in page
        ],
        query=form.query(),
    )


def find_by_reference(account: Account, reference: str) -> QuerySet[DraftReply]:
    """Return the drafts with this id: the caller's, or the row's own, which is its charge's."""
    wanted = Q(request_id=reference)
    try:
        wanted |= Q(id=uuid.UUID(reference))
    except ValueError:
        pass  # a request id may be any text
    return DraftReply.objects.filter(wanted, channel__account=account)


def _in_period(
    account: Account, form: DraftsForm, period: tuple[datetime, datetime]
) -> QuerySet[DraftReply]:
    starts_at, ends_at = period
    found = DraftReply.objects.filter(
        channel__account=account,
        is_test=form.is_test,
        created_at__gte=starts_at,
        created_at__lt=ends_at,
    )
    return found.filter(channel_id=form.channel_id) if form.channel_id else found


def _describe(
    member: Member, form: DraftsForm, draft: DraftReply, sequence: int | None
) -> dict[str, Any]:
    outcome = outcomes.of_failure(draft.error_code) if draft.error_code else outcomes.ANSWERED
    name, badge = OUTCOMES[outcome]
    place = f"?before={sequence + 1}#entry-{sequence}" if sequence else ""
    return {
        "draft": draft,
        "outcome": name,
        "badge": badge,
        "channel_name": form.channel_names.get(draft.channel_id, ""),
        "credits": local_credits(draft.charged_microcredits),
        "ledger_url": member.url("credits") + place if place else "",
    }


urlpatterns = [path("requests/drafts/", drafts, name="drafts")]
