"""Accepting an invitation: the mailed link, the page it leads to, and the button there.

Only the link's own URL contains the secret, and it redirects at once. So the secret appears neither
in a later page's Referer nor in the log (common/logs.py).
"""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import get_adapter
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache

from channels import team
from channels.models import Invitation, User
from common.pages.requests import post_only
from dashboard.login import events, pending


@never_cache
def open_link(request: HttpRequest, secret: str) -> HttpResponseRedirect:
    """Store the link's digests in the session and redirect to a URL without the secret."""
    pending.keep(request, secret)
    return redirect("join")


@never_cache
def join(request: HttpRequest) -> HttpResponse:
    """Show the invitation and what to do next. Without one, show other pending invitations."""
    invitation = pending.find_pending(request)
    if invitation is not None:
        return render(request, "public/join.html", _context(request, invitation))
    user = request.user
    waiting = team.list_invitations_to(user) if isinstance(user, User) else []
    if not waiting:
        return render(request, "public/join_gone.html", status=404)
    return render(request, "public/invitations.html", {"invitations": waiting})


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


@login_required
@post_only
def accept(request: HttpRequest) -> HttpResponseRedirect:
    """Accept this browser's link, or an invitation from the list, and open that account."""
    user = _user_of(request)
    if "invitation" not in request.POST:
        return pending.accept(request, user)
    invitation = _find_own(request, user)
    return pending.accept(request, user, secret_digests=[invitation.secret_digest])


@login_required
@post_only
def decline(request: HttpRequest) -> HttpResponseRedirect:
    """Decline an invitation from the list."""
    user = _user_of(request)
    invitation = _find_own(request, user)
    team.decline_invitation(invitation=invitation, actor=events.actor_of(request, user))
    text = _("You declined the invitation to %(account)s.")
    messages.success(request, text % {"account": invitation.account.name})
    return redirect("join" if team.list_invitations_to(user) else "console:index")


def _find_own(request: HttpRequest, user: User) -> Invitation:
    wanted = request.POST.get("invitation", "")
    for invitation in team.list_invitations_to(user):
        if str(invitation.pk) == wanted:
            return invitation
    raise Http404


def _user_of(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # ensured by login_required
    return request.user


@post_only
def log_out(request: HttpRequest) -> HttpResponseRedirect:
    """Log out but keep the invitation, for a person who is logged in as somebody else."""
    secret_digests = pending.digests(request)
    get_adapter(request).logout(request)
    request.session[pending.SESSION_KEY] = secret_digests
    return redirect("join")


urlpatterns = [
    path("", join, name="join"),
    path("accept/", accept, name="join_accept"),
    path("decline/", decline, name="join_decline"),
    path("log-out/", log_out, name="join_log_out"),
    path("<str:secret>/", open_link, name="join_link"),
]
