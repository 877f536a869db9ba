"""POST /v1/responses: refuses by name every wrong field, and everything that needs stored state."""

from __future__ import annotations

from typing import Any

import pytest

from channels.tests.factories import Site
from conversations.tests.test_openai import MODEL, assert_error
from conversations.tests.test_responses import CALLED, HELLO, RESULT, WEATHER, respond
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db

BAD: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": ""}, "model"),
    ({"model": "a\x00b"}, "model"),
    ({"store": True}, "store"),
    ({"store": 0}, "store"),
    ({"background": True}, "background"),
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"conversation": {"id": "conv_1"}}, "conversation"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    ({"truncation": "auto"}, "truncation"),
    ({"service_tier": "priority"}, "service_tier"),
    ({"max_tool_calls": 1}, "max_tool_calls"),
    ({"n": 1}, "n"),
    ({"messages": [HELLO]}, "messages"),
    ({"x" * 70: 1}, "x" * 64),
    ({"include": "reasoning.encrypted_content"}, "include"),
    ({"include": ["file_search_call.results"]}, "include"),
    ({"instructions": [HELLO]}, "instructions"),
    ({"instructions": "a\x00b"}, "instructions"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"max_output_tokens": True}, "max_output_tokens"),
    ({"temperature": 2.1}, "temperature"),
    ({"top_p": "x"}, "top_p"),
    ({"top_logprobs": 21}, "top_logprobs"),
    ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": []}, "stream_options"),
    ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    ({"stream_options": {"x": 1}}, "stream_options.x"),
    ({"user": 5}, "user"),
    ({"metadata": {"a": 1}}, "metadata"),
    ({"metadata": {"a" * 65: "1"}}, "metadata"),
    ({"text": "json"}, "text"),
    ({"text": {"verbosity": "x"}}, "text.verbosity"),
    ({"text": {"format": "json"}}, "text.format"),
    ({"text": {"format": {"type": "xml"}}}, "text.format"),
    ({"text": {"format": {"type": "text", "x": 1}}}, "text.format.x"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
    ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
    ({"reasoning": "high"}, "reasoning"),
    ({"reasoning": {"effort": 5}}, "reasoning.effort"),
    ({"reasoning": {"context": "all"}}, "reasoning.context"),
    ({"tools": {}}, "tools"),
    ({"tools": ["x"]}, "tools[0]"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [WEATHER, {"type": "mcp", "server_url": "https://a.test"}]}, "tools[1].type"),
    ({"tools": [{"type": ["function"]}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].name"),
    ({"tools": [WEATHER | {"parameters": 1}]}, "tools[0].parameters"),
    ({"tools": [WEATHER | {"defer_loading": True}]}, "tools[0].defer_loading"),
    ({"tool_choice": "maybe"}, "tool_choice"),
    ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
    ({"input": None}, "input"),
    ({"input": []}, "input"),
    ({"input": {}}, "input"),
    ({"input": "a\x00b"}, "input"),
    ({"input": ["Hello"]}, "input[0]"),
    ({"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}, "input"),
    ({"input": [HELLO, {"type": "item_reference", "id": "msg_1"}]}, "input[1]"),
    ({"input": [{"id": "msg_1"}]}, "input[0]"),
    ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "input[0].type"),
    ({"input": [{"type": ["message"]}]}, "input[0].type"),
    ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
    ({"input": [{"content": "x"}]}, "input[0].role"),
    ({"input": [{"role": "user"}]}, "input[0].content"),
    ({"input": [{"role": "user", "content": []}]}, "input[0].content"),
    ({"input": [{"role": "user", "content": "a\x00b"}]}, "input[0]"),
    ({"input": [HELLO | {"phase": "commentary"}]}, "input[0].phase"),
    ({"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
     "input[0].content[0]"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
     "input[0].content[0].image_url"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "x"}]}]},
     "input[0].content[0].file_id"),
    ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0]"),
    ({"input": [{"role": "developer", "content": [{"type": "input_image"}]}]},
     "input[0].content[0]"),
    ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "x", "y": 1}]}]},
     "input[0].content[0].y"),
    ({"input": [CALLED | {"call_id": None}]}, "input[0].call_id"),
    ({"input": [CALLED | {"arguments": {}}]}, "input[0].arguments"),
    ({"input": [CALLED | {"namespace": "x"}]}, "input[0].namespace"),
    ({"input": [RESULT | {"call_id": 5}]}, "input[0].call_id"),
    ({"input": [RESULT | {"output": {}}]}, "input[0].output"),
    ({"input": [RESULT | {"output": [{"type": "input_file", "file_id": "x"}]}]},
     "input[0].output[0]"),
    ({"input": [{"type": "reasoning", "content": "x"}]}, "input[0].content"),
    ({"input": [{"type": "reasoning", "content": [{}]}]}, "input[0].content"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "param"), BAD)
