"""What every page of the staff admin's own has: permission, frame, and actor."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from channels.audit import Actor
from channels.models import User
from common.floods import client_address

View = Callable[..., HttpResponseBase]


def staff_page(*permissions: str) -> Callable[[View], View]:
    """Let in staff with all of these permissions. The site itself asks for the log-in."""

    def decorate(view: View) -> View:
        @wraps(view)
        def page(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.user.has_perms(permissions):
                names = _(" and ").join(permissions)
                raise PermissionDenied(_("This needs the permission %(names)s.") % {"names": names})
            return view(request, *args, **kwargs)

        page.needs_permissions = permissions  # type: ignore[attr-defined]
        return page

    return decorate


def render_staff_page(
    request: HttpRequest, template: str, *, title: str, status: int = 200, **context: Any
) -> TemplateResponse:
    """Return `templates/staff/<template>` in the frame of the staff admin."""
    request.current_app = admin.site.name
    frame = admin.site.each_context(request) | {"title": title, "subtitle": None}
    return TemplateResponse(request, f"staff/{template}", frame | context, status=status)


def actor_of(request: HttpRequest) -> Actor:
    """Return the staff member as the actor of ledger and audit log entries."""
    user = request.user
    assert isinstance(user, User)  # the site lets nobody else in
    return Actor(user.email, user, client_address(request))


def staff_url(name: str, *args: Any) -> str:
    """Return the URL of a page of the staff admin."""
    return reverse(f"admin:{name}", args=args)


def rows_url(request: HttpRequest, app: str, model: str, **filters: str) -> str:
    """Return the address of the rows behind a figure, or '' if the person may not see them."""
    if not request.user.has_perm(f"{app}.view_{model}"):
        return ""
    url = staff_url(f"{app}_{model}_changelist")
    return f"{url}?{urlencode(filters)}" if filters else url
