"""Walks the public API contract: every error, its shape, its headers, and the order of checks."""

from __future__ import annotations

import io
import ipaddress
import json
import uuid
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from channels import api_keys
from channels.authentication import checksum, generate_key
from channels.models import ApiKey
from channels.tests.factories import Site, make_site
from conversations.models import Message
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db


def assert_error(response: Any, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    assert response["Content-Type"] == "application/json"
    assert body["request_id"] == response["X-Request-Id"]
    assert body["error"][0].isupper()
    assert body["error"].endswith((".", "header."))
    if status in (409, 429, 503):
        assert int(response["Retry-After"]) == body["retry_after"] >= 1
    return body


# --- Paths, methods, sizes ------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/", "/api/nope", "/api/chat/more", "/api/chat//"])
def test_unknown_paths_are_json_404(path: str) -> None:
    assert_error(Client().get(path), 404, "not_found")


def test_pages_for_people_answer_in_html() -> None:
    response = Client().get("/nope")
    assert response.status_code == 404
    assert response["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete", "options", "head"])
def test_wrong_methods_are_405_before_the_key_is_looked_at(method: str) -> None:
    response = getattr(Client(), method)("/api/chat")
    assert response.status_code == 405
    assert response["Allow"] == "POST"
    if method != "head":
        assert_error(response, 405, "method_not_allowed")


def test_head_reads_history(api: ApiClient) -> None:
    response = api.client.head("/api/history?session_id=s", headers=api.headers)
    assert response.status_code == 200


def test_a_body_that_declares_no_length_is_411_before_the_key_is_looked_at() -> None:
    response = Client().post("/api/chat", {}, content_type="application/json", CONTENT_LENGTH="")
    assert_error(response, 411, "length_required")


def chunked(api: ApiClient, body: bytes | io.BytesIO, coding: str = "chunked", **extra: Any) -> Any:
    """Post a body without a length, in the form in which the server passes on a chunked body."""
    return api.client.generic(
        "POST",
        "/api/chat",
        headers=api.headers,
        **{
            "CONTENT_TYPE": "application/json",
            "HTTP_TRANSFER_ENCODING": coding,
            "wsgi.input": body if isinstance(body, io.BytesIO) else io.BytesIO(body),
            **extra,
        },
    )


def test_a_chunked_body_is_taken(api: ApiClient, provider: FakeProvider) -> None:
    response = chunked(api, b'{"message": "Hi", "session_id": "s"}')
    assert response.status_code == 200
    assert len(provider.requests) == 1


def test_a_chunked_body_is_read_once_the_key_is_known_and_then_bounded(
    api: ApiClient, provider: FakeProvider
) -> None:
    fits = b'{"message": "Hi", "session_id": "s"}'.ljust(64 * 1024)
    assert_error(chunked(ApiClient(), fits + b" " * 10**6), 401, "missing_api_key")
    assert chunked(api, fits).status_code == 200
    body = io.BytesIO(fits + b" " * 10**6)
    response = chunked(api, body)
    assert_error(response, 413, "payload_too_large")
    assert response["X-RateLimit-Limit"]
    assert body.tell() == 64 * 1024 + 1


@pytest.mark.parametrize("coding", ["gzip, chunked", "chunked, chunked", "identity", "", "x"])
def test_another_coding_is_400_and_ends_the_connection_before_the_key_is_looked_at(
    coding: str,
) -> None:
    response = chunked(ApiClient(), b"{}", coding)
    assert_error(response, 400, "invalid_request")
    assert response["Connection"] == "close"


def test_two_lengths_are_400_and_end_the_connection(api: ApiClient) -> None:
    response = chunked(api, b"{}", CONTENT_LENGTH="2")
    assert_error(response, 400, "invalid_request")
    assert response["Connection"] == "close"


def test_a_body_that_ends_early_is_400(api: ApiClient) -> None:
    cut: dict[str, Any] = {"wsgi.input": io.BytesIO(b'{"message"'), "CONTENT_LENGTH": "40"}
    cut["CONTENT_TYPE"] = "application/json"
    response = api.client.generic("POST", "/api/chat", headers=api.headers, **cut)
    assert_error(response, 400, "invalid_request")


