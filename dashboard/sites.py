"""The two admin sites: the owners' console at `/`, the staff admin at `/admin/`.

They are the frames of pages and import none. gateway/urls.py adds the pages. The console has none
of the pages that an admin site generates for models. All its pages are plain views
(dashboard/console), each with the role it needs, so no list, filter, autocomplete, or action can
show one tenant another's rows.
"""

from __future__ import annotations

from typing import Any

from allauth.account.decorators import secure_admin_login
from allauth.account.utils import get_next_redirect_url
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from unfold.sites import UnfoldAdminSite

from dashboard.login.sessions import log_out


class StaffSite(UnfoldAdminSite):
    """The admin for the people who run the gateway."""

    site_header = site_title = "AI gateway"
    index_title = gettext_lazy("Staff")
    index_template = "admin/staff_index.html"

    # Through allauth, so that its limits and second factors apply here too.
    @method_decorator([never_cache, secure_admin_login])
    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Redirect to allauth's log-in. Django's own form would ask only for a password."""
        return redirect(get_next_redirect_url(request) or "admin:index")

    def logout(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Log out as on every other page, so that it is recorded."""
        response = log_out(request)
        assert isinstance(response, HttpResponse), "it leads on"
        return response

    def password_change(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Redirect to the page that counts attempts."""
        return redirect("account_change_password")

    def autocomplete_view(self, request: HttpRequest) -> HttpResponse:
        """Refuse a term that no column can hold: PostgreSQL raises an error for NUL."""
        if "\x00" in request.GET.get("term", ""):
            raise BadRequest
        response: HttpResponse = super().autocomplete_view(request)
        return response

    def app_index(
        self, request: HttpRequest, app_label: str, extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Redirect to the overview, because the sidebar has groups of its own, not the apps."""
        return redirect("admin:index")


class ConsoleSite(UnfoldAdminSite):
    """The frame of the owners' pages: theme, sidebar, log-out."""

    settings_name = "CONSOLE"

    def has_permission(self, request: HttpRequest) -> bool:
        """Let in everybody who is logged in. Each view decides what they may see."""
        return request.user.is_active

    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return redirect_to_login(request.get_full_path())

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        return []


console = ConsoleSite(name="console")


def console_home(request: HttpRequest) -> str:
    """Return the target of the staff admin's “View site” link."""
    return reverse("console:index")
