"""Answers without text, from a provider's socket: who pays, who sees what, what is counted."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from billing.models import CreditAccount, Hold, LedgerEntry
from channels.models import Provider, Route, RouteHealth
from channels.tests.factories import Site, make_site, set_prices
from conversations.models import FailedRequest, Message
from conversations.tests import test_openai_streaming
from conversations.tests.test_openai import assert_books_agree, assert_error, complete
from tests.shapes import DONE
from tests.support.clients import ApiClient
from tests.support.provider import USAGE_CHUNK, chunk, served
from tests.support.stub_server import StubServer, answer

pytestmark = pytest.mark.django_db(transaction=True)

FALLBACK = "Let me get a colleague."
USAGE = {"prompt_tokens": 3, "completion_tokens": 2}
# A flat price, and prices of input and output tokens: 1.0032 credits for the usage above.
PRICES = {
    "price_per_1k_input_tokens_microcredits": 400_000,
    "price_per_1k_output_tokens_microcredits": 1_000_000,
}
PRICE = 1_000_000 + 3 * 400 + 2 * 1_000
both_ways = pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])


@pytest.fixture
def site() -> Site:
    site = make_site()
    site.channel.fallback_replies = {"content_filtered": FALLBACK}
    site.channel.save()
    set_prices(**PRICES)
    return site


def said(finish_reason: str, *, is_stream: bool, member: str = "content", text: str = "") -> Any:
    """Return the arguments of `served` for an answer with this text and finish reason."""
    if is_stream:
        first = chunk(text).replace(b'"content"', f'"{member}"'.encode())
        return [first, chunk(None, finish_reason), USAGE_CHUNK, DONE], {}
    message = {"role": "assistant", "content": None} | {member: text}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    body = orjson.dumps({"model": "m1", "choices": [choice], "usage": USAGE})
    return [body], {"content_type": "application/json"}


def expect_untouched_route() -> None:
    assert not RouteHealth.objects.exists()
    assert_books_agree()


def balance() -> int:
    return CreditAccount.objects.get().balance_microcredits


# --- The chat -------------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize(
    ("finish_reason", "status", "code", "retry"),
    [
        ("stop", 500, "provider_error", None),
        ("length", 500, "provider_error", "false"),
        ("content_filter", 422, "content_filtered", "false"),
        ("refusal", 422, "content_filtered", "false"),
    ],
)
def test_a_visitor_gets_an_error_and_the_operator_the_bill(
    api: ApiClient,
    settings: Any,
    finish_reason: str,
    status: int,
    code: str,
    retry: str | None,
    is_stream: bool,
) -> None:
    before = balance()
    pieces, options = said(finish_reason, is_stream=is_stream)
    with served(*pieces, **options) as settings.PROVIDER_BASE_URL:
        response = api.chat(stream=is_stream)
    body = response.json()
    assert (response.status_code, body["code"]) == (status, code)
    assert response.headers.get("X-Should-Retry") == retry
    assert body.get("fallback_reply") == (FALLBACK if code == "content_filtered" else None)
    assert balance() == before
    assert Hold.objects.get().state == "released"
    loss = LedgerEntry.objects.get(kind="absorbed")
    assert (loss.amount_microcredits, loss.debit, loss.credit) == (PRICE, "absorbed", "revenue")
    assert not Message.objects.exists()
    assert FailedRequest.objects.get().error_code == code
    assert api.get("/api/key").json()["limits"]["day"]["used"] == 0
    expect_untouched_route()


@both_ways
def test_a_refusal_is_the_reply(api: ApiClient, settings: Any, is_stream: bool) -> None:
    pieces, options = said("stop", is_stream=is_stream, member="refusal", text="I cannot.")
    with served(*pieces, **options) as settings.PROVIDER_BASE_URL:
        response = api.chat(stream=is_stream)
        body = response.getvalue() if is_stream else response.content
    assert b'"reply":"I cannot."' in body
    assert [message["content"] for message in api.history()] == ["Hello!", "I cannot."]
    assert Message.objects.get(role="assistant").charged_microcredits == PRICE
    expect_untouched_route()


@pytest.mark.parametrize("path", ["chat", "v1"])
@pytest.mark.parametrize(
    "status", ["400 Bad Request", "403 Forbidden", "500 Internal Server Error"]
)
def test_a_filters_verdict_is_final_and_goes_to_no_other_provider(
    site: Site, api: ApiClient, settings: Any, status: str, path: str
) -> None:
    settings.PROVIDER_ALLOW_PRIVATE_ADDRESSES = True
    body = orjson.dumps({"error": {"message": "flagged", "code": "content_filter"}})
    with (
        served(body, status=status) as settings.PROVIDER_BASE_URL,
        StubServer(answer(b"{}")) as other,
    ):
        second = Provider.objects.create(name="second", base_url=other.url("/v1"))
        Route.objects.filter(model=site.channel.model).delete()
        Route.objects.create(model=site.channel.model, provider=second, provider_model="m")
        response = api.chat() if path == "chat" else complete(api)
    assert other.requests == []
    assert response.status_code == 422
    error = response.json() if path == "chat" else response.json()["error"]
    assert error["code"] == "content_filtered"
    assert response["X-Should-Retry"] == "false"
    assert not LedgerEntry.objects.filter(kind="absorbed").exists()
    expect_untouched_route()


# --- /v1 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("finish_reason", ["stop", "length", "content_filter"])
def test_v1_passes_an_empty_answer_on_and_charges_it(
    api: ApiClient, settings: Any, finish_reason: str
) -> None:
    before = balance()
    pieces, options = said(finish_reason, is_stream=False)
    with served(*pieces, **options) as settings.PROVIDER_BASE_URL:
        response = complete(api, stop=["H"])
    assert response.status_code == 200
    (choice,) = response.json()["choices"]
    assert choice["message"] == {"role": "assistant", "content": "", "refusal": None}
    assert choice["finish_reason"] == finish_reason
    assert before - balance() == PRICE
    expect_untouched_route()


@pytest.mark.parametrize("finish_reason", ["stop", "length", "content_filter"])
def test_v1_streams_an_empty_answer_to_its_end(
    api: ApiClient, settings: Any, finish_reason: str
) -> None:
    before = balance()
    pieces, _ = said(finish_reason, is_stream=True)
    with served(*pieces) as settings.PROVIDER_BASE_URL:
        response = complete(api, stream=True, stop=["H"])
        *chunks, done = test_openai_streaming.parse(response.getvalue())
    assert response["X-Gateway-Provider"] == "default"
    assert "Idempotency-Replayed" not in response
    assert done == "[DONE]"
    first, last = (chunk["choices"][0] for chunk in chunks)
    assert first["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert (last["delta"], last["finish_reason"]) == ({}, finish_reason)
    assert before - balance() == PRICE
    expect_untouched_route()


@both_ways
def test_v1_passes_a_refusal_on_and_replays_it(
    api: ApiClient, settings: Any, is_stream: bool
) -> None:
    key = {"Idempotency-Key": "k"}
    pieces, options = said("stop", is_stream=is_stream, member="refusal", text="I cannot.")
    with served(*pieces, **options) as settings.PROVIDER_BASE_URL:
        response = complete(api, stream=is_stream, headers=key)
        body = response.getvalue() if is_stream else response.content
    again = complete(api, stream=is_stream, headers=key)
    replayed = again.getvalue() if is_stream else again.content
    assert again["Idempotency-Replayed"] == "true"
    for whole in (body, replayed):
        assert b'"refusal":"I cannot."' in whole
    assert Message.objects.get().charged_microcredits == PRICE
    expect_untouched_route()


@both_ways
def test_five_empty_answers_of_one_take_nothing_from_another(
    api: ApiClient, settings: Any, is_stream: bool
) -> None:
    other = ApiClient(make_site(owner="other@example.com").api_key)
    for _ in range(5):
        pieces, options = said("stop", is_stream=is_stream)
        with served(*pieces, **options) as settings.PROVIDER_BASE_URL:
            response = complete(api, stream=is_stream, stop=["H"])
            assert response.status_code == 200
            if is_stream:
                response.getvalue()
    pieces, options = said("stop", is_stream=False, text="Hi!")
    with served(*pieces, **options) as settings.PROVIDER_BASE_URL:
        assert other.chat().json()["reply"] == "Hi!"


def test_what_every_route_refuses_is_the_callers_error(api: ApiClient, settings: Any) -> None:
    body = orjson.dumps({"error": {"message": "No endpoints found that support tool use."}})
    with served(body, status="404 Not Found") as settings.PROVIDER_BASE_URL:
        response = complete(api)
    message = assert_error(response, 400, "invalid_request")
    assert message == "No endpoints found that support tool use."
    expect_untouched_route()


# --- The demo -------------------------------------------------------------------------------------


@both_ways
def test_the_demo_is_free_and_keeps_its_place_in_the_day(
    site: Site, api: ApiClient, is_stream: bool
) -> None:
    before = balance()
    response = api.chat(stream=is_stream)
    body = response.getvalue() if is_stream else response.content
    assert b'"charged":"0.000000"' in body
    completion = complete(api)
    assert completion.status_code == 200
    assert completion["X-Gateway-Provider"] == "demo"
    assert balance() == before
    assert not LedgerEntry.objects.filter(kind="charge").exists()
    assert api.get("/api/key").json()["limits"]["day"]["used"] == 2
    assert_books_agree()


def test_without_credits_the_demo_answers_and_a_paused_provider_does_not() -> None:
    api = ApiClient(make_site(credit_amount=0).api_key)
    assert api.chat().status_code == 200
    Provider.objects.update(is_enabled=False)
    assert api.chat().json()["code"] == "credits_exhausted"
    assert_error(complete(api), 402, "credits_exhausted")


def test_a_visitor_never_pays_for_a_canned_text(api: ApiClient) -> None:
    before = balance()
    assert "demo" in api.chat().json()["reply"]
    Provider.objects.update(is_enabled=False)
    response = api.chat()
    assert (response.status_code, response.json()["code"]) == (500, "provider_error")
    assert_error(complete(api), 502, "provider_error")
    assert balance() == before
    assert_books_agree()
