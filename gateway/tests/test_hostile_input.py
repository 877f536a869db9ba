"""Robustness: no page fails, whatever a query string or a form contains."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import URLPattern

import gateway.urls  # noqa: F401  # registers what the staff admin shows
from channels.models import User
from dashboard.staff import urls as staff_urls
from dashboard.tests.test_strangers import IDS, Tenant, address_of, make_tenant, names_of
from gateway.tests.test_policies import CONSOLE
from tests.support.clients import log_in
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db

HOSTILE = (
    "a\x00b",
    "\ud800",
    "9" * 4_400,
    "9999-12-31",
)
QUERY_NAMES = (
    "page", "before", "after", "channel", "q", "text", "range", "days", "first", "last",
    "first_day", "last_day", "kind", "action", "person", "traffic", "session", "sort", "o", "p",
    "account", "accounts", "token", "deed", "model", "provider", "version", "compare", "against",
    "tab", "number", "s", "extended", "left", "right", "errors_only", "mode", "status", "language",
    "key", "e",
)  # fmt: skip
FORM_NAMES = (
    "name", "email", "role", "site_url", "model", "system_prompt", "note", "requests_per_minute",
    "daily_quota", "is_enabled", "code", "threshold", "question", "answer", "match", "priority",
    "mode", "key_id", "overlap", "next", "rating", "message", "text", "session_id", "url", "title",
    "accounts", "token", "deed", "amount", "category", "last_day", "reason", "step", "count",
    "max_redemptions", "credits_last_days", "confirm", "number", "version", "file", "position",
    "action", "_selected_action", "index", "prompt", "ids", "account", "account_id", "draft",
    "request_id", "send_id", "turn", "history", "stream", "delay", "credits", "csv",
)  # fmt: skip


def body_of(response: Any) -> bytes:
    return b"".join(response.streaming_content) if response.streaming else response.content


def try_it(client: Client, method: str, path: str, data: Any) -> str:
    """Return what went wrong, or an empty string.

    Forms are sent urlencoded: in a multipart form Django's client sends bytes as a list of numbers.
    """
    try:
        response = (
            client.post(path, urlencode(data), content_type="application/x-www-form-urlencoded")
            if method == "post"
            else client.get(path, data)
        )
        body_of(response)
    except Exception as error:  # noqa: BLE001  # each of them is the finding
        return f"{method} {path}: {type(error).__name__}: {error!s:.200}"
    return f"{method} {path}: {response.status_code}" if response.status_code >= 500 else ""


def failures_of(client: Client, paths: list[str]) -> list[str]:
    failed = []
    for path in paths:
        for value in HOSTILE:
            sent = value.encode("utf-8", "surrogatepass")
            found = try_it(client, "get", path, dict.fromkeys(QUERY_NAMES, sent))
            found = found and f"{found} with {value[:20]!r}"
            failed += [found] if found else []
            found = try_it(client, "post", path, dict.fromkeys(FORM_NAMES, sent))
            found = found and f"{found} with {value[:20]!r}"
            failed += [found] if found else []
    return failed


@pytest.fixture
def tenant(provider: FakeProvider, db: None) -> Tenant:
    return make_tenant("mine", "own", provider)


@pytest.mark.parametrize("pattern", CONSOLE, ids=lambda pattern: str(pattern.name))
def test_no_page_of_the_console_fails(pattern: URLPattern, tenant: Tenant) -> None:
    if pattern.name == "logout":
        return
    client = log_in(tenant.people["owner"])
    values = {name: find(tenant) for name, (find, _) in IDS.items()}
    paths = [address_of(pattern, values)]
    numbers = [
        name for name in names_of(pattern) if name not in ("channel_id", "key_id", "message_id")
    ]
    paths += [
        address_of(pattern, values | dict.fromkeys(numbers, 10**size)) for size in (19,) if numbers
    ]
    assert failures_of(client, paths) == []


def staff_paths(tenant: Tenant) -> list[str]:
    own = [
        "/admin/"
        + str(page.pattern)
        .replace("<int:account_id>", str(tenant.account.pk))
        .replace("<int:route_id>", "1")
        for page in staff_urls.urlpatterns
    ]
    return [*own, "/admin/search/", "/admin/autocomplete/"]


def test_no_page_of_the_staff_fails(tenant: Tenant, admin_user: User) -> None:
    assert failures_of(log_in(admin_user), staff_paths(tenant)) == []


def test_no_list_of_the_staff_fails(tenant: Tenant, admin_user: User) -> None:
    client, failed = log_in(admin_user), []
    for model in admin.site._registry:
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        for value in ("\x00", "\ud800", "9" * 30):
            sent = value.encode("utf-8", "surrogatepass")
            for query in ({"q": sent}, {"p": sent, "o": sent}, {"id__exact": sent, "e": sent}):
                found = try_it(client, "get", base, query)
                failed += [f"{found} {query} {value[:20]!r}"] if found else []
    assert failed == []
