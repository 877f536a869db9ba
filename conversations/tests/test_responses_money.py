"""POST /v1/responses: it has the limits, holds, receipts, and replays of a completion."""

from __future__ import annotations

from typing import Any

import pytest

from billing.models import CreditAccount, Hold
from channels.errors import Fault
from channels.tests.factories import Site, make_site, set_prices
from conversations.models import Message
from conversations.tests.test_openai import HELLO, MODEL, assert_books_agree, assert_error
from conversations.tests.test_responses import WEATHER, respond
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db


def test_holds_the_highest_possible_cost(api: ApiClient, provider: FakeProvider) -> None:
    set_prices(price_per_1k_output_tokens_microcredits=1_000)
    held: list[int] = []

    def look() -> Any:
        held.append(CreditAccount.objects.get().held_microcredits)
        return reply(output_tokens=50)

    provider.script += [look, look]
    respond(api, max_output_tokens=100)
    assert held == [1_000_000 + 100]
    assert CreditAccount.objects.get().held_microcredits == 0
    assert Message.objects.get().charged_microcredits == 1_000_050
    set_prices(price_per_1k_input_tokens_microcredits=1_000)
    respond(api, tools=[WEATHER], max_output_tokens=100)
    assert held[1] > held[0] + 1_000
    assert_books_agree()


def test_keeps_the_books_but_no_text(site: Site, api: ApiClient, provider: FakeProvider) -> None:
    provider.script.append(reply("secret answer", 7, 3))
    response = respond(api, headers={"X-Request-Id": "order-7"})
    message = Message.objects.get()
    assert (message.session_id, message.role, message.content) == (None, "assistant", "")
    assert (message.input_tokens, message.output_tokens) == (7, 3)
    receipt = api.get("/api/usage/order-7").json()
    assert receipt["credits"] == {"charged": "1.000000", "balance_after": "99.000000"}
    assert api.get(f"/api/usage/{response.json()['id']}").json() == receipt
    assert api.history() == []
    assert_books_agree()


def test_a_strangers_response_is_as_unknown_as_any(
    site: Site, api: ApiClient, stranger: Site, provider: FakeProvider
) -> None:
    mine = respond(api).json()["id"]
    for theirs in (ApiClient(stranger.api_key), ApiClient(site.test_key)):
        answers = [theirs.get(f"/api/usage/{name}") for name in (mine, "resp_" + "0" * 32)]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].json()["error"] == answers[1].json()["error"]


def test_exhausted_credits_are_402(provider: FakeProvider) -> None:
    api = ApiClient(make_site(credit_amount=0).api_key)
    assert_error(respond(api), 402, "credits_exhausted")
    assert provider.requests == []


def test_the_day_and_the_minute_are_those_of_the_chat(provider: FakeProvider, clock: Any) -> None:
    site = make_site(daily_quota=2, requests_per_minute=3)
    api = ApiClient(site.api_key)
    assert api.chat().status_code == 200
    response = respond(api)
    assert response["X-Budget-Warning"] == "daily_quota; used=2; limit=2"
    assert_error(respond(api), 429, "daily_quota_reached")
    refused = respond(api)
    assert_error(refused, 429, "rate_limited")
    assert refused["Retry-After"] == refused["X-RateLimit-Reset"] == "61"


def test_a_failing_provider_is_502_and_costs_nothing(
    api: ApiClient, provider: FakeProvider
) -> None:
    provider.fail()
    assert_error(respond(api), 502, "provider_error")
    assert Hold.objects.get().state == "released"
    assert api.get("/api/key").json()["limits"]["day"]["used"] == 0
    assert not Message.objects.exists()
    provider.fail("context_length_exceeded", fault=Fault.REQUEST)
    assert_error(respond(api), 400, "context_length_exceeded", "input")
    assert_books_agree()


def test_an_idempotency_key_replays(api: ApiClient, provider: FakeProvider) -> None:
    key = {"Idempotency-Key": "k1"}
    first, again = respond(api, headers=key), respond(api, headers=key)
    assert again.content == first.content
    assert again["Idempotency-Replayed"] == "true"
    assert_error(respond(api, top_p=1, headers=key), 422, "idempotency_key_reused")
    assert len(provider.requests) == 1
    assert Message.objects.get().charged_microcredits == 1_000_000


def test_a_key_of_a_completion_is_not_one_of_a_response(
    api: ApiClient, provider: FakeProvider
) -> None:
    key = {"Idempotency-Key": "k1"}
    body = {"model": MODEL, "messages": HELLO}
    assert api.post("/v1/chat/completions", body, key).status_code == 200
    assert_error(respond(api, headers=key), 422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("what", "status"),
    [
        ("rate_limited", 429),
        ("daily_quota_reached", 429),
        ("credits_exhausted", 402),
        ("site_disabled", 403),
        ("provider_error", 502),
    ],
)
def test_every_error_can_be_simulated(site: Site, what: str, status: int) -> None:
    response = respond(ApiClient(site.test_key), headers={"X-Simulate": what})
    assert_error(response, status, what)
