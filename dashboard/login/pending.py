"""What this browser has begun and not finished, kept in its session.

The digests of an invitation, the address of a password reset, and the account the person works in.
"""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from channels import team
from channels.errors import TeamRefusal
from channels.models import Invitation, User
from dashboard.login import events

SESSION_KEY = "invitation_digests"
# The address that requested a password reset, to fill it in when asking for another e-mail.
RESET_SESSION_KEY = "reset_email"
# The account that the console's short URLs lead to. Pages at full URLs do not read it.
ACCOUNT_SESSION_KEY = "console_account_id"


def keep(request: HttpRequest, secret: str) -> None:
    """Remember the opened link. The session's digests are useless elsewhere.

    Only the link of an invitation makes a session: strangers could fill the table with invented
    ones.
    """
    found = team.digests_of(secret)
    if team.is_invitation(found):
        request.session[SESSION_KEY] = found
    else:
        request.session.pop(SESSION_KEY, None)


def find_pending(request: HttpRequest | None) -> Invitation | None:
    """Return the invitation of this session if it can still be accepted."""
    found = digests(request)
    return team.find_invitation(found) if found else None


def digests(request: HttpRequest | None) -> list[str]:
    """Return the digests of this session's invitation, whatever its state, or an empty list."""
    session = getattr(request, "session", {})
    return list(session.get(SESSION_KEY, []))


def accept(
    request: HttpRequest, user: User, *, secret_digests: list[str] | None = None
) -> HttpResponseRedirect:
    """Make the person a member by this session's or the given invitation, and open the account."""
    actor = events.actor_of(request, user)
    wanted = digests(request) if secret_digests is None else secret_digests
    try:
        membership = team.accept_invitation(secret_digests=wanted, user=user, actor=actor)
    except TeamRefusal as refusal:
        messages.error(request, str(refusal))
        return redirect("join")
    request.session[ACCOUNT_SESSION_KEY] = membership.account_id
    events.log("member.joined", request, user, account_id=membership.account_id)
    text = _("You are now a member of %(account)s.")
    messages.success(request, text % {"account": membership.account.name})
    return redirect("console:index")
