"""Requests for credits: what owners ask for, what they have and spend, and the decision."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing import charges, credit_requests
from billing.balance import get_balance, get_runway
from billing.errors import ReferenceReused, RequestDecided
from billing.models import MAX_REASON, CreditRequest
from common.days import last_days
from common.pages.forms import CreditsField, LabelledForm
from common.pages.numbers import local_credits
from common.pages.requests import post_only
from dashboard.console.credit_requests import STATE_BADGES
from dashboard.console.runway import runway_words
from dashboard.staff.pages import actor_of, render_staff_page, staff_page, staff_url

# Each open one takes a few queries for its account's figures.
OPEN_SHOWN = 10
DECIDED_SHOWN = 20
SPENT_DAYS = 30
# Whatever gives credits needs this besides its own permission (decision 0030).
GIVES_CREDITS = "billing.add_ledgerentry"
DECIDES = "billing.change_creditrequest"


class DecisionForm(LabelledForm):
    """Approve or decline, by the button that sends the form."""

    decision = forms.ChoiceField(
        choices=[("approve", gettext_lazy("Approve")), ("decline", gettext_lazy("Decline"))]
    )
    amount = CreditsField(
        least=1,
        label=gettext_lazy("Credits to add"),
        help_text=gettext_lazy("May differ from the request."),
    )
    category = forms.ChoiceField(
        label=gettext_lazy("Category"),
        choices=[(one.value, one.label) for one in credit_requests.CATEGORIES],
    )
    reason = forms.CharField(
        required=False,
        max_length=MAX_REASON,
        label=gettext_lazy("Reason"),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text=gettext_lazy("The account's members read it. Needed to decline."),
    )

    def __init__(self, request: CreditRequest, data: Any = None) -> None:
        initial = {"amount": request.amount_microcredits}
        # Several of these forms are on the page.
        super().__init__(data, initial=initial, auto_id=f"request-{request.id}-%s")
        if data and data.get("decision") == "decline":
            self.fields["amount"].required = self.fields["category"].required = False

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        decision = data.get("decision")
        if decision is None:
            raise forms.ValidationError(_("Choose “Approve” or “Decline”."))
        if decision == "decline" and not data.get("reason") and "reason" not in self.errors:
            self.add_error("reason", _("Say why, so that the owner knows what to do."))
        return data


@staff_page("billing.view_creditrequest")
def list_requests(request: HttpRequest) -> HttpResponseBase:
    """Show open requests, the oldest first, then the latest decisions."""
    after = request.GET.get("after", "")
    is_number = after.isascii() and after.isdecimal() and len(after) < 19
    return _render(request, after=int(after) if is_number else 0)


def _render(
    request: HttpRequest, *, after: int = 0, refused: tuple[int, DecisionForm] | None = None
) -> HttpResponseBase:
    found = credit_requests.list_open(after=after, most=OPEN_SHOWN + 1)
    shown = found[:OPEN_SHOWN]
    forms_by_id = dict([refused] if refused else [])
    now = timezone.now()
    return render_staff_page(
        request,
        "credit_requests.html",
        title=_("Credit requests"),
        status=422 if refused else 200,
        open_count=credit_requests.count_open(),
        rows=[
            _describe(one, now) | {"form": forms_by_id.get(one.id) or DecisionForm(one)}
            for one in shown
        ],
        next_after=shown[-1].id if len(found) > OPEN_SHOWN else None,
        is_first=not after,
        decided=[
            _amounts(one) | {"badge": STATE_BADGES.get(CreditRequest.State(one.state), "")}
            for one in credit_requests.list_decided(most=DECIDED_SHOWN)
        ],
        may_decide=request.user.has_perm(DECIDES),
        may_approve=request.user.has_perm(GIVES_CREDITS),
        may_open=request.user.has_perm("channels.view_account"),
    )


def _amounts(one: CreditRequest) -> dict[str, Any]:
    granted = one.granted_microcredits
    return {
        "request": one,
        "amount": local_credits(one.amount_microcredits),
        "granted": local_credits(granted) if granted else "",
    }


def _describe(one: CreditRequest, now: datetime) -> dict[str, Any]:
    """Return a request beside its account's figures."""
    account_id = one.account_id
    balance = get_balance(account_id=account_id, now=now)
    runway = get_runway(balance=balance, now=now)
    starts_at, ends_at = last_days(now, SPENT_DAYS)
    spent = charges.sum_charges(account_id=account_id, starts_at=starts_at, ends_at=ends_at)
    return _amounts(one) | {
        "available": local_credits(balance.available),
        "balance": local_credits(balance.balance),
        "spent": local_credits(spent),
        "runway": runway_words(balance, runway, now),
        "account_url": staff_url("channels_account_change", account_id),
    }


@staff_page("billing.view_creditrequest", DECIDES)
@post_only
def decide(request: HttpRequest, request_id: int) -> HttpResponseBase:
    """Approve or decline in one step. If somebody else was first, say what they decided."""
    asked = get_object_or_404(CreditRequest.objects.select_related("account"), id=request_id)
    form = DecisionForm(asked, request.POST)
    if form.is_valid():
        try:
            messages.success(request, _decide(request, asked, form.cleaned_data))
        except RequestDecided as error:
            messages.info(request, f"{asked.account.name}: {error}")
        except ReferenceReused:
            form.add_error(
                None,
                _(
                    "The ledger already has the reference “%(reference)s”, booked by hand. Decline "
                    "this request, and book what is missing at the credits desk."
                )
                % {"reference": asked.reference},
            )
        else:
            return redirect(staff_url("credit_requests"))
    if form.errors:
        return _render(request, after=asked.id - 1, refused=(asked.id, form))
    return redirect(staff_url("credit_requests"))


def _decide(request: HttpRequest, asked: CreditRequest, data: dict[str, Any]) -> str:
    name, actor = asked.account.name, actor_of(request)
    if data["decision"] == "decline":
        credit_requests.decline(request=asked, reason=data["reason"], actor=actor)
        return _("Declined the request of %(account)s.") % {"account": name}
    if not request.user.has_perm(GIVES_CREDITS):
        raise PermissionDenied(
            _("Approving needs the permission %(name)s.") % {"name": GIVES_CREDITS}
        )
    credit_requests.approve(
        request=asked,
        amount_microcredits=data["amount"],
        reason=data["reason"],
        actor=actor,
        category=data["category"],
    )
    return _("Added %(amount)s credits to %(account)s.") % {
        "amount": local_credits(data["amount"]),
        "account": name,
    }
