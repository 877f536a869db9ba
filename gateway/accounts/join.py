"""Accepting an invitation: the mailed link, the page it leads to, and the button there.

The link's secret stands in one address only, which leads on at once: neither a later page's
Referer nor the log (common/middleware.py) has it.
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from channels import team
from channels.audit import Actor
from channels.errors import TeamRefusal
from channels.models import Invitation, User
from common.floods import client_address
from gateway.accounts import pending
from gateway.console.access import ACCOUNT_SESSION_KEY


@never_cache
def open_link(request: HttpRequest, secret: str) -> HttpResponseRedirect:
    """Keep what the link says in the session and go on without it."""
    pending.keep(request, secret)
    return redirect("join")


@never_cache
def join(request: HttpRequest) -> HttpResponse:
    """Say who invites whom into what, and what to do next."""
    invitation = pending.find_pending(request)
    if invitation is None:
        return render(request, "public/join_gone.html", status=404)
    return render(request, "public/join.html", _context(request, invitation))


def _context(request: HttpRequest, invitation: Invitation) -> dict[str, Any]:
    user = request.user if isinstance(request.user, User) else None
    is_invited = user is not None and user.email.lower() == invitation.email.lower()
    go_on = urlencode({"next": reverse("join")})
    has_login = user is None and User.objects.filter(email__iexact=invitation.email).exists()
    return {
        "invitation": invitation,
        "is_invited": is_invited,
        "is_another": user is not None and not is_invited,
        "has_login": has_login,
        "login_href": f"{reverse('account_login')}?{go_on}",
        "signup_href": f"{reverse('account_signup')}?{go_on}",
    }


@require_POST
@login_required
def accept(request: HttpRequest) -> HttpResponseRedirect:
    """Become a member and go on in that account."""
    user = request.user
    assert isinstance(user, User)  # login_required has seen to it
    try:
        membership = team.accept_invitation(
            secret_digests=pending.digests(request),
            user=user,
            actor=Actor(user.email, user, client_address(request)),
        )
    except TeamRefusal as refusal:
        messages.error(request, str(refusal))
        return redirect("join")
    request.session[ACCOUNT_SESSION_KEY] = membership.account_id
    messages.success(request, f"You are now in {membership.account.name}.")
    return redirect("console:index")


@require_POST
def log_out(request: HttpRequest) -> HttpResponseRedirect:
    """Log out and keep the invitation, for who is logged in as somebody else."""
    secret_digests = pending.digests(request)
    logout(request)
    request.session[pending.SESSION_KEY] = secret_digests
    return redirect("join")


urlpatterns = [
    path("", join, name="join"),
    path("accept/", accept, name="join_accept"),
    path("log-out/", log_out, name="join_log_out"),
    path("<str:secret>/", open_link, name="join_link"),
]
