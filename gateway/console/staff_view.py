"""The way back from looking at an account as staff."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import path, reverse

from gateway.console.access import STAFF_VIEW_SESSION_KEY, Role, post_only


@login_required
@post_only
def leave(request: HttpRequest) -> HttpResponseRedirect:
    """Stop looking; back to the account in the staff admin, or to one's own console.

    Another tab may have begun to look at another account since: that goes on.
    """
    viewed = request.session.get(STAFF_VIEW_SESSION_KEY)
    named = request.POST.get("account", "")
    account_id = int(named) if named.isdecimal() and len(named) < 19 else viewed
    if account_id == viewed:
        request.session.pop(STAFF_VIEW_SESSION_KEY, None)
    if account_id is None or not request.user.is_staff:
        return redirect("console:index")
    return redirect(reverse("admin:channels_account_change", args=[account_id]))


# Everybody who has logged in: it only forgets what the session held.
leave.needs_role = Role.VIEWER  # type: ignore[attr-defined]

urlpatterns = [path("staff-view/leave/", leave, name="leave_staff_view")]
