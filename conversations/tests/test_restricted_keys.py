"""A key works only from its address ranges and for its models, on every endpoint."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.urls import get_resolver

from billing.models import RateWindow
from billing.throttling import CountedKey
from channels import callers, key_uses
from channels.models import ApiKey, KeyUse
from channels.tests.factories import Site
from gateway.tests.test_policies import flatten
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db

OUTSIDE, INSIDE = "198.51.100.7", "203.0.113.7"
RANGE = "203.0.113.0/24"
ASKED: list[tuple[str, str, Any]] = [
    ("POST", "/api/chat", {"message": "Hi", "session_id": "s"}),
    ("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
    ("POST", "/v1/responses", {"input": "Hi"}),
]
READ = [
    ("GET", "/api/history?session_id=s", None),
    ("DELETE", "/api/history?session_id=s", None),
    ("GET", "/api/key", None),
    ("GET", "/api/models", None),
    ("GET", "/api/usage", None),
    ("GET", "/api/usage/00000000-0000-0000-0000-000000000000", None),
    ("GET", "/v1/models", None),
    ("GET", "/v1/models/llama-3.3-70b-versatile", None),
]


def restrict(site: Site, **columns: str) -> None:
    ApiKey.objects.filter(channel=site.channel).update(**columns)


def call(site: Site, method: str, path: str, body: Any, address: str = OUTSIDE) -> Any:
    client = ApiClient(site.api_key)
    if path.startswith("/v1") and body is not None:
        body = {"model": site.channel.model.model_id} | body
    return client.client.generic(
        method,
        path,
        b"" if body is None else json.dumps(body),
        content_type="application/json",
        headers=client.headers,
        REMOTE_ADDR=address,
    )


def assert_not_allowed(answer: Any, *words: str) -> None:
    assert answer.status_code == 403, answer.content
    error = answer.json()
    if isinstance(error["error"], dict):
        error = error["error"]
        assert answer["X-Should-Retry"] == "false"
    assert error["code"] == "not_allowed"
    for word in words:
        assert word in answer.content.decode()
    assert answer["X-RateLimit-Limit"]


@pytest.mark.parametrize(("method", "path", "body"), ASKED + READ)
def test_no_endpoint_takes_a_key_from_outside_its_ranges(
    site: Site, provider: FakeProvider, method: str, path: str, body: Any
) -> None:
    restrict(site, allowed_addresses=f"2001:db8::/32\n{RANGE}")
    for _ in range(2):  # unknown to the process, then known
        assert_not_allowed(call(site, method, path, body), OUTSIDE)
    assert not RateWindow.objects.exists()
    assert call(site, method, path, body, INSIDE).status_code in (200, 204, 404)
    assert_not_allowed(call(site, method, path, body), OUTSIDE)
    assert RateWindow.objects.get().total == 1


def test_these_are_all_endpoints_that_take_a_key() -> None:
    with_key = {
        str(pattern.name)
        for pattern in flatten(get_resolver().url_patterns)
        if CountedKey
        in getattr(getattr(pattern.callback, "cls", None), "authentication_classes", ())
    }
    assert len(with_key) == len({path.partition("?")[0] for _, path, _ in ASKED + READ}), with_key


@pytest.mark.parametrize(("method", "path", "body"), ASKED)
def test_a_key_without_the_channels_model_does_not_chat_but_reads(
    site: Site, provider: FakeProvider, method: str, path: str, body: Any
) -> None:
    restrict(site, allowed_models="gemma2-9b-it\nmixtral-8x7b-32768")
    model = site.channel.model.model_id
    for _ in range(2):
        assert_not_allowed(call(site, method, path, body), model)
    assert not provider.requests
    for read in READ[:-1]:
        assert call(site, *read).status_code in (200, 204, 404)
    restrict(site, allowed_models=f"gemma2-9b-it\n{model}")
    assert call(site, method, path, body).status_code == 200


def test_under_v1_a_key_uses_and_lists_its_own_models_alone(
    site: Site, provider: FakeProvider
) -> None:
    restrict(site, allowed_models="gemma2-9b-it")
    asked = {"messages": [{"role": "user", "content": "Hi"}]}
    path = "/v1/chat/completions"
    assert call(site, "POST", path, asked | {"model": "gemma2-9b-it"}).status_code == 200
    unknown = call(site, "POST", path, asked | {"model": "gpt-none"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert_not_allowed(call(site, "POST", path, asked | {"model": "mixtral-8x7b-32768"}))
    assert_not_allowed(call(site, "GET", "/v1/models/mixtral-8x7b-32768", None))
    listed = call(site, "GET", "/v1/models", None).json()["data"]
    assert [model["id"] for model in listed] == ["gemma2-9b-it"]


def test_a_switched_off_channel_comes_before_the_restrictions(site: Site) -> None:
    restrict(site, allowed_addresses=RANGE)
    site.channel.is_enabled = False
    site.channel.save()
    assert call(site, "GET", "/api/key", None).json()["code"] == "site_disabled"


def test_whoever_found_a_restricted_key_cannot_use_up_its_minute(
    site: Site, provider: FakeProvider
) -> None:
    site.channel.requests_per_minute = 2
    site.channel.save()
    restrict(site, allowed_addresses=RANGE)
    for _ in range(5):
        assert_not_allowed(call(site, *ASKED[0]))
    answers = [call(site, *ASKED[0], INSIDE).status_code for _ in range(3)]
    assert answers == [200, 200, 429]
    assert_not_allowed(call(site, *ASKED[0]))


def test_the_address_is_the_one_that_the_trusted_proxy_saw(
    site: Site, settings: Any, provider: FakeProvider
) -> None:
    settings.TRUSTED_PROXY_COUNT = 1
    restrict(site, allowed_addresses=RANGE)
    api = ApiClient(site.api_key)
    assert api.get("/api/key", **{"X-Forwarded-For": f"{OUTSIDE}, {INSIDE}"}).status_code == 200
    assert_not_allowed(api.get("/api/key", **{"X-Forwarded-For": f"{INSIDE}, {OUTSIDE}"}))


@pytest.mark.parametrize("stored", ["nonsense", "\n", "10.0.0.0/8; DROP"])
def test_damaged_ranges_allow_nothing(site: Site, stored: str) -> None:
    restrict(site, allowed_addresses=stored)
    callers._kept.clear()
    assert_not_allowed(call(site, "GET", "/api/key", None))


def test_an_address_that_is_unknown_is_in_no_range(site: Site) -> None:
    restrict(site, allowed_addresses="0.0.0.0/0\n::/0")
    assert call(site, "GET", "/api/key", None).status_code == 200
    assert_not_allowed(call(site, "GET", "/api/key", None, ""), "unknown address")


def test_an_owner_may_write_what_the_visitor_sees_then(site: Site) -> None:
    site.channel.fallback_replies = {"not_allowed": "Please write to us."}
    site.channel.save()
    restrict(site, allowed_addresses=RANGE)
    assert call(site, *ASKED[0]).json()["fallback_reply"] == "Please write to us."


def test_the_key_describes_its_name_and_models(site: Site) -> None:
    key = ApiClient(site.api_key).get("/api/key").json()["key"]
    assert (key["name"], key["allowed_models"]) == ("", None)
    restrict(site, name="Shop", allowed_models="mixtral-8x7b-32768\ngemma2-9b-it")
    key = ApiClient(site.api_key).get("/api/key").json()["key"]
    assert key["name"] == "Shop"
    assert key["allowed_models"] == ["gemma2-9b-it", "mixtral-8x7b-32768"]


def test_a_refused_request_is_no_use_of_the_key(site: Site) -> None:
    restrict(site, allowed_addresses=RANGE)
    call(site, "GET", "/api/key", None)
    key_uses.write_all()
    assert not KeyUse.objects.exists()