def test_a_large_body_is_413_before_the_key_is_looked_at_or_the_body_read() -> None:
    response = Client().post("/api/chat", b"x" * (64 * 1024 + 1), content_type="application/json")
    assert_error(response, 413, "payload_too_large")


def test_a_body_of_exactly_64_kib_is_taken(api: ApiClient, provider: FakeProvider) -> None:
    body = json.dumps({"message": "Hi", "session_id": "s", "pad": ""})
    body = body.replace('"pad": ""', f'"pad": "{"x" * (64 * 1024 - len(body))}"')
    assert len(body) == 64 * 1024
    assert api.post("/api/chat", body).status_code == 200


# --- Keys -----------------------------------------------------------------------------------------


def test_no_key_is_401() -> None:
    response = ApiClient().chat()
    assert_error(response, 401, "missing_api_key")
    assert response["WWW-Authenticate"].startswith("Bearer")
    assert "X-RateLimit-Limit" not in response


def test_a_key_in_the_query_string_is_never_read(site: Site) -> None:
    response = ApiClient().post(
        f"/api/chat?api_key={site.api_key}", {"message": "m", "session_id": "s"}
    )
    assert_error(response, 401, "missing_api_key")


def test_two_different_keys_are_401(site: Site, stranger: Site) -> None:
    response = ApiClient(site.api_key).chat(headers={"Authorization": f"Bearer {stranger.api_key}"})
    assert_error(response, 401, "invalid_api_key")


def malformed_keys() -> list[str]:
    good = generate_key(is_test=False)
    return [
        "x",
        good[:-1],
        good + "0",
        good[:-1] + ("a" if good[-1] != "a" else "b"),
        good.replace("amgai_", "amgaj_"),
        "amgai_" + checksum("amgai_"),
        good[:10] + "é" + good[11:],
        "' OR 1=1 --",
        "amgai_" + "0" * 42,
    ]


def test_wrong_shapes_are_refused_without_a_query(db: None, django_assert_num_queries: Any) -> None:
    for key in malformed_keys():
        with django_assert_num_queries(0):
            response = ApiClient(key).chat()
        assert_error(response, 401, "invalid_api_key")
        assert key not in response.content.decode() or len(key) < 3


def test_unknown_revoked_and_expired_keys_are_all_alike(site: Site, clock: Any) -> None:
    unknown = ApiClient(generate_key(is_test=False)).chat()
    record = ApiKey.objects.get(channel=site.channel, mode="live")
    api_keys.revoke_api_key(api_key=record)
    clock.shift(1)
    revoked = ApiClient(site.api_key).chat()
    ApiKey.objects.filter(id=record.id).update(revoked_at=None, expires_at=timezone.now())
    expired = ApiClient(site.api_key).chat()
    bodies = []
    for response in (unknown, revoked, expired):
        body = assert_error(response, 401, "invalid_api_key")
        bodies.append({k: v for k, v in body.items() if k != "request_id"})
    assert bodies[0] == bodies[1] == bodies[2]


def test_an_unknown_key_costs_one_query(db: None, django_assert_num_queries: Any) -> None:
    api = ApiClient(generate_key(is_test=False))
    with django_assert_num_queries(1):
        api.chat()


def test_an_address_that_keeps_guessing_is_told_to_wait(
    site: Site, settings: Any, provider: FakeProvider, clock: Any
) -> None:
    settings.FAILED_KEYS_PER_MINUTE = 3
    # An address that only this run uses, because Redis remembers longer than a test.
    settings.TRUSTED_PROXY_COUNT = 1
    address = {"X-Forwarded-For": str(ipaddress.IPv6Address(uuid.uuid4().int))}
    guesses = [ApiClient(generate_key(is_test=False)).chat(headers=address) for _ in range(5)]
    assert [g.status_code for g in guesses] == [401, 401, 401, 429, 429]
    assert_error(guesses[-1], 429, "rate_limited")


