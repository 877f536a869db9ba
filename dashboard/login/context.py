"""Template variables about this installation for the log-in and sign-up pages."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from common import languages
from dashboard.mail_state import has_mail_server


def doors(request: HttpRequest) -> dict[str, Any]:
    """Give every template the settings that decide which links it shows."""
    return {"allow_signup": settings.ALLOW_SIGNUP, "has_mail_server": has_mail_server()}


def languages_offered(request: HttpRequest) -> dict[str, Any]:
    """Give every template the languages to choose from: none if there is only one."""
    offered = languages.offered()
    language = languages.current()
    return {
        # A token sets a cookie, so it is only for browsers in which somebody may be logged in.
        "has_session": settings.SESSION_COOKIE_NAME in request.COOKIES,
        "site_languages": list(offered.items()) if len(offered) > 1 else [],
        "page_language": language,
        # English is written in the scripts themselves.
        "script_texts": "" if language == "en" else f"dashboard/texts/{language}.js",
    }
