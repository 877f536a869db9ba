"""A person's choice of the e-mails that the gateway sends them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from channels.models import User
from channels.outages import TOLD_AFTER
from channels.person_mails import CHOICES, SEES_OUTAGES
from common.pages.forms import LabelledForm
from dashboard import mail_state
from dashboard.login import events


class MailForm(LabelledForm):
    """Which e-mails the person gets."""

    mails_new_devices = forms.BooleanField(
        required=False,
        label=gettext_lazy("A log-in from a new device"),
        help_text=gettext_lazy(
            "When somebody logs in as you from a browser or network that you have not used "
            "in 90 days."
        ),
    )
    mails_new_keys = forms.BooleanField(
        required=False,
        label=gettext_lazy("A new key"),
        help_text=gettext_lazy(
            "When somebody creates an API key or an account key in an account that you own, "
            "and when you create one yourself."
        ),
    )
    mails_new_members = forms.BooleanField(
        required=False,
        label=gettext_lazy("A new member"),
        help_text=gettext_lazy("When somebody accepts an invitation to an account that you own."),
    )
    mails_digests = forms.BooleanField(
        required=False,
        label="A daily digest",
        help_text="Every morning, for each account that you own: yesterday's requests, errors and "
        "credits, the balance, and what needs attention.",
    )
    mails_outages = forms.BooleanField(
        required=False,
        label="A provider is down",
        help_text="When the gateway has left out a route for more than "
        f"{TOLD_AFTER.seconds // 60} minutes because it fails, and when it answers again. For "
        "staff.",
    )

    def __init__(self, *args: Any, user: User, **options: Any) -> None:
        super().__init__(*args, **options)
        if not (user.is_staff and user.has_perm(SEES_OUTAGES)):
            del self.fields["mails_outages"]


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def choose_mails(request: HttpRequest) -> HttpResponse:
    """Show the person's choices, and save them."""
    user = request.user
    assert isinstance(user, User)  # ensured by login_required
    before = {name: getattr(user, name) for name in CHOICES.values()}
    typed = request.POST if request.method == "POST" else None
    form = MailForm(typed, user=user, initial=before)
    if form.is_valid():
        _save(request, user, before, form.cleaned_data)
        messages.success(request, _("Saved."))
        return redirect("account_mails")
    return render(
        request,
        "account/mails.html",
        {"form": form, "mail_obstacle": mail_state.find_obstacle()},
    )


@transaction.atomic
def _save(
    request: HttpRequest, user: User, before: dict[str, bool], after: dict[str, bool]
) -> None:
    """Save the choices. The audit log says what was switched, because a thief would do so first."""
    changed = {name: value for name, value in after.items() if before[name] != value}
    if changed and User.objects.filter(pk=user.pk).update(**changed):
        said = {name: "on" if value else "off" for name, value in changed.items()}
        events.record("mails.chosen", request, user, **said)