# --- Disabled sites -------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["channel", "account"])
def test_a_disabled_site_is_403_at_once(
    site: Site, api: ApiClient, provider: FakeProvider, what: str
) -> None:
    assert api.chat().status_code == 200
    row = site.channel if what == "channel" else site.channel.account
    row.is_enabled = False
    row.save()
    response = api.post("/api/chat", "no json at all")
    assert_error(response, 403, "site_disabled")
    # An answer to a valid key carries the rate headers. The refusal was not counted.
    assert response["X-RateLimit-Limit"] == "60"
    assert response["X-RateLimit-Remaining"] == "59"
    for path in ("/api/history?session_id=s", "/api/key", "/api/models"):
        assert_error(api.get(path), 403, "site_disabled")


def test_a_restricted_key_is_403_at_once_and_charges_and_counts_nothing(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    assert api.chat().status_code == 200
    site.channel.api_keys.update(allowed_addresses="203.0.113.0/24")
    response = api.post("/api/chat", "no json at all")
    assert_error(response, 403, "not_allowed")
    assert response["X-RateLimit-Remaining"] == "59"
    site.channel.api_keys.update(allowed_addresses="", allowed_models="gemma2-9b-it")
    assert_error(api.post("/api/chat", "no json at all"), 403, "not_allowed")
    described = api.get("/api/key").json()
    assert described["credits"]["remaining"] == "99.000000"
    assert described["limits"]["day"]["used"] == 1


# --- Bodies ---------------------------------------------------------------------------------------

BAD_FIELDS: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"message", "session_id"}),
    ({"message": None, "session_id": None}, {"message", "session_id"}),
    ({"message": "", "session_id": ""}, {"message", "session_id"}),
    ({"message": " \n\u2003", "session_id": " \t"}, {"message", "session_id"}),
    ({"message": "x" * 2001, "session_id": "s" * 256}, {"message", "session_id"}),
    ({"message": 5, "session_id": True}, {"message", "session_id"}),
    ({"message": ["a"], "session_id": {"a": 1}}, {"message", "session_id"}),
    ({"message": "a\x00b", "session_id": "a\x00b"}, {"message", "session_id"}),
    ({"message": "m", "session_id": "s", "metadata": []}, {"metadata"}),
    ({"message": "m", "session_id": "s", "metadata": "x"}, {"metadata"}),
    ({"message": "m", "session_id": "s", "metadata": {"url": 1}}, {"metadata.url"}),
    ({"message": "m", "session_id": "s", "metadata": {"url": "u" * 2049}}, {"metadata.url"}),
    ({"message": "m", "session_id": "s", "metadata": {"title": "t" * 513}}, {"metadata.title"}),
    ({"message": "m", "session_id": "s", "metadata": {"title": "\x00"}}, {"metadata.title"}),
    ({"message": "m", "session_id": "s", "stream": "yes"}, {"stream"}),
    ({"message": "m", "session_id": "s", "stream": 1}, {"stream"}),
]


@pytest.mark.parametrize(("body", "fields"), BAD_FIELDS)
def test_wrong_fields_are_named(
    api: ApiClient, provider: FakeProvider, body: dict[str, Any], fields: set[str]
) -> None:
    error = assert_error(api.post("/api/chat", body), 400, "invalid_request")
    assert set(error["fields"]) == fields
    assert provider.prompts == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"message": "\\ud800", "session_id": "s"}', "message"),
        ('{"message": "m", "session_id": "\\udc00x"}', "session_id"),
    ],
)
def test_lone_surrogates_are_named(api: ApiClient, body: str, field: str) -> None:
    error = assert_error(api.post("/api/chat", body), 400, "invalid_request")
    assert "surrogate" in error["fields"][field]


@pytest.mark.parametrize(
    "body",
    [
        " ",
        "{",
        "[]",
        "null",
        '"text"',
        "5",
        "nonsense",
        b"\xff\xfe",
        '{"message": NaN}',
        "[" * 30_000,
        '{"a":' * 10_000,
        '{"message": 1e999999}x',
        b'\xef\xbb\xbf{"message": "m", "session_id": "s"}',
    ],
)
def test_what_is_no_json_object_names_no_field(api: ApiClient, body: Any) -> None:
    response = api.post("/api/chat", body)
    assert assert_error(response, 400, "invalid_request")["fields"] == {}


