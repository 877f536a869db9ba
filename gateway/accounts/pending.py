"""The invitation whose link was opened in this browser, kept in the session by its digest."""

from __future__ import annotations

from django.http import HttpRequest

from channels import team
from channels.models import Invitation

SESSION_KEY = "invitation_digest"


def keep(request: HttpRequest, secret: str) -> None:
    """Remember the link that was opened; what the session holds opens nothing elsewhere."""
    request.session[SESSION_KEY] = team.digest_of(secret)


def find_pending(request: HttpRequest | None) -> Invitation | None:
    """Return the invitation of this session while it can still be accepted."""
    secret_digest = digest(request)
    return team.find_invitation(secret_digest) if secret_digest else None


def digest(request: HttpRequest | None) -> str:
    """Return the digest of this session's invitation, whatever has become of it; else ''."""
    session = getattr(request, "session", None)
    return "" if session is None else str(session.get(SESSION_KEY, ""))
