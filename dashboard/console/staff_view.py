"""Looking at an account as staff: what the audit log records, and how to leave."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils import timezone

from channels import audit
from channels.models import AuditEntry, Channel
from common.pages.requests import post_only
from dashboard.console.access import STAFF_VIEW_SESSION_KEY, Member, Role

# A page that refreshes itself counts as one reading.
_ONE_READING = timedelta(minutes=10)


def note_reading(member: Member, target: str, *, channel: Channel | None = None) -> None:
    """Record in the account's audit log that a staff guest reads this. Does nothing for members."""
    if not member.is_staff_view:
        return
    entries = AuditEntry.objects.filter(
        account=member.account,
        actor=member.user,
        action="staff.read_text",
        target=target[:200],
        created_at__gt=timezone.now() - _ONE_READING,
    )
    if not entries.exists():
        audit.record(
            "staff.read_text",
            actor=member.actor,
            account_id=member.account.id,
            channel=channel,
            target=target,
        )


@login_required
@post_only
def leave(request: HttpRequest) -> HttpResponseRedirect:
    """Stop looking, and go to the account in the staff admin or to the person's own console.

    If another tab has meanwhile started to look at another account, that view goes on.
    """
    viewed = request.session.get(STAFF_VIEW_SESSION_KEY)
    named = request.POST.get("account", "")
    account_id = int(named) if named.isdecimal() and len(named) < 19 else viewed
    if account_id == viewed:
        request.session.pop(STAFF_VIEW_SESSION_KEY, None)
    if account_id is None or not request.user.is_staff:
        return redirect("console:index")
    return redirect(reverse("admin:channels_account_change", args=[account_id]))


# Open to everybody who is logged in, because it only clears their own session.
leave.needs_role = Role.VIEWER  # type: ignore[attr-defined]

urlpatterns = [path("staff-view/leave/", leave, name="leave_staff_view")]
