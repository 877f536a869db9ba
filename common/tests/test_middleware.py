"""Every answer has a request id, the API has no cookies, and pages keep Django's features."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import Client, RequestFactory
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from common.api.base import ApiMiddleware, RequestMiddleware, is_api_request
from common.logs import JsonFormatter, request_id_var
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider

API_PATHS = ["/api/chat", "/api/key", "/api/schema", "/api/nope", "/v1/nope", "/healthz", "/readyz"]
PAGE_PATHS = ["/admin/login/", "/nope", "/"]
NEAR_MISSES = ["/apis/", "/API/key", "/v10/x", "/healthz/x", "/x/api/"]

pytestmark = pytest.mark.django_db


def names_of_cookies(response: Any) -> set[str]:
    return set(response.cookies)


# --- Request ids ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", API_PATHS + PAGE_PATHS)
def test_every_answer_has_a_request_id(path: str) -> None:
    client = Client()
    made = client.get(path)["X-Request-Id"]
    assert made.startswith("req_")
    assert client.get(path)["X-Request-Id"] != made
    assert client.get(path, headers={"X-Request-Id": "mine-1"})["X-Request-Id"] == "mine-1"


def id_for(sent: str | None) -> str:
    """Return the id of the answer to a request with this header."""
    headers = {} if sent is None else {"X-Request-Id": sent}
    request = RequestFactory().get("/api/x", headers=headers)
    return RequestMiddleware(lambda request: HttpResponse())(request)["X-Request-Id"]


@given(st.from_regex(r"[A-Za-z0-9_.:-]{1,128}", fullmatch=True))
def test_a_well_formed_request_id_is_kept(sent: str) -> None:
    assert id_for(sent) == sent


@pytest.mark.parametrize(
    "sent",
    [
        None, "", " ", "a b", "a\n", "\na", "a\r\nX-Evil: 1", "\x1b[31m", "\x9b31m", "é", "\uff41",
        "a" * 129, "a\x00", "a/b", "a,b", "<script>", "a\u2028b",
    ],
)  # fmt: skip
def test_any_other_request_id_is_replaced(sent: str | None) -> None:
    assert re.fullmatch(r"req_[0-9a-f]{24}", id_for(sent))


def test_made_request_ids_differ() -> None:
    assert len({id_for(None) for _ in range(1_000)}) == 1_000


def test_a_crash_has_a_request_id_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("gateway.health._probe", crash)
    response = Client(raise_request_exception=False).get("/readyz", headers={"X-Request-Id": "r1"})
    assert (response.status_code, response["X-Request-Id"]) == (500, "r1")
    assert response.json()["request_id"] == "r1"


@pytest.mark.parametrize("sent", ["a\r\nX-Evil: 1", "\x1b[31mred", "a\nb"])
def test_a_request_id_cannot_forge_headers_or_log_lines(sent: str) -> None:
    response = Client().get("/api/nope", headers={"X-Request-Id": sent})
    assert response["X-Request-Id"].startswith("req_")
    assert "X-Evil" not in response.headers


def test_the_id_is_known_while_the_request_runs_and_forgotten_after_it() -> None:
    seen = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(request_id_var.get())
        return HttpResponse()

    RequestMiddleware(view)(RequestFactory().get("/", headers={"X-Request-Id": "r1"}))
    assert seen == ["r1"]
    assert request_id_var.get() == ""


# --- Cookies, sessions, CSRF ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "is_api"),
    [(path, True) for path in API_PATHS] + [(path, False) for path in PAGE_PATHS + NEAR_MISSES],
)
def test_tells_the_api_from_pages(path: str, is_api: bool) -> None:
    assert is_api_request(RequestFactory().get(path)) is is_api


@pytest.mark.parametrize("path", API_PATHS + PAGE_PATHS)
def test_only_pages_reach_the_middlewares_behind(path: str) -> None:
    def behind(request: HttpRequest) -> HttpResponse:
        return HttpResponse("page")

    response: Any = ApiMiddleware(behind)(RequestFactory().get(path))
    assert (response.content == b"page") is (path in PAGE_PATHS)


@pytest.mark.parametrize("path", API_PATHS)
def test_the_api_sets_no_cookie_and_reads_none(
    path: str, django_assert_num_queries: Any, admin_client: Client
) -> None:
    # The browser sends its session cookie along; the gateway does not look it up.
    response = admin_client.get(path)
    assert names_of_cookies(response) == set()
    assert "Vary" not in response.headers
    if path != "/readyz":  # the readiness probe queries the database itself
        with django_assert_num_queries(0):
            admin_client.get(path)


def test_a_chat_needs_no_csrf_token_and_sets_no_cookie(
    api: ApiClient, provider: FakeProvider
) -> None:
    api.client = Client(enforce_csrf_checks=True)
    response = api.chat()
    assert (response.status_code, names_of_cookies(response)) == (200, set())


def test_pages_keep_csrf_protection() -> None:
    client = Client(enforce_csrf_checks=True)
    form = client.get("/accounts/login/")
    assert "csrftoken" in names_of_cookies(form)
    body = {"login": "a@example.com", "password": "x"}
    assert client.post("/accounts/login/", body).status_code == 403
    body["csrfmiddlewaretoken"] = client.cookies["csrftoken"].value
    assert client.post("/accounts/login/", body).status_code == 200


def test_pages_keep_sessions(admin_client: Client) -> None:
    assert admin_client.get("/admin/").status_code == 200
    assert Client().get("/admin/").status_code == 302


def test_pages_keep_slash_redirects() -> None:
    response = Client().get("/admin")
    assert (response.status_code, response["Location"]) == (301, "/admin/")


# --- Headers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", API_PATHS)
def test_api_answers_carry_strict_headers(path: str) -> None:
    response = Client().get(path)
    assert response["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Cache-Control"] == "no-store"
    assert response["Content-Length"] == str(len(response.content))


def test_pages_carry_the_headers_of_pages() -> None:
    response = Client().get("/admin/login/")
    assert response["X-Frame-Options"] == "DENY"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Referrer-Policy"] == "same-origin"
    assert response["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "no-store" in response["Cache-Control"]


def test_an_empty_answer_declares_no_length(api: ApiClient) -> None:
    """RFC 9110, 8.6: no Content-Length with a 204."""
    response = api.erase()
    assert response.status_code == 204
    assert "Content-Length" not in response.headers


def test_a_views_own_headers_and_streams_are_left_alone() -> None:
    def view(request: HttpRequest) -> StreamingHttpResponse:
        return StreamingHttpResponse([b"a", b"b"], headers={"Cache-Control": "no-cache"})

    response = RequestMiddleware(view)(RequestFactory().get("/api/chat"))
    assert response["Cache-Control"] == "no-cache"
    assert "Content-Length" not in response.headers


# --- The access line ------------------------------------------------------------------------------


@pytest.fixture
def access(settings: Settings, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="gateway.access")
    return caplog


def test_a_request_is_one_line_with_its_outcome(
    api: ApiClient, provider: FakeProvider, access: pytest.LogCaptureFixture
) -> None:
    api.chat("a private message", headers={"X-Request-Id": "r1"})
    (record,) = [r for r in access.records if r.name == "gateway.access"]
    fields = vars(record)
    assert record.getMessage() == "http.request.finished"
    assert (fields["method"], fields["path"], fields["status"]) == ("POST", "/api/chat", 200)
    assert fields["duration_ms"] >= 0
    line = JsonFormatter().format(record)
    assert json.loads(line)["key"].startswith("amgai_…")
    assert "a private message" not in line
    assert api.headers["X-API-Key"] not in line


def test_a_query_string_is_not_logged(access: pytest.LogCaptureFixture) -> None:
    Client().get("/api/history?session_id=private&api_key=private")
    assert "private" not in "".join(JsonFormatter().format(r) for r in access.records)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_are_not_logged(path: str, access: pytest.LogCaptureFixture) -> None:
    Client().get(path)
    assert not [r for r in access.records if r.name == "gateway.access"]
