"""Template variables about this installation for the log-in and sign-up pages."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest

_CONSOLE = "django.core.mail.backends.console.EmailBackend"


def has_mail_server() -> bool:
    """Return whether e-mails are really sent. If not, they are written to the server's log."""
    return bool(settings.EMAIL_BACKEND != _CONSOLE)


def doors(request: HttpRequest) -> dict[str, Any]:
    """Give every template the settings that decide which links it shows."""
    return {"allow_signup": settings.ALLOW_SIGNUP, "has_mail_server": has_mail_server()}
