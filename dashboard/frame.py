"""Values that both admin sites show around their pages."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import redirect
from django.templatetags.static import static
from django.urls import reverse
from django.utils.translation import gettext as _


def favicon(request: HttpRequest) -> str:
    return static("dashboard/favicon.svg")


def styles(request: HttpRequest) -> str:
    return static("dashboard/dashboard.css")


def frame_styles(request: HttpRequest) -> str:
    return static("dashboard/frame.css")


def scripts(request: HttpRequest) -> str:
    return static("dashboard/dashboard.js")


def finder_scripts(request: HttpRequest) -> str:
    return static("dashboard/finder.js")


def draft_scripts(request: HttpRequest) -> str:
    return static("dashboard/drafts.js")


def staff_styles(request: HttpRequest) -> str:
    return static("dashboard/credits.css")


def staff_scripts(request: HttpRequest) -> str:
    return static("dashboard/staff.js")


def account_links(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the links of the menu under a person's name."""
    return [
        {"title": _("Password"), "link": reverse("account_change_password")},
        {"title": _("E-mail address"), "link": reverse("account_email")},
        {"title": _("Two-factor and passkeys"), "link": reverse("mfa_index")},
        {"title": _("Sessions"), "link": reverse("account_sessions")},
        {"title": _("E-mails"), "link": reverse("account_mails")},
    ]


def site_name(request: HttpRequest) -> dict[str, Any]:
    """Give every template the operator's name for the installation."""
    return {"site_name": settings.SITE_NAME}


def favicon_ico(request: HttpRequest) -> HttpResponseRedirect:
    """Redirect browsers that request the old name to the icon's URL."""
    return redirect(favicon(request), permanent=False)
