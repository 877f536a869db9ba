"""Where a person is logged in: list the sessions, end one or all, log out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from allauth.account.internal.flows.logout import logout
from django.contrib import messages
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from channels.models import LoginSession, User
from common import languages
from common.pages.requests import post_only
from dashboard.login import events
from dashboard.login.store import end_of

# The first match wins, so browsers whose user agent also names another come first.
_BROWSERS = ("Edg", "OPR", "Firefox", "Chrome", "Safari", "curl")
_SYSTEMS = ("Android", "iPhone", "iPad", "Windows", "Mac OS X", "CrOS", "Linux")
_WORDS = {"Edg": "Edge", "OPR": "Opera", "Mac OS X": "macOS", "CrOS": "ChromeOS"}


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A browser in which a person is logged in."""

    # Stands for the session key, which works like a password.
    mark: str
    device: str
    address: str
    logged_in_at: datetime
    last_seen_at: datetime
    is_this: bool


def device_of(user_agent: str) -> str:
    """Return a name for the browser that a person recognizes, in the active language.

    What is stored is in English.

    >>> device_of("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
    'Firefox on Linux'
    """
    browser = _first_in(user_agent, _BROWSERS)
    system = _first_in(user_agent, _SYSTEMS)
    if not system:
        return browser or _("A browser")
    if not browser:
        return _("A browser on %(system)s") % {"system": system}
    return _("%(browser)s on %(system)s") % {"browser": browser, "system": system}


def _first_in(user_agent: str, names: tuple[str, ...]) -> str:
    found = next((name for name in names if re.search(rf"\b{name}\b", user_agent)), "")
    return _WORDS.get(found, found)


def _rows(user: User) -> Iterator[LoginSession]:
    """Yield the sessions in which this person is still logged in, latest first.

    A new password ends the person's other sessions at once. If somebody else set it, the rows are
    still there, and this deletes them.
    """
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    for row in LoginSession.objects.filter(user=user).order_by("-last_seen_at"):
        hash_then = row.get_decoded().get(HASH_SESSION_KEY, "")
        is_valid = any(constant_time_compare(hash_then, one) for one in hashes)
        if is_valid and end_of(row) > timezone.now():
            yield row
        else:
            row.delete()


def _mark(row: LoginSession) -> str:
    return salted_hmac("login session", row.session_key, algorithm="sha256").hexdigest()[:32]


def end_others(request: HttpRequest, user: User) -> int:
    """End this person's sessions except the current one. Returns how many."""
    others = LoginSession.objects.filter(user=user)
    return others.exclude(session_key=request.session.session_key).delete()[0]


# --- Pages ----------------------------------------------------------------------------------------


@never_cache
@require_safe
@login_required
def list_sessions(request: HttpRequest) -> HttpResponse:
    """Show where the person is logged in."""
    user = _user_of(request)
    found = [
        OpenSession(
            mark=_mark(row),
            device=device_of(row.user_agent),
            address=row.address,
            logged_in_at=row.logged_in_at,
            last_seen_at=row.last_seen_at,
            is_this=row.session_key == request.session.session_key,
        )
        for row in _rows(user)
    ]
    return render(request, "account/sessions.html", {"sessions": found})


@login_required
@post_only
def end_session(request: HttpRequest) -> HttpResponseBase:
    """End one of the person's sessions. Ending the current one is a log-out."""
    user = _user_of(request)
    row = next((one for one in _rows(user) if _mark(one) == request.POST.get("session")), None)
    if row is None:
        raise Http404
    if row.session_key == request.session.session_key:
        return log_out(request)
    row.delete()
    with languages.speaking("en"):
        device = device_of(row.user_agent)
    events.record("session.ended", request, user, device=device, at=row.address)
    text = _("%(device)s has been logged out.") % {"device": device_of(row.user_agent)}
    messages.success(request, text)
    return redirect("account_sessions")


@login_required
@post_only
def end_all_sessions(request: HttpRequest) -> HttpResponseBase:
    """Log the person out everywhere, including here."""
    user = _user_of(request)
    count = end_others(request, user) + 1
    events.record("session.all_ended", request, user, sessions=str(count))
    return log_out(request)


@post_only
def log_out(request: HttpRequest) -> HttpResponseRedirect:
    """Log out, from any page. Without a log-in, just redirect to the log-in page."""
    logout(request)
    return redirect("account_login")


def _user_of(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # ensured by login_required
    return request.user
