"""Creates redemption codes and shows them once."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing import redemptions
from common.pages.forms import CreditsField, DayField, LabelledForm
from dashboard.staff.pages import actor_of, render_staff_page, staff_page, staff_url


class CodesForm(LabelledForm):
    """What the new codes are worth, for whom they are, and until when they are valid."""

    token = forms.UUIDField(widget=forms.HiddenInput)
    count = forms.IntegerField(
        label=gettext_lazy("How many codes"),
        min_value=1,
        max_value=redemptions.MOST_AT_ONCE,
        initial=1,
    )
    amount = CreditsField(least=1, label=gettext_lazy("Credits per redemption"))
    max_redemptions = forms.IntegerField(
        label=gettext_lazy("Redemptions per code"),
        min_value=1,
        max_value=1_000_000,
        initial=1,
        help_text=gettext_lazy(
            "How many accounts can redeem a code. Each account can redeem it once."
        ),
    )
    last_day = DayField(
        label=gettext_lazy("Last day to redeem"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text=gettext_lazy("UTC. Leave empty for no end."),
    )
    credits_last_days = forms.IntegerField(
        label=gettext_lazy("Credits last (days)"),
        required=False,
        min_value=1,
        max_value=3_660,
        help_text=gettext_lazy("Counted from the redemption. Leave empty for no end."),
    )
    note = forms.CharField(
        label=gettext_lazy("Note"),
        max_length=150,
        help_text=gettext_lazy("What the codes are for. Only staff see this."),
    )

    def clean_last_day(self) -> Any:
        last_day = self.cleaned_data["last_day"]
        if last_day is not None and last_day < timezone.now().date():
            raise forms.ValidationError(_("This day is over. Choose today or a later day."))
        return last_day


# Anybody can redeem a code for credits, including the person who creates it.
@staff_page("billing.add_redemptioncode", "billing.add_ledgerentry")
def make(request: HttpRequest) -> HttpResponseBase:
    """Create codes and show them, this once. Sending the same form again shows the same codes."""
    fresh = {"token": uuid.uuid4()}
    form = CodesForm(request.POST if request.method == "POST" else None, initial=fresh)
    if request.method != "POST" or not form.is_valid():
        status = 422 if request.method == "POST" else 200
        title = _("Create redemption codes")
        return render_staff_page(request, "make_codes.html", title=title, status=status, form=form)
    data = form.cleaned_data
    last_day = data["last_day"]
    made = redemptions.make_codes(
        reference=str(data["token"]),
        count=data["count"],
        amount_microcredits=data["amount"],
        actor=actor_of(request),
        max_redemptions=data["max_redemptions"],
        valid_until=datetime.combine(last_day, time(), UTC) + timedelta(days=1)
        if last_day
        else None,
        credits_last_days=data["credits_last_days"],
        note=data["note"],
    )
    return render_staff_page(
        request,
        "codes_made.html",
        title=_("New redemption codes"),
        count=len(made),
        text="\n".join(code.code for code in made),
        list_url=staff_url("billing_redemptioncode_changelist"),
    )
