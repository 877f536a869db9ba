"""Which account a person works in."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import path
from django.views.decorators.http import require_POST

from channels import team
from channels.models import User
from common.floods import client_address
from gateway.accounts import signup
from gateway.console.access import Member, find_member, member_page, switch_account
from gateway.console.pages import render_page


@login_required
def no_account(request: HttpRequest) -> HttpResponse:
    """Say what a person without any account can do."""
    if find_member(request) is not None:
        return redirect("console:index")
    if isinstance(request.user, User) and team.list_invitations_to(request.user):
        return redirect("join")
    return render_page(request, None, "no_account.html", title="No account yet")


@require_POST
@member_page()
def switch(request: HttpRequest, member: Member) -> HttpResponseRedirect:
    """Go on in another of one's accounts."""
    try:
        account_id = int(request.POST.get("account", ""))
    except ValueError:
        raise Http404 from None
    return switch_account(request, member, account_id)


@require_POST
@login_required
def create(request: HttpRequest) -> HttpResponseRedirect:
    """Give a person without any account one of their own, where people may sign up."""
    user = request.user
    assert isinstance(user, User)  # login_required has seen to it
    if not settings.ALLOW_SIGNUP:
        raise PermissionDenied("Accounts are made by whoever runs this installation.")
    if find_member(request) is None:
        signup.make_account(user, address=client_address(request))
    return redirect("console:index")


urlpatterns = [
    path("account/create/", create, name="create_account"),
    path("account/none/", no_account, name="no_account"),
    path("account/switch/", switch, name="switch_account"),
]
