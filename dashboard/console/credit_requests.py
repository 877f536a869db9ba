"""The part of the credits page on which owners ask the operator for credits."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy

from billing import credit_requests
from billing.models import MAX_NOTE, CreditRequest
from channels.models import Account
from common.pages.forms import CreditsField, LabelledForm
from common.pages.numbers import local_credits

STATE_BADGES = {
    CreditRequest.State.APPROVED: "gw-badge-ok",
    CreditRequest.State.DECLINED: "gw-badge-bad",
}


class AskForm(LabelledForm):
    """How many credits, and what for. It carries a token, so sending it twice asks once."""

    token = forms.UUIDField(widget=forms.HiddenInput)
    amount = CreditsField(
        least=credit_requests.LEAST,
        most=credit_requests.MOST,
        label=gettext_lazy("Credits"),
        help_text=gettext_lazy("Such as 250. The operator may add another amount."),
    )
    note = forms.CharField(
        label=gettext_lazy("Note"),
        required=False,
        max_length=MAX_NOTE,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=gettext_lazy(
            "What the operator should know: an order number, or what you need them for."
        ),
    )

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        if "token" in self.errors:
            # A hidden field has no place for its own error.
            raise forms.ValidationError(list(self.errors["token"]))
        return data


def describe_requests(account: Account, form: AskForm | None) -> dict[str, Any]:
    """Return what the page shows: the open request or the form, and past requests."""
    latest = credit_requests.list_latest(account_id=account.id)
    waiting = [_describe(one) for one in latest if one.state == CreditRequest.State.OPEN]
    return {
        "ask_form": form or AskForm(initial={"token": uuid.uuid4()}),
        "open_request": waiting[0] if waiting else None,
        "past_requests": [
            _describe(one) for one in latest if one.state != CreditRequest.State.OPEN
        ],
    }


def _describe(request: CreditRequest) -> dict[str, Any]:
    granted = request.granted_microcredits
    return {
        "request": request,
        "amount": local_credits(request.amount_microcredits),
        "granted": local_credits(granted) if granted else "",
        "badge": STATE_BADGES.get(CreditRequest.State(request.state), ""),
    }
