"""What an account's owner can do with all its data at once: download it."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone

from channels import audit, daily_counts
from common.pages.requests import post_only
from dashboard.console.access import Member, Role, member_page
from dashboard.console.account_export import iterate_files
from dashboard.console.downloads import ZIP, download, zip_pieces
from dashboard.console.pages import render_page

# An export reads everything, and compresses it.
EXPORTS_A_DAY = 5


@member_page(needs=Role.OWNER)
def account_data(request: HttpRequest, member: Member) -> HttpResponse:
    """Show what can be downloaded."""
    return render_page(
        request, member, "account_data.html", title="Account data", exports_a_day=EXPORTS_A_DAY
    )


@member_page(needs=Role.OWNER)
@post_only
def export(request: HttpRequest, member: Member) -> HttpResponseBase:
    """Send everything of the account as one archive."""
    account = member.account
    if not daily_counts.count("exports of account", str(account.id), most=EXPORTS_A_DAY):
        messages.error(
            request,
            f"This account was exported {EXPORTS_A_DAY} times today, the most there can be. "
            "Try again tomorrow.",
        )
        return redirect(member.url("account_data"))
    audit.record("account.exported", actor=member.actor, account_id=account.id)
    name = f"account-{account.id}-{timezone.now():%Y-%m-%d}.zip"
    return download(zip_pieces(iterate_files(account)), name=name, content_type=ZIP)


urlpatterns = [
    path("data/", account_data, name="account_data"),
    path("data/export/", export, name="export_account"),
]