def test_wrong_fields_are_400_with_their_param(
    api: ApiClient, provider: FakeProvider, more: dict[str, Any], param: str
) -> None:
    given = more.pop("input", "Hello!") if "input" in more else "Hello!"
    message = assert_error(respond(api, given, **more), 400, "invalid_request", param)
    assert message.startswith(f"'{param}': ")
    assert provider.requests == []


def test_an_item_reference_says_how_to_send_the_text(api: ApiClient) -> None:
    response = respond(api, [HELLO, {"type": "item_reference", "id": "msg_1"}])
    message = assert_error(response, 400, "invalid_request", "input[1]")
    assert "providerOptions.openai.store: false" in message


@pytest.mark.parametrize("name", ["store", "previous_response_id", "conversation"])
def test_what_needs_a_memory_is_refused_with_the_reason(api: ApiClient, name: str) -> None:
    response = respond(api, **{name: True})
    assert "stores no conversation" in assert_error(response, 400, "invalid_request", name)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ('{"model": "m", "input": [{"role": "user", "content": "\\ud800"}]}', "input[0]"),
        ('{"model": "m", "input": "\\ud800"}', "input"),
        ('{"model": "\\udc00", "input": "x"}', "model"),
        ('{"model": "m", "input": "x", "\\udc00": 1}', "body"),
        ('{"model": "m", "input": [{"type": "\\udc00"}]}', "input[0]"),
        ('{"model": "m", "input": "x", "tools": [{"type": "\\udc00"}]}', "tools"),
        ('{"model": "m", "input": "x", "text": {"\\udc00": 1}}', "text"),
        ("[]", None),
        ("{", None),
        ("[" * 100_000, None),
    ],
)
def test_what_is_no_text_is_400(api: ApiClient, body: str, param: str | None) -> None:
    assert_error(api.post("/v1/responses", body), 400, "invalid_request", param)


def test_deep_nesting_is_400(api: ApiClient) -> None:
    deep = '{"a":' * 500 + "1" + "}" * 500
    body = f'{{"model": "{MODEL}", "input": [{{"role": "user", "content": {deep}}}]}}'
    assert_error(api.post("/v1/responses", body), 400, "invalid_request", "input[0]")


def test_input_beyond_the_window_is_400(api: ApiClient, provider: FakeProvider) -> None:
    response = respond(api, "x" * 40_000, model="gemma2-9b-it")
    assert "8,192" in assert_error(response, 400, "context_length_exceeded", "input")
    assert provider.requests == []


def test_what_never_gets_so_far_has_the_shape_too(api: ApiClient, site: Site) -> None:
    assert_error(api.get("/v1/responses"), 405, "method_not_allowed")
    assert_error(api.get("/v1/responses/resp_1"), 404, "not_found")
    assert_error(respond(ApiClient()), 401, "missing_api_key")
    assert_error(respond(ApiClient("x")), 401, "invalid_api_key")
    assert_error(respond(api, model="gpt-4o"), 404, "model_not_found", "model")
    assert_error(respond(api, "x" * 1024 * 1024), 413, "payload_too_large")
    text = api.client.post("/v1/responses", b"{}", content_type="text/plain", headers=api.headers)
    assert_error(text, 415, "unsupported_media_type")
    site.channel.is_enabled = False
    site.channel.save()
    assert_error(respond(api), 403, "site_disabled")
