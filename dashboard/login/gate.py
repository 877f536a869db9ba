"""The check before every page of a logged-in person. No other code checks this.

It asks two questions, in this order. Must the person set up a second factor first? Does this action
need the password again (deeds.py)? New pages are covered without being named here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from allauth.core.exceptions import ReauthenticationRequired
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse

from channels.models import User
from common.floods import client_address
from dashboard.login import deeds, recent
from dashboard.login.backend import lacks_second_factor

# The pages for a person who must set up a second factor: those that set one up, and log-out.
WITHOUT_FACTOR = frozenset(
    {
        "mfa_index",
        "mfa_activate_totp",
        "mfa_add_webauthn",
        "account_reauthenticate",
        "mfa_reauthenticate",
        "mfa_reauthenticate_webauthn",
        "account_reset_password",
        "account_reset_password_done",
        "account_reset_password_from_key",
        "account_reset_password_from_key_done",
        "account_logout",
        "console:logout",
        "admin:logout",
        # Open to everybody.
        "docs",
        "favicon",
        "set_language",
    }
)


class Gate:
    """Middleware that lets a person pass, or redirects them to what they must do first."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Any, args: Any, kwargs: Any
    ) -> HttpResponse | None:
        session: Any = request.session
        session.address = client_address(request)
        session.user_agent = request.headers.get("User-Agent", "")[:200]
        # Without a cookie nobody is logged in. Not reading the session lets public pages be cached.
        has_cookie = settings.SESSION_COOKIE_NAME in request.COOKIES
        user = request.user if has_cookie else None
        if not isinstance(user, User):
            return None
        session.see()
        match = request.resolver_match
        name = match.view_name if match else ""
        is_without = lacks_second_factor(user)
        request.lacks_second_factor = is_without  # type: ignore[attr-defined]  # mfa/index.html
        if is_without and name not in WITHOUT_FACTOR:
            url = reverse("mfa_index")
            is_script = recent.wants_json(request)
            return recent.lead_script(url) if is_script else HttpResponseRedirect(url)
        if deeds.asks_again(name, request.method) and not recent.is_login_recent(request):
            return recent.ask_again(request)
        return None

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Handle allauth's own demand the same way. allauth would replay the form and passwords."""
        return recent.ask_again(request) if isinstance(error, ReauthenticationRequired) else None
