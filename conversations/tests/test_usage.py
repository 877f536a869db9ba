"""GET /api/usage: receipts and totals that equal the ledger."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import Sum

from billing.models import LedgerEntry
from channels.tests.factories import Site, set_prices
from common.money import parse_credits
from conversations.api.usage import ReceiptSchema
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db


def test_a_receipt_says_what_was_charged_and_why(
    api: ApiClient, provider: FakeProvider, clock: Any
) -> None:
    set_prices(price_per_1k_output_tokens_microcredits=2_000)
    provider.script.append(reply(input_tokens=7, output_tokens=500))
    chat = api.chat(headers={"X-Request-Id": "order-7"})
    set_prices(price_per_1k_output_tokens_microcredits=9_000)
    by_message = api.get(f"/api/usage/{chat.json()['message_id']}")
    assert by_message.json() == {
        "message_id": chat.json()["message_id"],
        "request_id": "order-7",
        "created_at": "2026-04-05T12:00:00Z",
        "outcome": "answered",
        "reason": "",
        "model": "llama-3.3-70b-versatile",
        "provider": "fake",
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 500,
            "total_tokens": 507,
            "estimated": False,
        },
        "price": {
            "per_reply": "1.000000",
            "per_1k_input_tokens": "0.000000",
            "per_1k_output_tokens": "0.002000",
        },
        "credits": {"charged": "1.001000", "balance_after": "98.999000"},
    }
    assert api.get("/api/usage/order-7/").json() == by_message.json()
    assert by_message.json().keys() == ReceiptSchema().fields.keys()


def test_a_strangers_receipt_is_as_unknown_as_any(
    site: Site, stranger: Site, provider: FakeProvider
) -> None:
    chat = ApiClient(site.api_key).chat(headers={"X-Request-Id": "mine"})
    theirs = ApiClient(stranger.api_key)
    test = ApiClient(site.test_key)
    answers = [
        client.get(f"/api/usage/{reference}")
        for client in (theirs, test)
        for reference in (chat.json()["message_id"], "mine", "nobody's".replace("'", ""))
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.json()["error"] for answer in answers}) == 1


def test_totals_equal_the_ledger(
    site: Site, api: ApiClient, provider: FakeProvider, clock: Any
) -> None:
    set_prices(price_per_1k_input_tokens_microcredits=333)
    for hours in (0, 11.9, 0.2, 30):
        clock.shift(hours * 3600)
        provider.script.append(reply(input_tokens=17, output_tokens=3))
        assert api.chat().status_code == 200
    ApiClient(site.test_key).chat()
    body = api.get("/api/usage?from=2026-04-05&to=2026-04-07").json()
    assert [(group["day"], group["requests"]) for group in body["groups"]] == [
        ("2026-04-05", 2),
        ("2026-04-06", 1),
        ("2026-04-07", 1),
    ]
    charged = LedgerEntry.objects.filter(kind="charge").aggregate(s=Sum("amount_microcredits"))["s"]
    assert parse_credits(body["total"]["credits"]) == charged
    assert sum(parse_credits(group["credits"]) for group in body["groups"]) == charged
    assert body["total"]["prompt_tokens"] == 4 * 17
    by_model = api.get("/api/usage/?group_by=model&from=2026-04-01").json()
    assert [group["model"] for group in by_model["groups"]] == ["llama-3.3-70b-versatile"]
    assert by_model["total"] == body["total"]


def test_the_default_period_is_the_last_30_days(api: ApiClient, clock: Any) -> None:
    body = api.get("/api/usage").json()
    assert (body["from"], body["to"], body["groups"]) == ("2026-03-07", "2026-04-05", [])
    assert body["total"]["credits"] == "0.000000"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=yesterday", "from"),
        ("to=2026-13-01", "to"),
        ("from=2026-04-02&to=2026-04-01", "from"),
        ("from=2020-01-01&to=2026-04-01", "from"),
        ("to=0001-01-01", "to"),
        ("group_by=hour", "group_by"),
    ],
)
def test_a_wrong_period_is_named(api: ApiClient, query: str, field: str) -> None:
    response = api.get(f"/api/usage?{query}")
    assert response.status_code == 400
    assert set(response.json()["fields"]) == {field}


def test_answers_carry_what_is_left_and_warn_before_the_walls(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    assert api.chat()["X-Credits-Remaining"] == "99.000000"
    site.channel.daily_quota = 5
    site.channel.save()
    answers = [api.chat() for _ in range(4)]
    warnings = [answer.headers.get("X-Budget-Warning") for answer in answers]
    assert warnings == [
        None,
        None,
        "daily_quota; used=4; limit=5",
        "daily_quota; used=5; limit=5",
    ]
    refused = api.chat()
    assert refused.status_code == 429


def test_warns_of_a_low_balance(site: Site, api: ApiClient, provider: FakeProvider) -> None:
    set_prices(price_per_reply_microcredits=91_000_000)
    assert api.chat()["X-Budget-Warning"] == "low_balance"


def test_the_money_path_takes_two_statements(api: ApiClient, provider: FakeProvider) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    api.chat()
    with CaptureQueriesContext(connection) as captured:
        assert api.chat().status_code == 200
    money = [q["sql"] for q in captured if "billing_" in q["sql"] and "ratewindow" not in q["sql"]]
    # SQLite needs one statement for each step of admission and settlement.
    assert len(money) == (2 if connection.vendor == "postgresql" else 7), money
