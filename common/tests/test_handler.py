"""The API's shorter path through the WSGI handler: what it skips, and what it must not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core import signals
from django.db import connection
from django.test import RequestFactory

from channels.tests.factories import Site
from common.api.base import Handler
from server.answers import close
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db(transaction=True)

CHAT = {"message": "Hello", "session_id": "visitor-1"}


class Answer:
    """The response a server receives when it calls the handler."""

    def __init__(self, path: str, key: str = "", **body: Any) -> None:
        make: Any = RequestFactory()
        headers = {"X-API-Key": key}
        self.status = ""
        environ = (
            make.post(path, body, content_type="application/json", headers=headers)
            if body
            else make.get(path, headers=headers)
        ).environ
        self.body: Any = Handler()(environ, self._start)

    def _start(self, status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
        self.status, self.headers = status, dict(headers)


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """Django's signals for a request's start and end."""
    said: list[str] = []

    def start(**_: Any) -> None:
        said.append("started")

    def finish(**_: Any) -> None:
        said.append("finished")

    signals.request_started.connect(start)
    signals.request_finished.connect(finish)
    yield said
    signals.request_started.disconnect(start)
    signals.request_finished.disconnect(finish)


def test_an_answer_of_the_api_is_whole_and_needs_no_closing(
    site: Site, provider: FakeProvider, heard: list[str]
) -> None:
    answer = Answer("/api/chat", site.api_key, **CHAT)
    assert answer.status == "200 OK"
    assert isinstance(answer.body, list)
    assert answer.headers["Content-Length"] == str(len(b"".join(answer.body)))
    assert answer.headers["X-Request-Id"].startswith("req_")
    assert heard == []


def test_a_stream_is_passed_on_and_closed_by_the_server(site: Site, provider: FakeProvider) -> None:
    answer = Answer("/api/chat", site.api_key, **CHAT, stream=True)
    assert b"".join(answer.body).count(b"event: done") == 1
    close(answer.body)
    assert answer.body.closed


@pytest.mark.parametrize("path", ["/accounts/login/", "/readyz"])
def test_pages_and_probes_go_djangos_way(path: str, heard: list[str]) -> None:
    answer = Answer(path)
    close(answer.body)
    assert answer.status == "200 OK"
    assert heard == ["started", "finished"]


def test_pages_set_cookies() -> None:
    assert "csrftoken" in Answer("/accounts/login/").headers["Set-Cookie"]


def test_a_crash_in_the_api_is_still_json(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*args: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("common.api.base.ApiView.finalize_response", crash)
    answer = Answer("/api/key", site.api_key)
    assert answer.status == "500 Internal Server Error"
    assert b'"internal_error"' in answer.body[0]


def test_an_unusable_connection_does_not_outlive_its_request(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.ensure_connection()
    connection.errors_occurred = True
    monkeypatch.setattr(connection, "is_usable", lambda: False)
    Answer("/api/nope")
    assert connection.connection is None


def test_a_connection_goes_back_to_the_pool_and_stays_open_on_sqlite(site: Site) -> None:
    assert Answer("/api/key", site.api_key).status == "200 OK"
    assert (connection.connection is None) is (connection.vendor == "postgresql")