@pytest.mark.parametrize("content_type", ["", "text/plain", "multipart/form-data; boundary=x"])
def test_other_media_types_are_415(api: ApiClient, content_type: str) -> None:
    response = api.client.post("/api/chat", b"{}", content_type=content_type, headers=api.headers)
    assert_error(response, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "more",
    [
        {"metadata": None, "stream": None},
        {"metadata": {}, "stream": False, "unknown": [1, {"a": None}]},
        {"metadata": {"url": None, "title": None, "x": 1}},
        {"metadata": {"url": "", "title": "t" * 512}},
        {"big": 10**400, "tiny": 1e-300},
    ],
)
def test_optional_and_unknown_members_are_taken(
    api: ApiClient, provider: FakeProvider, more: dict[str, Any]
) -> None:
    assert api.chat(**more).status_code == 200


@pytest.mark.parametrize("text", ["x" * 2000, "😀" * 2000, " " * 50 + "x" * 2000 + "\n\n"])
def test_2000_code_points_are_taken(api: ApiClient, provider: FakeProvider, text: str) -> None:
    assert api.chat(text).status_code == 200
    assert provider.prompts[0][-1]["content"] == text.strip()


@pytest.mark.parametrize("session_id", ["s" * 255, " s ", "😀/../'\"%_", "S1"])
def test_session_ids_are_taken_as_they_are(
    api: ApiClient, provider: FakeProvider, session_id: str
) -> None:
    assert api.chat(session_id=session_id).json()["session_id"] == session_id
    assert len(api.history(session_id)) == 2
    assert api.history("another") == api.history("x" + session_id[1:]) == []


# --- Limits ---------------------------------------------------------------------------------------


def test_the_minute_is_limited_and_says_when_to_come_back(
    provider: FakeProvider, clock: Any
) -> None:
    api = ApiClient(make_site(requests_per_minute=2).api_key)
    first = api.chat()
    assert (first["X-RateLimit-Limit"], first["X-RateLimit-Remaining"]) == ("2", "1")
    clock.shift(10)
    assert api.chat()["X-RateLimit-Remaining"] == "0"
    refused = api.chat()
    error = assert_error(refused, 429, "rate_limited")
    assert refused["X-RateLimit-Remaining"] == "0"
    assert error["retry_after"] == int(refused["X-RateLimit-Reset"]) == 51
    clock.shift(50)
    assert api.chat().status_code == 429
    clock.shift(1)
    assert api.chat().status_code == 200
    assert api.chat().status_code == 429


def test_the_minute_comes_before_the_body_and_counts_bad_ones(provider: FakeProvider) -> None:
    api = ApiClient(make_site(requests_per_minute=1).api_key)
    assert_error(api.post("/api/chat", "nonsense"), 400, "invalid_request")
    assert_error(api.post("/api/chat", "nonsense"), 429, "rate_limited")


def test_reads_have_ten_times_the_allowance_of_their_own(provider: FakeProvider) -> None:
    api = ApiClient(make_site(requests_per_minute=1).api_key)
    assert api.chat().status_code == 200
    for left in range(9, -1, -1):
        response = api.get("/api/models")
        assert (response.status_code, response["X-RateLimit-Remaining"]) == (200, str(left))
    assert_error(api.get("/api/models"), 429, "rate_limited")


def test_a_test_keys_minute_is_apart(provider: FakeProvider) -> None:
    site = make_site(requests_per_minute=1)
    assert ApiClient(site.api_key).chat().status_code == 200
    assert ApiClient(site.test_key).chat().status_code == 200
    assert ApiClient(site.test_key).chat().status_code == 429


def test_a_raised_limit_applies_at_once(provider: FakeProvider) -> None:
    site = make_site(requests_per_minute=1)
    api = ApiClient(site.api_key)
    assert [api.chat().status_code for _ in range(2)] == [200, 429]
    site.channel.requests_per_minute = 2
    site.channel.save()
    assert api.chat().status_code == 200


