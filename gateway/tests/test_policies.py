"""Every URL states who may use it. One without a declared policy fails the build."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from channels.models import Membership
from dashboard.console import urls as console_urls

# Pages that need no role, each with the reason.
WITHOUT_ROLE = {
    "no_account": "for people who are in no account",
    "create_account": "makes the first account of a person without one",
    "logout": "ends a log-in, whoever's it is",
}


def flatten(patterns: Any) -> Iterator[URLPattern]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from flatten(pattern.url_patterns)
        else:
            yield pattern


CONSOLE = list(flatten(console_urls.urlpatterns))
API = [
    pattern
    for pattern in flatten(get_resolver().url_patterns)
    if getattr(pattern.callback, "cls", None) is not None
]


@pytest.mark.parametrize("pattern", CONSOLE, ids=lambda pattern: str(pattern.name))
def test_every_page_of_the_console_declares_a_role(pattern: URLPattern) -> None:
    needs = getattr(pattern.callback, "needs_role", None)
    if pattern.name in WITHOUT_ROLE:
        assert needs is None
    else:
        assert needs in set(Membership.Role)


@pytest.mark.parametrize("pattern", API, ids=lambda pattern: str(pattern.pattern))
def test_every_endpoint_of_the_api_declares_who_may_call(pattern: URLPattern) -> None:
    view: Any = pattern.callback
    if str(pattern.name) == "schema":
        return
    assert view.cls.authentication_classes, view.cls
    assert view.cls.permission_classes, view.cls


@pytest.mark.django_db
@pytest.mark.parametrize("pattern", CONSOLE, ids=lambda pattern: str(pattern.name))
def test_nobody_sees_the_console_without_logging_in(pattern: URLPattern) -> None:
    if pattern.name == "logout":
        return
    address = "/" + str(pattern.pattern)
    for converter, value in (("<uuid:", "0190a000-0000-7000-8000-000000000000"), ("<int:", "1")):
        while converter in address:
            start = address.index(converter)
            address = address[:start] + value + address[address.index(">", start) + 1 :]
    while "<" in address:
        start = address.index("<")
        address = address[:start] + "x" + address[address.index(">", start) + 1 :]
    for method in ("get", "post"):
        response = getattr(Client(), method)(address)
        assert response.status_code in (302, 405), (method, address)
        if response.status_code == 302:
            assert response["Location"].startswith("/accounts/login/"), address
