"""Has the person at the keyboard proven of late who they are? Asked before a secret is shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.login import get_authentication_records
from django.conf import settings
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.http import urlencode

from channels.models import User
from common.clock import HONEST_SKEW

View = Callable[..., HttpResponseBase]


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
    # Who has neither password nor second factor makes a password first.
    page = methods[0]["url"] if methods else reverse("account_set_password")
    return f"{page}?{urlencode({REDIRECT_FIELD_NAME: next_url})}"


def needs_recent_login(view: View) -> View:
    """Send whoever has not logged in of late to the page that asks again, and back to this one."""

    @wraps(view)
    def page(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if is_login_recent(request):
            return view(request, *args, **kwargs)
        url = reauthentication_url(request, next_url=request.get_full_path())
        return HttpResponseRedirect(url)

    return page
