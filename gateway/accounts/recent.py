"""Has the person at the keyboard recently proven who they are, and how does a page ask again?"""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.login import get_authentication_records
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme, urlencode

from channels.models import User
from common.clock import HONEST_SKEW


def is_login_recent(request: HttpRequest) -> bool:
    """Tell whether this session saw a password or second factor in the last 15 minutes.

    By the session's own record, not by the user's last log-in, which may be another browser's.
    """
    if not isinstance(request.user, User):
        return False
    records = get_authentication_records(request, request.user)
    latest = max((record["at"] for record in records), default=0.0)
    age = time.time() - latest
    # A log-in from the future is of a clock that was wrong.
    return bool(-HONEST_SKEW.total_seconds() <= age < settings.ACCOUNT_REAUTHENTICATION_TIMEOUT)


def reauthentication_url(request: HttpRequest, *, next_url: str) -> str:
    """Return the page that asks for the password or second factor again, then leads to `next_url`.

    allauth follows `next_url` only within this installation.
    """
    methods = get_adapter(request).get_reauthentication_methods(request.user)
    # Who has neither can prove who they are by their mailbox alone.
    page = methods[0]["url"] if methods else reverse("account_reset_password")
    return f"{page}?{urlencode({REDIRECT_FIELD_NAME: next_url})}"


def ask_again(request: HttpRequest) -> HttpResponse:
    """Send the person to the question, and from there back to where they can finish.

    What they sent is not kept and not repeated: they see the page again and send it themselves.
    """
    url = reauthentication_url(request, next_url=_way_back(request))
    if wants_json(request):
        return lead_script(url)
    if request.method == "POST":
        messages.info(request, "Nothing has been changed yet: after this, send it once more.")
    return HttpResponseRedirect(url)


def wants_json(request: HttpRequest) -> bool:
    """Tell whether a script asks (`gateway.post`), which must not follow a redirect."""
    match = request.resolver_match
    is_for_scripts = match is not None and match.view_name == "console:show_key"
    return is_for_scripts or request.headers.get("Accept") == "application/json"


def lead_script(url: str) -> JsonResponse:
    """Tell a script of ours which page to open."""
    return JsonResponse({"redirect": url}, status=403, headers={"Cache-Control": "no-store"})


def _way_back(request: HttpRequest) -> str:
    """Return the page on which the person was: a form's own address may only take what is sent."""
    if request.method != "POST":
        return request.get_full_path()
    wanted = request.POST.get(REDIRECT_FIELD_NAME, "") if wants_json(request) else ""
    for url in (wanted, request.headers.get("Referer", "")):
        if url and url_has_allowed_host_and_scheme(
            url, allowed_hosts={request.get_host()}, require_https=request.is_secure()
        ):
            parts = urlsplit(url)
            if parts.path.startswith("/"):
                return f"{parts.path}?{parts.query}" if parts.query else parts.path
    return request.get_full_path()
