"""Cached and reasoning tokens: reported, charged to the micro-credit, shown the same everywhere."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from billing.models import CreditAccount, Hold, LedgerEntry
from channels.models import LanguageModel
from channels.providers.base import Completion, Usage
from channels.tests.factories import Site, make_site, set_prices
from common.money import format_credits
from conversations.models import Message
from conversations.tests import test_openai_streaming, test_streaming
from conversations.tests.test_openai import assert_books_agree, complete
from tests.shapes import DONE
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider
from tests.support.provider import chunk, served

pytestmark = pytest.mark.django_db(transaction=True)

# An input token, a cached one, and an output token cost 400, 100, and 1,000 micro-credits.
PRICES = {
    "price_per_1k_input_tokens_microcredits": 400_000,
    "price_per_1k_cached_input_tokens_microcredits": 100_000,
    "price_per_1k_output_tokens_microcredits": 1_000_000,
}
FLAT, INPUT, CACHED, OUTPUT = 1_000_000, 400, 100, 1_000
TOLD = {"prompt_tokens": 50, "completion_tokens": 20}
ORDER = {"X-Request-Id": "order-7"}

both_paths = pytest.mark.parametrize("path", ["chat", "v1"])
both_ways = pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])


@pytest.fixture
def site() -> Site:
    site = make_site()
    set_prices(**PRICES)
    return site


def pieces_of(usage: Any, *, is_stream: bool) -> tuple[list[bytes], dict[str, str]]:
    """Return the arguments of `served` for an answer whose provider reports this usage."""
    told = {"usage": usage}
    if is_stream:
        last = b"data: " + orjson.dumps({"choices": []} | told) + b"\n\n"
        return [chunk("Hi!"), chunk(None, "stop"), last, DONE], {}
    message = {"role": "assistant", "content": "Hi!"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return [orjson.dumps({"choices": [choice]} | told)], {"content_type": "application/json"}


def ask(api: ApiClient, path: str, *, is_stream: bool, **headers: str) -> dict[str, Any]:
    """Return the usage of an answer, and for the chat also its credits."""
    more: dict[str, Any] = {"stream": is_stream, "headers": headers}
    if path == "chat":
        response = api.chat(**more)
    elif is_stream:
        response = complete(api, stream_options={"include_usage": True}, **more)
    else:
        response = complete(api, **more)
    body: dict[str, Any]
    if not is_stream:
        body = response.json()
    elif path == "chat":
        body = test_streaming.parse(response.getvalue())[-1][1]
    else:
        body = test_openai_streaming.parse(response.getvalue())[-2]
    assert response.status_code == 200, body
    return {"usage": body["usage"], "credits": body.get("credits")}


def charged() -> int:
    return 100_000_000 - CreditAccount.objects.get().balance_microcredits


# The usage that a provider reports besides 50 and 20 tokens, then the cached and reasoning tokens
# that the gateway believes.
SHAPES: dict[str, tuple[dict[str, Any], int | None, int | None]] = {
    "both": (
        {
            "prompt_tokens_details": {"cached_tokens": 30},
            "completion_tokens_details": {"reasoning_tokens": 12},
        },
        30,
        12,
    ),
    "none of them": ({}, None, None),
    "nothing cached": ({"prompt_tokens_details": {"cached_tokens": 0}}, 0, None),
    "all cached": ({"prompt_tokens_details": {"cached_tokens": 50}}, 50, None),
    "more than there is": (
        {
            "prompt_tokens_details": {"cached_tokens": 9_999},
            "completion_tokens_details": {"reasoning_tokens": 9_999},
        },
        50,
        20,
    ),
    "negative": (
        {
            "prompt_tokens_details": {"cached_tokens": -1},
            "completion_tokens_details": {"reasoning_tokens": -5},
        },
        None,
        None,
    ),
    "floats": (
        {
            "prompt_tokens_details": {"cached_tokens": 30.0},
            "completion_tokens_details": {"reasoning_tokens": 12.0},
        },
        30,
        12,
    ),
    "parts of a token": ({"prompt_tokens_details": {"cached_tokens": 1.5}}, None, None),
    "text": ({"prompt_tokens_details": {"cached_tokens": "30"}}, 30, None),
    "yes": ({"prompt_tokens_details": {"cached_tokens": True}}, None, None),
    "null": ({"prompt_tokens_details": None, "completion_tokens_details": None}, None, None),
    "no object": ({"prompt_tokens_details": [30], "completion_tokens_details": 12}, None, None),
    "as DeepSeek": ({"prompt_cache_hit_tokens": 30, "prompt_cache_miss_tokens": 20}, 30, None),
}  # fmt: skip


@both_ways
@both_paths
@pytest.mark.parametrize("shape", SHAPES)
def test_reply_receipt_totals_and_ledger_agree_to_the_microcredit(
    api: ApiClient, settings: Any, shape: str, path: str, is_stream: bool
) -> None:
    more, cached, reasoning = SHAPES[shape]
    pieces, options = pieces_of(TOLD | more, is_stream=is_stream)
    headers = ORDER | {"Idempotency-Key": "k"}
    with served(*pieces, **options) as settings.PROVIDER_BASE_URL:
        answer = ask(api, path, is_stream=is_stream, **headers)
    usage: dict[str, Any] = TOLD | {"total_tokens": 70}
    if cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    if reasoning is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    price = FLAT + (50 - (cached or 0)) * INPUT + (cached or 0) * CACHED + 20 * OUTPUT
    assert answer["usage"] == usage
    assert charged() == price

    receipt = api.get("/api/usage/order-7").json()
    assert receipt["usage"] == usage | {"estimated": False}
    assert receipt["price"] == {
        "per_reply": "1.000000",
        "per_1k_input_tokens": "0.400000",
        "per_1k_output_tokens": "1.000000",
        "per_1k_cached_input_tokens": "0.100000",
    }
    assert receipt["credits"]["charged"] == format_credits(price)
    if path == "chat":
        assert answer["credits"]["charged"] == format_credits(price)
    total = api.get("/api/usage").json()["total"]
    assert (total["prompt_tokens"], total["completion_tokens"]) == (50, 20)
    assert total["credits"] == format_credits(price)

    assert ask(api, path, is_stream=is_stream, **headers) == answer
    assert LedgerEntry.objects.filter(kind="charge").count() == 1
    assert Hold.objects.get().amount_microcredits > price
    assert_books_agree()


@both_ways
@both_paths
def test_without_a_price_of_its_own_cached_input_costs_as_any(
    api: ApiClient, settings: Any, path: str, is_stream: bool
) -> None:
    LanguageModel.objects.update(price_per_1k_cached_input_tokens_microcredits=None)
    usage = TOLD | {"prompt_tokens_details": {"cached_tokens": 30}}
    pieces, options = pieces_of(usage, is_stream=is_stream)
    with served(*pieces, **options) as settings.PROVIDER_BASE_URL:
        answer = ask(api, path, is_stream=is_stream, **ORDER)
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 30}
    assert charged() == FLAT + 50 * INPUT + 20 * OUTPUT
    assert "per_1k_cached_input_tokens" not in api.get("/api/usage/order-7").json()["price"]
    assert_books_agree()


@both_paths
def test_cached_input_can_be_free(api: ApiClient, settings: Any, path: str) -> None:
    set_prices(price_per_1k_cached_input_tokens_microcredits=0)
    usage = TOLD | {"prompt_tokens_details": {"cached_tokens": 50}}
    pieces, options = pieces_of(usage, is_stream=False)
    with served(*pieces, **options) as settings.PROVIDER_BASE_URL:
        ask(api, path, is_stream=False)
    assert charged() == FLAT + 20 * OUTPUT
    assert_books_agree()


@both_paths
@pytest.mark.parametrize("input_price", [0, 400_000])
def test_a_cached_price_above_that_of_input_never_charges_above_the_hold(
    api: ApiClient, settings: Any, path: str, input_price: int
) -> None:
    """Such a price bypasses the form's check. The hold counts all input at the input price."""
    set_prices(
        price_per_1k_input_tokens_microcredits=input_price,
        price_per_1k_cached_input_tokens_microcredits=10**9,
        price_per_1k_output_tokens_microcredits=0,
    )
    usage = TOLD | {"prompt_tokens_details": {"cached_tokens": 50}}
    pieces, options = pieces_of(usage, is_stream=False)
    with served(*pieces, **options) as settings.PROVIDER_BASE_URL:
        ask(api, path, is_stream=False)
    hold = Hold.objects.get()
    assert charged() == hold.captured_microcredits == hold.amount_microcredits
    assert Message.objects.get(role="assistant").charged_microcredits == charged()
    assert_books_agree()