def test_the_day_is_limited_until_midnight_utc(provider: FakeProvider, clock: Any) -> None:
    clock.move_to("2026-04-05T23:59:30.5Z")
    site = make_site(daily_quota=2, requests_per_minute=1000)
    site.channel.fallback_replies = {"daily_quota_reached": "We are back tomorrow!"}
    site.channel.save()
    api = ApiClient(site.api_key)
    assert [api.chat().status_code for _ in range(2)] == [200, 200]
    error = assert_error(api.chat(), 429, "daily_quota_reached")
    assert error["retry_after"] == 30
    assert error["fallback_reply"] == "We are back tomorrow!"
    assert error["error"] == "You have used today's 2 messages. The quota resets at 00:00 UTC."
    clock.shift(29.5)
    assert api.chat().status_code == 200


def test_the_day_comes_before_the_credits(provider: FakeProvider) -> None:
    api = ApiClient(make_site(daily_quota=1, credit_amount=1).api_key)
    assert api.chat().status_code == 200
    assert_error(api.chat(), 429, "daily_quota_reached")


def test_exhausted_credits_are_403_and_the_rest_still_works(provider: FakeProvider) -> None:
    site = make_site(credit_amount=1)
    api = ApiClient(site.api_key)
    assert api.chat().json()["credits"]["remaining"] == "0.000000"
    assert_error(api.chat(), 403, "credits_exhausted")
    assert len(api.history()) == 2
    assert api.get("/api/key").json()["limits"]["day"]["used"] == 1


# --- Faults ---------------------------------------------------------------------------------------


def test_a_lost_database_is_503_and_never_a_key_problem(
    site: Site, api: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*args: Any) -> None:
        raise OperationalError("server closed the connection")

    monkeypatch.setattr("common.db.fetch_rows", lost)
    assert_error(api.chat(), 503, "overloaded")
    assert_error(api.get("/api/key"), 503, "overloaded")


@pytest.mark.parametrize("sent", ["abc", "A-Z_.:9", "x" * 128])
def test_the_callers_request_id_comes_back(sent: str) -> None:
    assert Client().get("/api/x", headers={"X-Request-Id": sent})["X-Request-Id"] == sent


@pytest.mark.parametrize("sent", ["", "a b", "x" * 129, "\x1b[31mred", "é", "a\tb"])
def test_a_malformed_request_id_is_replaced(sent: str) -> None:
    answered = Client().get("/api/x", headers={"X-Request-Id": sent})["X-Request-Id"]
    assert answered.startswith("req_")


# --- Sessions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["", "?session_id=", "?session_id=%20", "?session_id=%ff"])
def test_history_needs_a_session_id(api: ApiClient, query: str) -> None:
    error = assert_error(api.get("/api/history" + query), 400, "invalid_request")
    assert set(error["fields"]) == {"session_id"}


def test_history_refuses_a_session_id_that_is_too_long_or_has_nul(api: ApiClient) -> None:
    for session_id in ("x" * 256, "a%00b"):
        assert_error(api.get(f"/api/history?session_id={session_id}"), 400, "invalid_request")


def test_a_session_ends_24_hours_after_its_last_message(
    api: ApiClient, provider: FakeProvider, clock: Any
) -> None:
    api.chat("one")
    clock.shift(23 * 3600)
    api.chat("two")
    clock.shift(24 * 3600 - 1)
    assert len(api.history()) == 4
    clock.shift(1)
    assert api.history() == []
    api.chat("three")
    assert [part["content"] for part in provider.prompts[-1]] == ["three"]
    assert [m["content"] for m in api.history()] == ["three", "Reply 3"]


