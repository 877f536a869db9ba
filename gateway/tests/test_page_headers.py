"""The headers of every page and the paths in the log, whatever the response."""

from __future__ import annotations

import pytest
from django.test import RequestFactory

from channels.tests.factories import Site
from common.logs import path_for_log
from tests.support.clients import owner_client

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "path",
    ["/", "/conversations/", "/credits/", "/credits/export.csv", "/team/", "/no/such/", "/admin/"],
)
def test_no_cache_keeps_a_page(path: str, site: Site) -> None:
    client = owner_client(site)
    response = client.get(path)
    assert "no-store" in response["Cache-Control"]
    assert "unsafe" not in response["Content-Security-Policy"]
    assert "script-src 'self';" in response["Content-Security-Policy"]
    assert "default-src 'none';" in response["Content-Security-Policy"]
    assert response["X-Frame-Options"] == "DENY"
    assert response["Referrer-Policy"] == "same-origin"


@pytest.mark.parametrize("day", ["9999-12-31", "0001-01-01"])
@pytest.mark.parametrize(
    "path",
    [
        "/conversations/?first={0}&last={0}",
        "/conversations/export.csv?first={0}&last={0}",
        "/usage/?range=own&first={0}&last={0}",
        "/credits/?first_day={0}&last_day={0}",
        "/credits/export.csv?first_day={0}&last_day={0}",
    ],
)
def test_a_day_at_the_end_of_time_is_no_fault(path: str, day: str, site: Site) -> None:
    client = owner_client(site)
    response = client.get(path.format(day))
    assert response.status_code < 500
    assert b"".join(response) is not None


@pytest.mark.parametrize(
    "path",
    [
        "/join/S3CRET",
        "/join/S3CRET/",
        "//join/S3CRET/",
        "/accounts/confirm-email/S3CRET",
        "/accounts/password/reset/key/1-S3CRET",
        "/accounts/password/reset/key/1-S3CRET/",
    ],
)
def test_the_log_has_no_mailed_secret_even_unresolved(path: str) -> None:
    request = RequestFactory().get("/")
    request.path = path
    assert "S3CRET" not in path_for_log(request)


def test_the_log_keeps_the_paths_without_a_secret() -> None:
    for path in ("/join/accept/", "/join/log-out/", "/accounts/password/reset/key/done/"):
        request = RequestFactory().get(path)
        assert path_for_log(request) == path
