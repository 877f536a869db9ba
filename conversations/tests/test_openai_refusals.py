"""POST /v1/chat/completions: every wrong field, and requests that are refused before that check."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from django.test import Client

from channels.models import Provider, Route
from channels.tests.factories import Site
from conversations.tests.test_openai import CALL, HELLO, MODEL, assert_error, complete
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db


USER = {"role": "user", "content": "Hi"}
IMAGE = "messages[0].content[0]"
BAD: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": 5}, "model"),
    ({"model": "a\x00b"}, "model"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "Hello"}, "messages"),
    ({"messages": [USER, "Hello"]}, "messages[1]"),
    ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, IMAGE + ".image_url"),
    ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, IMAGE),
    ({"messages": [{"role": "tool", "content": [{"type": "image_url"}]}]}, IMAGE),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, IMAGE + ".text"),
    ({"messages": [{"role": ["user"], "content": ["x"]}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": "a\x00b"}]}, "messages[0]"),
    ({"messages": [USER | {"name": 5}]}, "messages[0].name"),
    ({"messages": [USER | {"tool_calls": [CALL]}]}, "messages[0].tool_calls"),
    ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"temperature": 2.1}, "temperature"),
    ({"top_p": -1}, "top_p"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_completion_tokens": True}, "max_completion_tokens"),
    ({"stop": ["a"] * 5}, "stop"),
    ({"stop": 5}, "stop"),
    ({"seed": 2**63}, "seed"),
    ({"response_format": {"type": "xml"}}, "response_format"),
    ({"response_format": {"type": "json_schema"}}, "response_format"),
    ({"tools": [{"type": "function"}]}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "\x00"}}]}, "tools"),
    ({"tool_choice": "maybe"}, "tool_choice"),
    ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
    ({"n": 2}, "n"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": []}, "stream_options"),
    ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
]


@pytest.mark.parametrize(("more", "param"), BAD)
def test_wrong_fields_are_400_with_their_param(
    api: ApiClient, provider: FakeProvider, more: dict[str, Any], param: str
) -> None:
    message = assert_error(complete(api, **more), 400, "invalid_request", param)
    assert message.startswith(f"'{param}': Must")
    assert provider.requests == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ('{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}', "messages[0]"),
        ('{"model": "\\udc00", "messages": [{"role": "user", "content": "x"}]}', "model"),
        ("[]", None),
        ("{", None),
        ("[" * 100_000, None),
    ],
)
def test_what_is_no_text_is_400(api: ApiClient, body: str, param: str | None) -> None:
    response = api.post("/v1/chat/completions", body)
    assert_error(response, 400, "invalid_request", param)


def test_deep_nesting_is_400(api: ApiClient) -> None:
    deep = '{"a":' * 500 + "1" + "}" * 500
    body = f'{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "x"}}], "tools": '
    body += f'[{{"type": "function", "function": {{"name": "f", "parameters": {deep}}}}}]}}'
    assert_error(api.post("/v1/chat/completions", body), 400, "invalid_request", "tools")


def test_a_backslash_before_u0000_is_no_nul(api: ApiClient, provider: FakeProvider) -> None:
    assert complete(api, [{"role": "user", "content": "\\u0000"}]).status_code == 200


def test_messages_beyond_the_window_are_400(api: ApiClient, provider: FakeProvider) -> None:
    long = [{"role": "user", "content": "x" * 40_000}]
    response = complete(api, long, model="gemma2-9b-it")
    message = assert_error(response, 400, "context_length_exceeded", "messages")
    assert "8,192" in message
    assert provider.requests == []
    assert complete(api, long).status_code == 200


def test_a_body_may_have_one_mebibyte(api: ApiClient, provider: FakeProvider) -> None:
    def body(size: int) -> str:
        text = orjson.dumps({"model": MODEL, "messages": HELLO, "user": ""}).decode()
        return text.replace('"user":""', f'"user":"{"x" * (size - len(text))}"')

    assert api.post("/v1/chat/completions", body(1024 * 1024)).status_code == 200
    response = api.post("/v1/chat/completions", body(1024 * 1024 + 1))
    assert_error(response, 413, "payload_too_large")


def test_what_django_itself_refuses_has_the_shape_too(api: ApiClient, site: Site) -> None:
    assert_error(Client().get("/v1/nope"), 404, "not_found")
    assert_error(Client().get("/v1/chat/completions"), 405, "method_not_allowed")
    assert_error(ApiClient().post("/v1/chat/completions", {}), 401, "missing_api_key")
    assert_error(ApiClient("x").get("/v1/models"), 401, "invalid_api_key")
    endless = Client().post(
        "/v1/chat/completions", {}, content_type="application/json", CONTENT_LENGTH=""
    )
    assert_error(endless, 411, "length_required")
    coded = Client().post(
        "/v1/chat/completions", {}, content_type="application/json", HTTP_TRANSFER_ENCODING="gzip"
    )
    assert_error(coded, 400, "invalid_request")
    text = api.client.post(
        "/v1/chat/completions", b"{}", content_type="text/plain", headers=api.headers
    )
    assert_error(text, 415, "unsupported_media_type")
    site.channel.is_enabled = False
    site.channel.save()
    assert_error(complete(api), 403, "site_disabled")


def test_no_route_at_all_is_502(api: ApiClient) -> None:
    Provider.objects.update(is_enabled=False)
    Provider.objects.create(name="other", base_url="https://other.example/v1")
    Route.objects.all().delete()
    assert_error(complete(api), 502, "provider_error")
