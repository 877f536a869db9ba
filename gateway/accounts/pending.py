"""The invitation whose link was opened in this browser, kept in the session by its digests."""

from __future__ import annotations

from django.http import HttpRequest

from channels import team
from channels.models import Invitation

SESSION_KEY = "invitation_digests"


def keep(request: HttpRequest, secret: str) -> None:
    """Remember the link that was opened; what the session holds opens nothing elsewhere."""
    request.session[SESSION_KEY] = team.digests_of(secret)


def find_pending(request: HttpRequest | None) -> Invitation | None:
    """Return the invitation of this session while it can still be accepted."""
    found = digests(request)
    return team.find_invitation(found) if found else None


def digests(request: HttpRequest | None) -> list[str]:
    """Return the digests of this session's invitation, whatever has become of it; else none."""
    session = getattr(request, "session", {})
    return list(session.get(SESSION_KEY, []))
