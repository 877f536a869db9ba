"""The addresses of all pages that show a tenant, for tests that open every one of them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin

from billing.models import CreditRequest
from channels.models import Route, User
from dashboard.staff import urls as staff_urls
from dashboard.tests.browser.visitors import Watched
from dashboard.tests.test_strangers import IDS, Tenant, address_of
from gateway.tests.test_policies import CONSOLE
from tests.support.clients import log_in

# Forms, what exists only with PROVIDER_BASE_URL, and a download.
_NO_PAGES = {"verify_now", "ask_workers", "test_environment", "margins_csv"}


def enter(watched: Watched, user: User) -> Watched:
    """Log somebody in, without the form."""
    session = log_in(user).cookies["sessionid"].value
    cookie: Any = {"name": "sessionid", "value": session, "url": watched.base_url}
    watched.page.context.add_cookies([cookie])
    return watched


def pages_of_owner(tenant: Tenant) -> list[str]:
    client = log_in(tenant.people["owner"])
    values = {name: find(tenant) for name, (find, _) in IDS.items()}
    paths = [address_of(page, values) for page in CONSOLE if page.name != "logout"]
    paths += [
        "/accounts/password/change/", "/accounts/email/", "/accounts/mails/",
        "/accounts/sessions/", "/accounts/2fa/", "/accounts/2fa/webauthn/",
        "/accounts/2fa/recovery-codes/", "/accounts/2fa/totp/deactivate/",
        "/accounts/reauthenticate/", "/docs/", "/accounts/logout/",
    ]  # fmt: skip
    shown = [path for path in paths if _is_page(client.get(path))]
    assert len(shown) > 20
    return shown


def own_pages_of_staff(tenant: Tenant) -> list[str]:
    values = {"account_id": tenant.account.pk, "route_id": Route.objects.all()[0].pk}
    values |= {"request_id": CreditRequest.objects.all()[0].pk}
    return [
        "/admin/",
        *(
            "/admin" + address_of(page, values)
            for page in staff_urls.urlpatterns
            if page.name not in _NO_PAGES
        ),
        f"/admin/credits/book/?accounts={tenant.account.pk}&deed=add",
    ]


def rows_of_staff(tenant: Tenant, *, more: bool = True) -> list[str]:
    """Return the list and a row of every model; and, with `more`, what can be done with a row."""
    paths = []
    request: Any = type("Request", (), {"user": User(is_superuser=True, is_active=True)})
    for model, registered in admin.site._registry.items():
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        row = model._base_manager.all()[0]
        paths += [base, f"{base}{row.pk}/change/"]
        if more:
            paths.append(f"{base}{row.pk}/history/")
        if more and registered.has_add_permission(request):
            paths.append(f"{base}add/")
        if more and registered.has_delete_permission(request, row):
            paths.append(f"{base}{row.pk}/delete/")
    if more:
        person = tenant.people["owner"].pk
        paths += [f"/admin/channels/user/{person}/password/", "/admin/password_change/"]
    return paths


def _is_page(response: Any) -> bool:
    is_html = response.get("Content-Type", "").startswith("text/html")
    return response.status_code == 200 and is_html and not response.get("Content-Disposition")
