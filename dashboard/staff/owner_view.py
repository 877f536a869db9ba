"""“View as owner”: the console of an account, read-only, with entries in the audit log.

This is never a log-in as somebody else. The staff member keeps their own identity, sees no key, and
can change nothing (dashboard/console/access.py).
"""

from __future__ import annotations

from django import forms
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels import audit
from channels.models import Account
from common.pages.forms import LabelledForm
from dashboard.console.access import STAFF_VIEW_PERMISSIONS, begin_staff_view
from dashboard.staff.pages import actor_of, render_staff_page, staff_page, staff_url


class VisitForm(LabelledForm):
    """An optional reason why a staff member looks at an account."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text=gettext_lazy("The account's members see this in their audit log."),
    )


@staff_page(*STAFF_VIEW_PERMISSIONS)
def start(request: HttpRequest, account_id: int) -> HttpResponseBase:
    """Ask for confirmation, record the visit in the account's audit log, and open its console."""
    account = get_object_or_404(Account, id=account_id)
    form = VisitForm(request.POST if request.method == "POST" else None)
    if not form.is_valid():
        return render_staff_page(
            request,
            "view_as_owner.html",
            title=_("View %(account)s as its owner sees it") % {"account": account.name},
            status=422 if form.is_bound else 200,
            account=account,
            form=form,
            back_url=staff_url("channels_account_change", account.id),
        )
    reason = form.cleaned_data["reason"]
    audit.record(
        "staff.viewed_account",
        actor=actor_of(request),
        account_id=account.id,
        target=account.name,
        changes={"reason": (None, reason)} if reason else None,
    )
    begin_staff_view(request.session, account.id)
    return redirect("console:index")