@both_paths
def test_an_estimate_knows_nothing_of_the_cache(
    api: ApiClient, provider: FakeProvider, path: str
) -> None:
    absurd = Usage(10**6, 20, cached_input_tokens=10**6, reasoning_tokens=3)
    provider.script.append(Completion("Hi!", "stop", absurd))
    usage = ask(api, path, is_stream=False)["usage"]
    assert usage["estimated"] is True
    assert "prompt_tokens_details" not in usage
    assert charged() == FLAT + usage["prompt_tokens"] * INPUT + usage["completion_tokens"] * OUTPUT
    assert_books_agree()


def test_a_loss_is_booked_at_the_price_of_what_was_cached(
    api: ApiClient, provider: FakeProvider
) -> None:
    used = Usage(50, 20, cached_input_tokens=30)
    provider.script.append(Completion("", "content_filter", used))
    assert api.chat().json()["code"] == "content_filtered"
    loss = LedgerEntry.objects.get(kind="absorbed").amount_microcredits
    assert loss == FLAT + 20 * INPUT + 30 * CACHED + 20 * OUTPUT
    assert charged() == 0
    assert_books_agree()


def test_the_catalogue_tells_the_cached_price_where_there_is_one(api: ApiClient) -> None:
    (first, *_) = api.get("/api/models").json()["models"]
    assert first["price"]["per_1k_cached_input_tokens"] == "0.100000"
    LanguageModel.objects.update(price_per_1k_cached_input_tokens_microcredits=None)
    (first, *_) = api.get("/api/models").json()["models"]
    assert "per_1k_cached_input_tokens" not in first["price"]
