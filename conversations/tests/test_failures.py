"""The record of a message that got no answer, and that recording it changes nothing else."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from channels.breaker import BREAKER_OPEN
from channels.errors import ProviderError
from channels.tests.factories import Site, make_site
from conversations.archive import retention
from conversations.chat import calls
from conversations.models import ChatSession, FailedRequest
from server.slots import CallGate
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db

PAGE = {"url": "https://shop.example/cart"}
COMPLETION = {"model": "llama-3.3-70b-versatile", "messages": [{"role": "user", "content": "Hi"}]}


def the_failure() -> FailedRequest:
    return FailedRequest.objects.get()


def test_a_providers_failure_is_kept_with_its_reason(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    provider.fail("timeout")
    response = api.chat(metadata=PAGE, headers={"X-Request-Id": "req-1"})
    assert (response.status_code, response.json()["code"]) == (500, "provider_error")
    failure = the_failure()
    assert failure.channel_id == site.channel.id
    assert (failure.error_code, failure.reason) == ("provider_error", "timeout")
    assert (failure.session_id, failure.request_id) == ("s1", "req-1")
    assert (failure.page_url, failure.is_test) == (PAGE["url"], False)
    assert failure.request_model == "llama-3.3-70b-versatile"
    assert api.history() == []


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"daily_quota": 1}, "daily_quota_reached"), ({"credit_amount": 1}, "credits_exhausted")],
)
def test_refusals_of_quota_and_credits_are_kept(
    provider: FakeProvider, fields: dict[str, Any], code: str
) -> None:
    api = ApiClient(make_site(**fields).api_key)
    assert api.chat().status_code == 200
    assert api.chat().json()["code"] == code
    assert (the_failure().error_code, the_failure().reason) == (code, "")


def test_what_is_shed_under_load_costs_no_statement(
    api: ApiClient, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "call_gate", lambda: CallGate(0, 0))
    assert api.chat().json()["code"] == "overloaded"
    assert not FailedRequest.objects.exists()


def test_a_busy_session_is_kept(api: ApiClient, provider: FakeProvider, settings: Any) -> None:
    api.chat()
    settings.SESSION_MAX_WAITING = 0
    ChatSession.objects.update(lease_expires_at=timezone.now() + timedelta(seconds=60))
    assert api.chat().json()["code"] == "session_busy"
    assert the_failure().error_code == "session_busy"


def test_failures_under_v1_are_kept_without_a_session(
    api: ApiClient, provider: FakeProvider
) -> None:
    provider.fail("status_429")
    assert api.post("/v1/chat/completions", COMPLETION).status_code == 502
    assert api.post("/v1/chat/completions", COMPLETION | {"model": "gpt"}).status_code == 404
    kept = FailedRequest.objects.order_by("id").values_list(
        "error_code", "reason", "request_model", "session_id"
    )
    assert list(kept) == [
        ("provider_error", "status_429", "llama-3.3-70b-versatile", ""),
        ("model_not_found", "", "gpt", ""),
    ]


def test_what_is_refused_before_any_work_is_not_kept(provider: FakeProvider) -> None:
    api = ApiClient(make_site(requests_per_minute=1).api_key)
    assert api.chat().status_code == 200
    assert api.chat().status_code == 429
    assert ApiClient("amgai_wrong").chat().status_code == 401
    assert not FailedRequest.objects.exists()


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/responses"])
def test_a_malformed_request_is_kept_under_the_id_in_its_error(api: ApiClient, path: str) -> None:
    refused = api.post(path, {"message": ""})
    assert refused.status_code == 400
    kept = the_failure()
    assert (kept.error_code, kept.request_id) == ("invalid_request", refused["X-Request-Id"])
    assert kept.api_key_id is not None
    assert (kept.session_id, kept.page_url, kept.reason) == ("", "", "")


def test_another_content_type_is_kept(api: ApiClient) -> None:
    refused = api.client.post("/api/chat", "x", content_type="text/plain", headers=api.headers)
    assert refused.status_code == 415
    assert the_failure().error_code == "unsupported_media_type"


def test_what_a_model_cannot_take_is_kept(api: ApiClient, provider: FakeProvider) -> None:
    long = [{"role": "user", "content": "word " * 190_000}]
    refused = api.post("/v1/chat/completions", COMPLETION | {"messages": long})
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert the_failure().error_code == "context_length_exceeded"


def test_a_test_keys_failures_are_kept_apart(site: Site) -> None:
    response = ApiClient(site.test_key).chat(headers={"X-Simulate": "provider_error"})
    assert response.status_code == 500
    assert the_failure().is_test


def test_a_crash_is_kept_as_an_internal_error(api: ApiClient, provider: FakeProvider) -> None:
    provider.script.append(ValueError("secret"))
    assert api.chat().json()["code"] == "internal_error"
    assert (the_failure().error_code, the_failure().reason) == ("internal_error", "")


def test_a_failure_that_cannot_be_kept_stays_the_same_failure(
    api: ApiClient, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FailedRequest, **more: Any) -> None:
        raise DatabaseError("gone")

    monkeypatch.setattr(FailedRequest, "save", refuse)
    provider.fail()
    response = api.chat()
    assert (response.status_code, response.json()["code"]) == (500, "provider_error")
    assert api.chat().status_code == 200


def test_keeping_costs_one_statement_and_a_good_chat_none(
    api: ApiClient, provider: FakeProvider, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    api.chat()
    with django_assert_max_num_queries(17), CaptureQueriesContext(connection) as good:
        api.chat()
    assert not [q for q in good if "failedrequest" in q["sql"]]
    provider.fail()
    with CaptureQueriesContext(connection) as failed:
        api.chat()
    (kept,) = [index for index, q in enumerate(failed) if "failedrequest" in q["sql"]]
    given_back = max(i for i, q in enumerate(failed) if q["sql"].startswith("UPDATE"))
    assert kept > given_back


def test_a_route_that_was_left_out_does_not_hide_the_reason() -> None:
    errors = [ProviderError("timeout"), ProviderError(BREAKER_OPEN)]
    assert calls._telling_reason(errors) == "timeout"
    assert calls._telling_reason(errors[1:]) == BREAKER_OPEN
    assert calls._telling_reason([]) == ""


@pytest.mark.django_db(transaction=True)
def test_a_stream_that_broke_off_is_kept(site: Site) -> None:
    test = ApiClient(site.test_key)
    response = test.chat(stream=True, headers={"X-Simulate": "midstream_error"})
    assert b"event: error" in b"".join(response.streaming_content)
    response.close()
    assert the_failure().error_code == "provider_error"
    assert the_failure().reason


def test_erasing_a_session_forgets_whose_its_failures_were(
    site: Site, stranger: Site, provider: FakeProvider
) -> None:
    for one in (site, stranger):
        provider.fail()
        ApiClient(one.api_key).chat(metadata=PAGE)
    ApiClient(site.api_key).erase()
    kept = dict(FailedRequest.objects.values_list("channel_id", "session_id"))
    assert kept == {site.channel.id: "", stranger.channel.id: "s1"}
    assert FailedRequest.objects.get(channel=site.channel).page_url == ""


def test_failures_past_retention_are_deleted(
    site: Site, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr(retention, "EXPIRE_BATCH", 2)
    now = timezone.now()
    for age in (0, 29, 30, 31, 32):
        FailedRequest.objects.create(
            channel_id=uuid.UUID(str(site.channel.id)),
            is_test=False,
            error_code="overloaded",
            created_at=now - timedelta(days=age),
        )
    retention.expire_stale_sessions(now=now)
    assert FailedRequest.objects.count() == 2


def test_an_answered_message_keeps_nothing(api: ApiClient, provider: FakeProvider) -> None:
    provider.script.append(reply("Fine."))
    assert api.chat().status_code == 200
    assert not FailedRequest.objects.exists()
