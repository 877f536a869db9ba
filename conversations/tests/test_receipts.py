"""GET /api/usage/{id} for failures, refusals, replays, and saved replies."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from billing.models import LedgerEntry
from channels.models import ApiKey
from channels.tests.factories import Site, make_site, save_reply
from conversations.api.usage import ReceiptSchema
from conversations.archive import retention
from conversations.models import FailedRequest, Message, ReplayedRequest
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db

MODEL = {"model": "llama-3.3-70b-versatile"}
COMPLETION = MODEL | {"messages": [{"role": "user", "content": "Hi"}]}


def free_receipt(**changes: Any) -> dict[str, Any]:
    tokens = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "estimated": False}
    return {
        "message_id": None,
        "request_id": "r-1",
        "created_at": "2026-04-05T12:00:00Z",
        "reason": "",
        "model": "llama-3.3-70b-versatile",
        "provider": "",
        "usage": tokens,
        "price": None,
        "credits": {"charged": "0.000000", "balance_after": None},
    } | changes


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_failure_has_a_receipt_under_the_id_in_its_error(
    api: ApiClient, provider: FakeProvider, clock: Any, is_stream: bool
) -> None:
    provider.fail("timeout")
    failed = api.chat(stream=is_stream)
    assert failed["X-Request-Id"] == failed.json()["request_id"]
    receipt = api.get(f"/api/usage/{failed.json()['request_id']}").json()
    wanted = {"outcome": "failed", "reason": "provider_error"}
    assert receipt == free_receipt(request_id=failed["X-Request-Id"], **wanted)
    assert receipt.keys() == ReceiptSchema().fields.keys()


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"daily_quota": 1}, "daily_quota_reached"), ({"credit_amount": 1}, "credits_exhausted")],
)
def test_a_refusal_has_a_receipt(
    provider: FakeProvider, clock: Any, fields: dict[str, Any], code: str
) -> None:
    api = ApiClient(make_site(**fields).api_key)
    api.chat()
    assert api.chat(headers={"X-Request-Id": "r-1"}).json()["code"] == code
    assert api.get("/api/usage/r-1").json() == free_receipt(outcome="refused", reason=code)


def test_a_refusal_under_v1_has_a_receipt(api: ApiClient, provider: FakeProvider) -> None:
    refused = api.post("/v1/chat/completions", COMPLETION | {"model": "gpt"})
    receipt = api.get(f"/api/usage/{refused['X-Request-Id']}").json()
    assert (receipt["outcome"], receipt["reason"]) == ("refused", "model_not_found")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"message": "Hi", "session_id": "s1"}),
        ("/v1/chat/completions", COMPLETION),
        ("/v1/responses", MODEL | {"input": "Hi"}),
    ],
)
def test_a_replay_has_a_receipt_that_names_the_reply(
    api: ApiClient, provider: FakeProvider, path: str, body: dict[str, Any]
) -> None:
    first, second = (
        api.post(path, body, {"Idempotency-Key": "k", "X-Request-Id": request_id})
        for request_id in ("r-0", "r-1")
    )
    assert second["Idempotency-Replayed"] == "true"
    assert first.content == second.content
    original, replay = (api.get(f"/api/usage/r-{number}").json() for number in (0, 1))
    assert (original["outcome"], original["credits"]["charged"]) == ("answered", "1.000000")
    assert replay == free_receipt(
        outcome="replayed",
        message_id=original["message_id"],
        created_at=replay["created_at"],
    )
    assert LedgerEntry.objects.filter(kind="charge").count() == 1


def test_a_saved_reply_has_a_receipt(site: Site, api: ApiClient, provider: FakeProvider) -> None:
    save_reply(site.channel, "Opening hours?", "Nine to five.")
    api.chat("Opening hours?", headers={"X-Request-Id": "r-1"})
    receipt = api.get("/api/usage/r-1").json()
    assert (receipt["outcome"], receipt["reason"]) == ("saved_reply", "")
    assert receipt["credits"]["charged"] == "0.000000"


def test_of_requests_with_one_id_the_newest_counts(
    api: ApiClient, provider: FakeProvider, clock: Any
) -> None:
    mine = {"X-Request-Id": "r-1"}
    outcomes = []
    for fails in (False, True, False):
        clock.shift(1)
        if fails:
            provider.fail()
        api.chat(headers=mine)
        outcomes.append(api.get("/api/usage/r-1").json()["outcome"])
    clock.shift(1)
    for _ in range(2):
        api.chat("Again", headers=mine | {"Idempotency-Key": "k"})
        clock.shift(1)
    outcomes.append(api.get("/api/usage/r-1").json()["outcome"])
    assert outcomes == ["answered", "failed", "answered", "replayed"]


def test_strangers_and_test_keys_find_no_receipt_of_failures_and_replays(
    site: Site, stranger: Site, provider: FakeProvider
) -> None:
    api = ApiClient(site.api_key)
    provider.fail()
    api.chat(headers={"X-Request-Id": "failed"})
    for request_id in ("first", "replayed"):
        api.chat(headers={"Idempotency-Key": "k", "X-Request-Id": request_id})
    for request_id in ("failed", "replayed"):
        assert api.get(f"/api/usage/{request_id}").status_code == 200
        for key in (stranger.api_key, site.test_key):
            assert ApiClient(key).get(f"/api/usage/{request_id}").status_code == 404


def test_each_request_is_stored_with_its_key(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    own = ApiKey.objects.get(channel=site.channel, mode="live").id
    for _ in range(2):
        api.chat(headers={"Idempotency-Key": "k"})
    api.post("/v1/chat/completions", COMPLETION)
    provider.fail()
    api.chat()
    replies = Message.objects.filter(role="assistant").values_list("api_key_id", flat=True)
    assert list(replies) == [own, own]
    assert FailedRequest.objects.get().api_key_id == own
    assert ReplayedRequest.objects.get().api_key_id == own
    assert Message.objects.get(role="user").api_key_id is None


def test_erasing_a_session_forgets_whose_its_replays_were(
    api: ApiClient, provider: FakeProvider
) -> None:
    for _ in range(2):
        api.chat(headers={"Idempotency-Key": "k"})
    api.erase()
    assert ReplayedRequest.objects.get().session_id == ""


def test_replays_past_retention_are_deleted(site: Site) -> None:
    now = timezone.now()
    for age in (29, 31):
        ReplayedRequest.objects.create(
            channel=site.channel, is_test=False, created_at=now - timedelta(days=age)
        )
    retention.expire_stale_sessions(now=now)
    assert ReplayedRequest.objects.count() == 1


def test_the_id_in_every_recorded_error_opens_its_receipt(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    """The contract: a receipt also of a failure, refusal, or replay, charged 0."""
    used = {"Idempotency-Key": "used"}
    api.chat("One", headers=used)
    provider.fail()
    answers = {
        "invalid_request": api.chat(""),
        "unsupported_media_type": api.client.post(
            "/api/chat", "x", content_type="text/plain", headers=api.headers
        ),
        "idempotency_key_reused": api.chat("Two", headers=used),
        "provider_error": api.chat(),
        "model_not_found": api.post("/v1/responses", {"model": "gpt", "input": "Hi"}),
    }
    for code, answer in answers.items():
        receipt = api.get(f"/api/usage/{answer['X-Request-Id']}").json()
        assert receipt["reason"] == code
        assert receipt["outcome"] == ("failed" if code == "provider_error" else "refused")
        assert receipt["credits"] == {"charged": "0.000000", "balance_after": None}
        if code != "model_not_found":  # OpenAI's shape has the id in the header alone
            assert answer.json()["request_id"] == receipt["request_id"]
