"""What an account's owner can do with all its data at once: export it, or delete the account."""

from __future__ import annotations

import logging

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels import audit, daily_counts
from common.pages.forms import LabelledForm
from common.pages.requests import post_only
from common.text import one_line
from conversations.archive import account_end
from dashboard.console.access import Member, Role, member_page
from dashboard.console.account_export import iterate_files
from dashboard.console.downloads import ZIP, download, zip_pieces
from dashboard.console.pages import render_page

# An export reads everything, and compresses it.
EXPORTS_A_DAY = 5

logger = logging.getLogger("gateway.accounts")


class DeleteForm(LabelledForm):
    """The account's name, typed to confirm."""

    name = forms.CharField(
        label=gettext_lazy("Account name"),
        strip=True,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text=gettext_lazy("Type the name of the account to confirm."),
    )


@member_page(needs=Role.OWNER)
def account_data(request: HttpRequest, member: Member) -> HttpResponse:
    """Show what can be exported, and what a deletion would do."""
    return _page(request, member, DeleteForm())


def _page(request: HttpRequest, member: Member, form: DeleteForm) -> HttpResponse:
    return render_page(
        request,
        member,
        "account_data.html",
        title=_("Account data"),
        exports_a_day=EXPORTS_A_DAY,
        form=form,
        others=member.account.memberships.exclude(user=member.user).count(),
    )


@member_page(needs=Role.OWNER)
@post_only
def export(request: HttpRequest, member: Member) -> HttpResponseBase:
    """Send everything of the account as one archive."""
    account = member.account
    if not daily_counts.count("exports of account", str(account.id), most=EXPORTS_A_DAY):
        messages.error(
            request,
            _(
                "This account was exported %(count)s times today, the most there can be. "
                "Try again tomorrow."
            )
            % {"count": EXPORTS_A_DAY},
        )
        return redirect(member.url("account_data"))
    audit.record("account.exported", actor=member.actor, account_id=account.id)
    name = f"account-{account.id}-{timezone.now():%Y-%m-%d}.zip"
    return download(zip_pieces(iterate_files(account)), name=name, content_type=ZIP)


@member_page(needs=Role.OWNER)
@post_only
def delete(request: HttpRequest, member: Member) -> HttpResponse:
    """Delete the account, for somebody who has typed its name."""
    account, form = member.account, DeleteForm(request.POST)
    # A name may have line ends or spaces that nobody can type into a field.
    is_same = form.is_valid() and one_line(form.cleaned_data["name"]) == one_line(account.name)
    if not is_same:
        if not form.errors:
            form.add_error("name", _("This is not the account's name. Nothing was deleted."))
        return _page(request, member, form)
    account_end.close_account(account=account, actor=member.actor)
    logger.info("account.deleted", extra={"account": account.id, "person": member.user.email})
    is_done = account_end.is_small(account) and account_end.erase_closed(
        account=account, now=timezone.now()
    )
    if is_done:
        words = _("The account %(name)s has been deleted.")
    else:
        words = _("The account %(name)s has been deleted. Its texts are being erased.")
    messages.success(request, words % {"name": account.name})
    return redirect("console:index")


urlpatterns = [
    path("data/", account_data, name="account_data"),
    path("data/export/", export, name="export_account"),
    path("data/delete/", delete, name="delete_account"),
]
