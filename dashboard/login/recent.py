"""Whether a person has recently proved who they are, and how a page asks them again."""

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
from django.utils.translation import gettext as _

from channels.models import User
from common.clock import HONEST_SKEW


def is_login_recent(request: HttpRequest) -> bool:
    """Return whether this session got a password or second factor in the last 15 minutes.

    Uses the session's own record. The user's last log-in may come from another browser.
    """
    if not isinstance(request.user, User):
        return False
    records = get_authentication_records(request, request.user)
    latest = max((record["at"] for record in records), default=0.0)
    age = time.time() - latest
    # A log-in in the future was recorded by a wrong clock.
    return bool(-HONEST_SKEW.total_seconds() <= age < settings.ACCOUNT_REAUTHENTICATION_TIMEOUT)


def reauthentication_url(request: HttpRequest, *, next_url: str) -> str:
    """Return the URL that asks for a password or second factor again and leads on to `next_url`.

    allauth follows `next_url` only within this installation.
    """
    methods = get_adapter(request).get_reauthentication_methods(request.user)
    # A person who has neither can only prove who they are by their mailbox.
    page = methods[0]["url"] if methods else reverse("account_reset_password")
    return f"{page}?{urlencode({REDIRECT_FIELD_NAME: next_url})}"


def ask_again(request: HttpRequest) -> HttpResponse:
    """Redirect to the page that asks again, which then leads back to where the person can finish.

    The form data is neither kept nor replayed: the person sees the page again and resubmits it.
    """
    url = reauthentication_url(request, next_url=_way_back(request))
    if wants_json(request):
        return lead_script(url)
    if request.method == "POST":
        text = _("Nothing has changed yet. Confirm it is you, then submit again.")
        messages.info(request, text)
    return HttpResponseRedirect(url)


def wants_json(request: HttpRequest) -> bool:
    """Return whether a script (`gateway.post`) sent this, which must not follow a redirect."""
    match = request.resolver_match
    is_for_scripts = match is not None and match.view_name == "console:show_key"
    return is_for_scripts or request.headers.get("Accept") == "application/json"


def lead_script(url: str) -> JsonResponse:
    """Tell our script which page to open."""
    return JsonResponse({"redirect": url}, status=403, headers={"Cache-Control": "no-store"})


def _way_back(request: HttpRequest) -> str:
    """Return the page that the person was on. A form's own URL may only accept POST."""
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