def test_erasing_a_session_keeps_the_books(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    api.chat("secret", metadata={"url": "https://private"})
    response = api.erase()
    assert (response.status_code, response.content) == (204, b"")
    assert api.history() == []
    api.chat("new")
    assert [part["content"] for part in provider.prompts[-1]] == ["new"]
    assert api.erase("unknown").status_code == 204
    assert list(Message.objects.filter(erased_at=None).values_list("content", flat=True)) == [
        "new",
        "Reply 2",
    ]
    assert not Message.objects.filter(content__contains="secret").exists()
    assert Message.objects.filter(role="assistant", charged_microcredits=1_000_000).count() == 2


def test_a_session_erased_in_mid_call_is_charged_but_keeps_no_text(
    api: ApiClient, provider: FakeProvider
) -> None:
    def erase() -> Any:
        assert api.erase().status_code == 204
        return reply()

    provider.script.append(erase)
    assert api.chat("secret").json()["credits"]["charged"] == "1.000000"
    assert api.history() == []
    assert set(Message.objects.values_list("content", flat=True)) == {""}


def test_times_are_rfc_3339_in_utc(api: ApiClient, provider: FakeProvider, clock: Any) -> None:
    api.chat()
    assert api.history()[0]["created_at"] == "2026-04-05T12:00:00Z"


# --- Strangers ------------------------------------------------------------------------------------


def test_a_strangers_session_is_as_unknown_as_any(
    site: Site, stranger: Site, provider: FakeProvider
) -> None:
    mine, theirs = ApiClient(site.api_key), ApiClient(stranger.api_key)
    mine.chat("mine", "shared-id")
    assert theirs.history("shared-id") == theirs.history("nobody's") == []
    assert theirs.erase("shared-id").status_code == 204
    theirs.chat("theirs", "shared-id")
    assert [part["content"] for part in provider.prompts[-1]] == ["theirs"]
    assert [m["content"] for m in mine.history("shared-id")] == ["mine", "Reply 1"]


# --- The rest -------------------------------------------------------------------------------------


def test_key_tells_what_it_is(site: Site, api: ApiClient, clock: Any) -> None:
    body = api.get("/api/key/").json()
    assert body["channel"] == {"id": str(site.channel.id), "name": "Shop", "enabled": True}
    assert body["key"]["masked"] == f"amgai_…{site.api_key[-4:]}"
    assert (body["key"]["mode"], body["key"]["expires_at"]) == ("live", None)
    assert body["limits"]["minute"] == {
        "limit": 60,
        "remaining": 60,
        "resets_at": "2026-04-05T12:00:00Z",
    }
    assert body["limits"]["day"]["resets_at"] == "2026-04-06T00:00:00Z"
    assert body["credits"] == {"remaining": "100.000000"}


def test_models_lists_the_catalogue(api: ApiClient) -> None:
    models = api.get("/api/models").json()["models"]
    assert [(m["id"], m["context_window"], m["max_output_tokens"]) for m in models] == [
        ("llama-3.3-70b-versatile", 131_072, 8_192),
        ("llama-3.1-70b-versatile", 131_072, 8_192),
        ("llama-3.2-90b-vision-preview", 131_072, 8_192),
        ("mixtral-8x7b-32768", 32_768, 32_768),
        ("gemma2-9b-it", 8_192, 4_096),
    ]
    assert [m["current"] for m in models] == [True, False, False, False, False]
    assert models[0]["price"] == {
        "per_reply": "1.000000",
        "per_1k_input_tokens": "0.000000",
        "per_1k_output_tokens": "0.000000",
    }


def test_health_and_schema_need_no_key() -> None:
    client = Client()
    alive = client.get("/healthz").json()
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert {"status", "database", "cache", "worker", "version"} <= set(ready.json())
    assert alive == {"status": "ok", "version": ready.json()["version"]}
    schema = client.get("/api/schema").json()
    assert {"/api/chat", "/api/history", "/api/key", "/api/models"} <= set(schema["paths"])


def test_readyz_names_what_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> None:
        raise OperationalError("away")

    monkeypatch.setattr("gateway.health._ask_database", lost)
    response = Client().get("/readyz")
    assert response.status_code == 503
    assert response.json()["database"] == "unreachable"


def test_an_unknown_host_is_json_under_the_api() -> None:
    response = Client().get("/api/key", HTTP_HOST="evil.example")
    assert response.status_code in (400, 401)
    assert response["Content-Type"] == "application/json"
