"""The account that a person works in: none yet, another one, or a new one."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils.translation import gettext as _

from channels import team
from channels.models import User
from common.floods import client_address
from common.pages.requests import post_only
from dashboard.console.access import Role, find_member
from dashboard.console.pages import render_page
from dashboard.login import signup
from dashboard.login.pending import ACCOUNT_SESSION_KEY


@login_required
def no_account(request: HttpRequest) -> HttpResponse:
    """Tell a person without any account what they can do."""
    if find_member(request) is not None:
        return redirect("console:index")
    if isinstance(request.user, User) and team.list_invitations_to(request.user):
        return redirect("join")
    # Reversed here, because in a template of the console “admin:” would mean the console.
    staff_url = reverse("admin:index") if request.user.is_staff else ""
    title = _("No account yet")
    return render_page(request, None, "no_account.html", title=title, staff_url=staff_url)


@login_required
@post_only
def switch(request: HttpRequest) -> HttpResponseRedirect:
    """Switch to another of the person's accounts. Short URLs lead to it from now on.

    Raises Http404 for an account that is not theirs.
    """
    try:
        account_id = int(request.POST.get("account", ""))
    except ValueError:
        raise Http404 from None
    member = find_member(request, account_id)
    assert member is not None  # with an id, it returns a member or raises
    request.session[ACCOUNT_SESSION_KEY] = account_id
    return redirect(member.url("index"))


# Open to everybody who is logged in, because it searches only the person's own accounts.
switch.needs_role = Role.VIEWER  # type: ignore[attr-defined]


@login_required
@post_only
def create(request: HttpRequest) -> HttpResponseRedirect:
    """Create an account for a person who has none, if people may sign up."""
    user = request.user
    assert isinstance(user, User)  # ensured by login_required
    if not settings.ALLOW_SIGNUP:
        raise PermissionDenied(_("Only the operator of this installation can create accounts."))
    if find_member(request) is None:
        signup.make_account(user, address=client_address(request))
    return redirect("console:index")


urlpatterns = [
    path("account/create/", create, name="create_account"),
    path("account/none/", no_account, name="no_account"),
    path("account/switch/", switch, name="switch_account"),
]
