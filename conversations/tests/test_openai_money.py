"""POST /v1/chat/completions: what it holds, charges, stores, and gives back."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from billing.models import CreditAccount, Hold
from channels.errors import Fault
from channels.models import Route
from channels.tests.factories import Site, make_site, set_prices
from conversations.models import Message
from conversations.tests.test_openai import (
    CALL,
    HELLO,
    MODEL,
    WEATHER,
    assert_books_agree,
    assert_error,
    complete,
)
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db


def test_holds_the_highest_possible_cost(api: ApiClient, provider: FakeProvider) -> None:
    set_prices(
        price_per_1k_input_tokens_microcredits=1_000, price_per_1k_output_tokens_microcredits=1_000
    )
    held: list[int] = []

    def look() -> Any:
        held.append(CreditAccount.objects.get().held_microcredits)
        return reply(input_tokens=1000, output_tokens=116)

    provider.script.append(look)
    complete(api, max_tokens=100)
    # The message as JSON and two template marks, at one token per byte. The answer has 100 tokens.
    most_input = len(orjson.dumps(HELLO[0])) + 10
    assert held == [1_000_000 + most_input + 100]
    assert CreditAccount.objects.get().held_microcredits == 0
    # The charge never exceeds the hold.
    assert CreditAccount.objects.get().balance_microcredits == 100_000_000 - held[0]
    assert_books_agree()


def test_the_hold_counts_tools_and_ends_at_the_window(
    api: ApiClient, provider: FakeProvider
) -> None:
    set_prices(price_per_1k_input_tokens_microcredits=1_000)

    def held_for(*arguments: Any, **members: Any) -> int:
        # Found by the answer's request id, because two ids of one millisecond sort in any order.
        request_id = complete(api, *arguments, **members).headers["X-Request-Id"]
        return Hold.objects.get(request_id=request_id).amount_microcredits

    plain = held_for()
    tools = held_for(tools=[WEATHER])
    long = held_for([{"role": "user", "content": "x" * 300_000}])
    assert tools > plain + 1_000
    assert long == 1_000_000 + 131_072


@pytest.mark.parametrize("tool_calls", [(), (CALL,)])
def test_missing_usage_is_estimated(
    api: ApiClient, provider: FakeProvider, tool_calls: tuple[Any, ...]
) -> None:
    provider.script.append(reply("x" * 400, None, None, tool_calls=tool_calls))
    usage = complete(api, [{"role": "user", "content": "abcd" * 10}]).json()["usage"]
    output = 106 if tool_calls else 100
    assert usage == {
        "prompt_tokens": 10,
        "completion_tokens": output,
        "total_tokens": 10 + output,
        "estimated": True,
    }


@pytest.mark.parametrize(("output_tokens", "is_estimated"), [(36, False), (37, True)])
def test_more_tokens_than_were_asked_for_are_not_believed(
    api: ApiClient, provider: FakeProvider, output_tokens: int, is_estimated: bool
) -> None:
    set_prices(price_per_1k_output_tokens_microcredits=1_000_000)
    provider.script.append(reply("x" * 40, 7, output_tokens))
    usage = complete(api, max_tokens=20).json()["usage"]
    assert usage.get("estimated", False) is is_estimated
    assert usage["completion_tokens"] == (10 if is_estimated else output_tokens)
    # Within the tolerance, the hold is the upper bound.
    charged = 1_000_000 + (10_000 if is_estimated else 20_000)
    assert Message.objects.get().charged_microcredits == charged
    assert_books_agree()


def test_keeps_the_books_but_no_text(site: Site, api: ApiClient, provider: FakeProvider) -> None:
    provider.script.append(reply("secret answer", 7, 3))
    response = complete(api, headers={"X-Request-Id": "order-7"})
    message = Message.objects.get()
    assert (message.session_id, message.role, message.content) == (None, "assistant", "")
    assert (message.input_tokens, message.output_tokens) == (7, 3)
    assert (message.charged_microcredits, message.provider_name) == (1_000_000, "fake")
    receipt = api.get("/api/usage/order-7").json()
    assert receipt["credits"] == {"charged": "1.000000", "balance_after": "99.000000"}
    assert api.get(f"/api/usage/{response.json()['id']}").json() == receipt
    total = api.get("/api/usage").json()["total"]
    assert (total["requests"], total["total_tokens"], total["credits"]) == (1, 10, "1.000000")
    assert_books_agree()


def test_a_strangers_completion_is_as_unknown_as_any(
    api: ApiClient, stranger: Site, provider: FakeProvider
) -> None:
    mine = complete(api).json()["id"]
    theirs = ApiClient(stranger.api_key)
    answers = [theirs.get(f"/api/usage/{name}") for name in (mine, "chatcmpl-" + "0" * 32)]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json()["error"] == answers[1].json()["error"]
    assert theirs.get("/api/usage").json()["total"]["requests"] == 0


def test_exhausted_credits_are_402(provider: FakeProvider) -> None:
    api = ApiClient(make_site(credit_amount=0).api_key)
    assert_error(complete(api), 402, "credits_exhausted")
    assert provider.requests == []


def test_the_day_and_the_minute_are_those_of_the_chat(provider: FakeProvider, clock: Any) -> None:
    site = make_site(daily_quota=2, requests_per_minute=3)
    api = ApiClient(site.api_key)
    assert api.chat().status_code == 200
    response = complete(api)
    assert response["X-Budget-Warning"] == "daily_quota; used=2; limit=2"
    assert_error(complete(api), 429, "daily_quota_reached")
    refused = complete(api)
    assert_error(refused, 429, "rate_limited")
    assert refused["Retry-After"] == refused["X-RateLimit-Reset"] == "61"


def test_a_failing_provider_is_502_and_costs_nothing(
    api: ApiClient, provider: FakeProvider
) -> None:
    provider.fail()
    assert_error(complete(api), 502, "provider_error")
    assert Hold.objects.get().state == "released"
    assert api.get("/api/key").json()["limits"]["day"]["used"] == 0
    assert not Message.objects.exists()
    assert_books_agree()


def test_what_every_provider_refuses_is_not_tried_again(
    api: ApiClient, provider: FakeProvider
) -> None:
    provider.fail("status_400", fault=Fault.REQUEST)
    assert_error(complete(api), 400, "invalid_request")
    provider.fail("context_length_exceeded", fault=Fault.REQUEST)
    assert_error(complete(api), 400, "context_length_exceeded", "messages")
    assert_books_agree()


def test_a_crash_of_our_own_is_500(api: ApiClient, provider: FakeProvider) -> None:
    provider.script.append(RuntimeError("a bug"))
    assert "a bug" not in assert_error(complete(api), 500, "internal_error")
    assert Hold.objects.get().state == "released"


def test_an_idempotency_key_replays(api: ApiClient, provider: FakeProvider) -> None:
    key = {"Idempotency-Key": "k1"}
    first, again = complete(api, headers=key), complete(api, headers=key)
    assert again.content == first.content
    assert again["Idempotency-Replayed"] == "true"
    assert_error(complete(api, seed=1, headers=key), 422, "idempotency_key_reused")
    assert len(provider.requests) == 1
    both = {"message": "m", "session_id": "s", "model": MODEL, "messages": HELLO}
    other = {"Idempotency-Key": "k2"}
    Route.objects.update(allowed_parameters="message session_id")
    assert api.post("/v1/chat/completions", both, other).status_code == 200
    assert api.post("/api/chat", both, other).status_code == 422


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
    response = complete(ApiClient(site.test_key), headers={"X-Simulate": what})
    assert_error(response, status, what)
