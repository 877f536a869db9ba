"""Pages that are refused or cannot be answered: page and log say why, and which setting to fix."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from django.core import mail
from django.db import OperationalError
from django.test import Client
from pytest_django import Settings

from channels.models import User
from channels.tests.factories import Site
from common.api import refusals
from tests.support.clients import ApiClient

pytestmark = pytest.mark.django_db

LOG_IN = "/accounts/login/"


@pytest.fixture
def behind_proxy(settings: Settings) -> Settings:
    settings.TRUSTED_PROXY_COUNT = 1
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.ALLOWED_HOSTS = ["gateway.example.com", "inner"]
    return settings


def records(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.message == event]


# --- Wrong origin ---------------------------------------------------------------------------


def post_log_in(host: str, **headers: str) -> Any:
    client = Client(enforce_csrf_checks=True, headers={"Host": host})
    client.get(LOG_IN, headers=headers)
    token = client.cookies["csrftoken"].value
    body = {"login": "a@example.com", "password": "x", "csrfmiddlewaretoken": token}
    return client.post(LOG_IN, body, headers=headers)


def test_a_wrong_origin_names_both_addresses_and_the_settings(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """With a TLS proxy in front while TRUSTED_PROXY_COUNT is still 0."""
    settings.ALLOWED_HOSTS = ["gateway.example.com"]
    response = post_log_in("gateway.example.com", Origin="https://gateway.example.com")
    page = response.content.decode()
    assert response.status_code == 403
    assert "too old" not in page
    assert "<b>https://gateway.example.com</b>" in page
    assert "<b>http://gateway.example.com</b>" in page
    assert "TRUSTED_PROXY_COUNT=1" in page
    assert "CSRF_TRUSTED_ORIGINS=https://gateway.example.com" in page
    (line,) = records(caplog, "page.form.refused")
    assert line["origin"] == "https://gateway.example.com"
    assert line["seen"] == "http://gateway.example.com"
    assert "TRUSTED_PROXY_COUNT" in line["settings"]


def test_a_changed_host_behind_tls_is_told_too(behind_proxy: Settings) -> None:
    headers = {"X-Forwarded-Proto": "https", "Origin": "https://gateway.example.com"}
    page = post_log_in("inner", **headers).content.decode()
    assert "<b>https://inner</b>" in page
    behind_proxy.CSRF_TRUSTED_ORIGINS = ["https://gateway.example.com"]
    assert post_log_in("inner", **headers).status_code == 200


def test_a_missing_referrer_by_https_is_no_other_address(behind_proxy: Settings) -> None:
    response = post_log_in("gateway.example.com", **{"X-Forwarded-Proto": "https"})
    assert response.status_code == 403
    assert "This page is out of date" in response.content.decode()


def test_an_old_page_is_still_an_old_page(caplog: pytest.LogCaptureFixture) -> None:
    client = Client(enforce_csrf_checks=True)
    response = client.post(LOG_IN, {"login": "a@example.com"})
    assert response.status_code == 403
    assert "This page is out of date" in response.content.decode()
    (line,) = records(caplog, "page.form.refused")
    assert "cookie" in line["reason"]
    assert "settings" not in line


@pytest.mark.parametrize("origin", ["null", "https://<img src=x>.example", "x" * 5000])
def test_a_hostile_origin_is_shown_as_text(origin: str) -> None:
    response = post_log_in("testserver", Origin=origin)
    assert response.status_code == 403
    assert "<img src=x" not in response.content.decode()
    assert len(response.content) < 5000


# --- Wrong host -----------------------------------------------------------------------------


def test_an_unknown_host_is_named_with_the_setting(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "_next_host_line_at", 0.0)
    asked = [Client().get(LOG_IN, headers={"Host": "gw.example.com:8443"}) for _ in range(3)]
    response = asked[-1]
    page = response.content.decode()
    assert response.status_code == 400
    assert "<b>gw.example.com:8443</b>" in page
    assert "ALLOWED_HOSTS" in page
    (line,) = records(caplog, "page.host.refused")
    assert (line["host"], line["setting"]) == ("gw.example.com:8443", "ALLOWED_HOSTS")


@pytest.mark.parametrize("host", ["<script>alert(1)</script>", "x" * 5000, "a b", "ü.example"])
def test_a_hostile_host_is_shown_as_text_and_cut(host: str) -> None:
    response = Client().get(LOG_IN, HTTP_HOST=host)
    assert response.status_code == 400
    assert "<script" not in response.content.decode()
    assert len(response.content) < 2000


# --- No database ----------------------------------------------------------------------------


def away(*args: Any, **kwargs: Any) -> None:
    raise OperationalError("connection refused\n\tIs the server running?")


@pytest.mark.parametrize("path", ["/docs/", LOG_IN, "/", "/admin/"])
def test_pages_without_a_database_are_503_and_say_when_to_come_back(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, site: Site
) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.get(email="owner@example.com"))
    monkeypatch.setattr("django.db.models.sql.compiler.SQLCompiler.execute_sql", away)
    monkeypatch.setattr("django.contrib.sessions.backends.db.SessionStore.load", away)
    response = client.get(path)
    if response.status_code == 200:
        assert path == LOG_IN  # the log-in page, which needs no database
        return
    assert response.status_code == 503
    assert int(response["Retry-After"]) >= 1
    assert "Back in a moment" in response.content.decode()
    (line,) = records(caplog, "page.request.failed")
    assert line["reason"] == "OperationalError: connection refused Is the server running?"
    assert line["exc_info"] is None


def test_an_outage_costs_the_log_a_short_line_a_request(
    api: ApiClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("billing.throttling.find_and_count", away)
    response = api.chat()
    assert (response.status_code, response["Retry-After"]) == (503, "2")
    (line,) = records(caplog, "api.request.failed")
    assert line["code"] == "overloaded"
    formatted = logging.getLogger().handlers and json.dumps(
        {name: line[name] for name in ("code", "reason")}
    )
    assert "Traceback" not in str(formatted)
    assert line["exc_info"] is None


def test_a_bug_still_has_its_traceback(
    api: ApiClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(*args: Any, **kwargs: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("billing.throttling.find_and_count", bug)
    assert api.chat().status_code == 500
    (line,) = records(caplog, "api.request.failed")
    assert line["exc_info"]
    assert "reason" not in line


# --- HSTS -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/key", "/v1/models", "/healthz", "/docs/", "/api/nope"])
@pytest.mark.parametrize(
    ("subdomains", "preload", "header"),
    [
        (False, False, "max-age=600"),
        (True, False, "max-age=600; includeSubDomains"),
        (True, True, "max-age=600; includeSubDomains; preload"),
    ],
)
def test_hsts_is_on_every_answer_as_set(
    path: str, subdomains: bool, preload: bool, header: str, settings: Settings, api: ApiClient
) -> None:
    settings.SECURE_HSTS_SECONDS = 600
    settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = subdomains
    settings.SECURE_HSTS_PRELOAD = preload
    response = Client().get(path, secure=True, headers=api.headers)
    assert response["Strict-Transport-Security"] == header
    assert "Strict-Transport-Security" not in Client().get(path)


def test_without_https_there_is_none(api: ApiClient) -> None:
    for path in ("/api/key", "/docs/"):
        assert "Strict-Transport-Security" not in Client().get(path, secure=True)


# --- The public address ---------------------------------------------------------------------

PUBLIC = "https://gateway.example.com"


@pytest.fixture
def public(settings: Settings) -> None:
    settings.PUBLIC_URL = PUBLIC
    settings.ALLOWED_HOSTS = ["inner", "testserver"]


@pytest.mark.usefixtures("public", "forget_attempts")
@pytest.mark.parametrize("host", ["inner", "inner:6666", "testserver"])
def test_every_mailed_link_has_the_public_address(host: str, settings: Settings) -> None:
    User.objects.create_user("known@example.com", "a-long-password-1")
    client = Client(headers={"Host": host})
    client.post("/accounts/signup/", {"email": "new@example.com", "password1": "dn38-dk28-sl29"})
    for email in ("known@example.com", "unknown@example.com", "new@example.com"):
        client.post("/accounts/password/reset/", {"email": email})
    client.post("/accounts/signup/", {"email": "known@example.com", "password1": "dn38-dk28-sl29"})
    assert len(mail.outbox) >= 4
    for message in mail.outbox:
        text = message.body if isinstance(message.body, str) else ""
        assert PUBLIC in text, text
        assert "inner" not in text
        assert "testserver" not in text


@pytest.mark.usefixtures("public")
def test_code_to_copy_has_the_public_address(site: Site) -> None:
    client = Client(headers={"Host": "inner"})
    client.force_login(User.objects.get(email="owner@example.com"))
    for path in ("/docs/", f"/channels/{site.channel.id}/connect/"):
        page = client.get(path).content.decode()
        assert f"{PUBLIC}/api/chat" in page
        assert "http://inner" not in page


def test_without_one_links_are_the_requests_own() -> None:
    assert "http://testserver/api/chat" in Client().get("/docs/").content.decode()
