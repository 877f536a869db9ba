"""What stays in memory: nothing of an answered request, and only the payload of a waiting call."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from django.http.response import HttpResponseBase
from django.test import RequestFactory
from rest_framework.request import Request
from rest_framework.views import APIView

from channels.providers.base import ChatRequest
from channels.providers.openai_compatible import OpenAiCompatibleProvider
from channels.tests.factories import Site
from common.api.base import Handler
from server.answers import close
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db(transaction=True)

CHAT = {"message": "Hello", "session_id": "visitor-1"}


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    ("method", "path", "fields", "status"),
    [
        ("POST", "/api/chat", CHAT, "200"),
        ("POST", "/api/chat", CHAT | {"stream": True}, "200"),
        ("POST", "/api/chat", {}, "400"),
        ("GET", "/api/history?session_id=visitor-1", None, "200"),
        ("GET", "/v1/models", None, "200"),
    ],
)
def test_an_answered_request_is_freed_without_the_collector(
    site: Site,
    provider: FakeProvider,
    no_collector: None,
    method: str,
    path: str,
    fields: dict[str, Any] | None,
    status: str,
) -> None:
    serve(site, "POST", "/api/chat", CHAT)  # creates a history
    before = alive()
    assert serve(site, method, path, fields).startswith(status)
    assert [one for one in alive() if one not in before] == []


def serve(site: Site, method: str, path: str, fields: dict[str, Any] | None) -> str:
    """Call the application as a server does, and return the status line."""
    headers = {"X-API-Key": site.api_key, "Authorization": f"Bearer {site.api_key}"}
    if path.startswith("/api"):
        del headers["Authorization"]
    environ = (
        RequestFactory()
        .generic(
            method,
            path,
            orjson.dumps(fields) if fields is not None else b"",
            content_type="application/json",
            headers=headers,
        )
        .environ
    )
    told: list[str] = []

    def start_response(line: str, *_: Any) -> Any:
        told.append(line)

    response: Any = Handler()(environ, start_response)
    assert b"".join(response)
    close(response)
    return told[0]


def alive() -> set[tuple[type, int]]:
    kinds = (HttpResponseBase, APIView, Request)
    return {(type(one), id(one)) for one in gc.get_objects() if isinstance(one, kinds)}


def test_a_call_holds_no_more_than_it_sends() -> None:
    request = ChatRequest(
        messages=[{"role": "user", "content": "x" * 10_000}], max_output_tokens=100
    )
    provider = OpenAiCompatibleProvider(
        provider_name="Shop",
        base_url="https://example.com/v1",
        read_key=lambda: "key",
        provider_model="model",
        allow_private=False,
    )
    provider._payload(request)
    tracemalloc.start()
    try:
        sent = provider._payload(request)
        assert tracemalloc.get_traced_memory()[0] < len(sent.body) + 2_000
    finally:
        tracemalloc.stop()
