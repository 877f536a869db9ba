"""Idempotency-Key: one key, one turn, one charge."""

from __future__ import annotations

from typing import Any

import pytest

from billing.models import LedgerEntry
from channels.tests.factories import Site, make_site
from conversations.models import IdempotencyRecord, Message
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider, reply
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db
KEY = {"Idempotency-Key": "order-1"}


def code(response: Any) -> str:
    return str(response.json()["code"])


def test_a_replay_is_byte_equal_and_free(api: ApiClient, provider: FakeProvider) -> None:
    first = api.chat(headers=KEY)
    assert "Idempotency-Replayed" not in first
    for _ in range(3):
        again = api.chat(headers=KEY)
        assert again.status_code == 200
        assert again.content == first.content
        assert again["Idempotency-Replayed"] == "true"
        assert again["X-Request-Id"] != first["X-Request-Id"]
    assert len(provider.prompts) == 1
    assert LedgerEntry.objects.filter(kind="charge").count() == 1
    assert len(api.history()) == 2


def test_another_body_is_refused(api: ApiClient, provider: FakeProvider) -> None:
    api.chat("one", headers=KEY)
    response = api.chat("two", headers=KEY)
    assert (response.status_code, code(response)) == (422, "idempotency_key_reused")
    spaced = api.post("/api/chat", '{"message": "one","session_id": "s1"}', KEY)
    assert spaced.status_code == 422
    assert len(provider.prompts) == 1


def test_another_channel_and_the_test_key_are_independent(
    site: Site, stranger: Site, provider: FakeProvider
) -> None:
    bodies = {
        ApiClient(key).chat(headers=KEY).content
        for key in (site.api_key, stranger.api_key, site.test_key)
    }
    assert len(bodies) == 3


def test_replays_for_24_hours(api: ApiClient, provider: FakeProvider, clock: Any) -> None:
    first = api.chat(headers=KEY)
    clock.shift(24 * 3600 - 60)
    assert api.chat(headers=KEY).content == first.content
    clock.shift(120)
    anew = api.chat(headers=KEY)
    assert "Idempotency-Replayed" not in anew
    assert len(provider.prompts) == 2


def test_an_uncharged_failure_frees_the_key(api: ApiClient, provider: FakeProvider) -> None:
    provider.fail()
    assert api.chat(headers=KEY).status_code == 500
    provider.script.append(RuntimeError("a bug"))
    assert api.chat(headers=KEY).status_code == 500
    assert not IdempotencyRecord.objects.exists()
    assert api.chat(headers=KEY).status_code == 200
    assert len(api.history()) == 2


def test_a_refusal_frees_the_key(provider: FakeProvider) -> None:
    site = make_site(credit_amount=0)
    api = ApiClient(site.api_key)
    assert code(api.chat(headers=KEY)) == "credits_exhausted"
    assert not IdempotencyRecord.objects.exists()


def test_an_invalid_body_claims_nothing(api: ApiClient) -> None:
    assert api.post("/api/chat", {"message": ""}, KEY).status_code == 400
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.parametrize("key", ["k" * 256, "tab\tinside"])
def test_a_malformed_key_is_named(api: ApiClient, key: str) -> None:
    response = api.chat(headers={"Idempotency-Key": key})
    assert (response.status_code, code(response)) == (400, "invalid_request")
    assert set(response.json()["fields"]) == {"Idempotency-Key"}


def test_a_replay_works_with_quota_and_credits_used_up(provider: FakeProvider) -> None:
    api = ApiClient(make_site(credit_amount=1, daily_quota=1).api_key)
    first = api.chat(headers=KEY)
    assert api.chat(headers=KEY).content == first.content


def test_a_claim_whose_process_died_ends_by_arithmetic(
    api: ApiClient, provider: FakeProvider, clock: Any
) -> None:
    api.chat(headers=KEY)
    IdempotencyRecord.objects.update(body=None, expires_at="2026-04-05T12:01:00Z")
    response = api.chat(headers=KEY)
    assert (response.status_code, code(response)) == (409, "request_in_progress")
    assert response["Retry-After"] == "2"
    clock.shift(60)
    assert api.chat(headers=KEY).status_code == 200
    assert len(provider.prompts) == 2


def test_a_claim_that_was_taken_over_charges_nothing(
    api: ApiClient, provider: FakeProvider
) -> None:
    def take_over() -> Any:
        IdempotencyRecord.objects.update(claim_number=7)
        return reply()

    provider.script.append(take_over)
    assert api.chat(headers=KEY).status_code == 409
    assert not LedgerEntry.objects.filter(kind="charge").exists()
    assert not Message.objects.exists()


def test_erasing_a_session_erases_its_replays(api: ApiClient, provider: FakeProvider) -> None:
    api.chat("secret", headers=KEY)
    api.erase()
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_one_runs(provider: FakeProvider) -> None:
    api_key = make_site().api_key

    def send(index: int) -> tuple[int, bytes]:
        response = ApiClient(api_key).chat(headers=KEY)
        return response.status_code, response.content

    answers = run_in_threads(send, 12)
    assert {status for status, _ in answers} <= {200, 409}
    assert len({content for status, content in answers if status == 200}) == 1
    assert len(provider.prompts) == 1
    assert LedgerEntry.objects.filter(kind="charge").count() == 1
    assert len(ApiClient(api_key).history()) == 2
