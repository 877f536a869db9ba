"""Account keys, with which an owner's programs manage the account: create, show once, revoke."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels import account_keys as services
from channels.account_keys import IssuedAccountKey
from channels.errors import MadeBefore, PlanLimitReached
from channels.models import AccountKey
from common.pages.forms import LabelledForm, id_of_new
from common.pages.requests import post_only
from dashboard.console.access import Member, Role, member_page
from dashboard.console.pages import render_page

# Revoked and expired keys stay in the list as long as there is room.
KEYS_SHOWN = 100
LIFETIMES = (
    ("", gettext_lazy("Never")),
    ("30", gettext_lazy("After 30 days")),
    ("90", gettext_lazy("After 90 days")),
    ("365", gettext_lazy("After 1 year")),
)


class AccountKeyForm(LabelledForm):
    """The form for a new account key. It carries the key's id, so it creates the key only once."""

    key_id = forms.UUIDField(widget=forms.HiddenInput)
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=120,
        help_text=gettext_lazy(
            "The program that uses the key. The audit log shows the key's last characters."
        ),
    )
    days = forms.ChoiceField(label=gettext_lazy("Expires"), choices=LIFETIMES, required=False)


@dataclass(frozen=True, slots=True)
class AccountKeyRow:
    """A key and whether it still works."""

    key: AccountKey
    ends_at: datetime | None
    works: bool


def _row(key: AccountKey, now: datetime) -> AccountKeyRow:
    ends_at = min(filter(None, (key.revoked_at, key.expires_at)), default=None)
    works = key.revoked_at is None and (key.expires_at is None or key.expires_at > now)
    return AccountKeyRow(key, ends_at, works)


@member_page(needs=Role.OWNER)
def account_keys(request: HttpRequest, member: Member) -> HttpResponse:
    """List the account's keys, newest first."""
    return _render(request, member, AccountKeyForm(initial={"key_id": uuid.uuid4()}))


def _render(
    request: HttpRequest,
    member: Member,
    form: AccountKeyForm,
    *,
    fresh: IssuedAccountKey | None = None,
    status: int = 200,
) -> HttpResponse:
    now = timezone.now()
    own = member.account.account_keys.defer("key_ciphertext", "key_digest")
    found = own.select_related("created_by").order_by("-created_at", "id")[:KEYS_SHOWN]
    response = render_page(
        request,
        member,
        "account_keys.html",
        title=_("Account keys"),
        rows=[_row(key, now) for key in found],
        form=form,
        fresh=fresh,
        status=status,
    )
    response["Cache-Control"] = "no-store"
    return response


@member_page(needs=Role.OWNER)
@post_only
def new_account_key(request: HttpRequest, member: Member) -> HttpResponse:
    """Create a key, and show it in this one response only."""
    form = AccountKeyForm(request.POST)
    if not form.is_valid():
        return _render(request, member, form, status=422)
    days = form.cleaned_data["days"]
    try:
        issued = services.issue_account_key(
            account=member.account,
            name=form.cleaned_data["name"],
            expires_at=timezone.now() + timedelta(days=int(days)) if days else None,
            key_id=id_of_new(form.cleaned_data["key_id"], of=member.account.id),
            actor=member.actor,
        )
    except MadeBefore:
        messages.info(request, _("This form was already submitted. Its key is in the list."))
        return redirect(member.url("account_keys"))
    except PlanLimitReached as refusal:
        form.add_error(None, refusal.sentence)
        return _render(request, member, form, status=422)
    return _render(request, member, AccountKeyForm(initial={"key_id": uuid.uuid4()}), fresh=issued)


@member_page(needs=Role.OWNER)
@post_only
def revoke_account_key(
    request: HttpRequest, member: Member, account_key_id: uuid.UUID
) -> HttpResponse:
    """Revoke a key now. Revoking it again changes nothing."""
    key = member.account.account_keys.filter(id=account_key_id).first()
    if key is None:
        raise Http404
    services.revoke_account_key(account_key=key, actor=member.actor)
    words = _("%(key)s has been revoked. The next call with it is refused.")
    messages.success(request, words % {"key": key.masked})
    return redirect(member.url("account_keys"))


urlpatterns = [
    path("account-keys/", account_keys, name="account_keys"),
    path("account-keys/new/", new_account_key, name="new_account_key"),
    path(
        "account-keys/<uuid:account_key_id>/revoke/", revoke_account_key, name="revoke_account_key"
    ),
]
