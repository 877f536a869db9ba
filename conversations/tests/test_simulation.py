"""X-Simulate: every error class on demand and free, with a test key."""

from __future__ import annotations

from typing import Any

import pytest

from billing.models import Hold
from billing.tests.test_settlement import differences
from channels.providers import simulated
from channels.tests.factories import Site, make_site
from conversations.tests.test_streaming import parse
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db


def ask(site: Site, what: str, **more: Any) -> Any:
    return ApiClient(site.test_key).chat(headers={"X-Simulate": what}, **more)


@pytest.mark.parametrize(
    ("what", "status"),
    [
        ("rate_limited", 429),
        ("daily_quota_reached", 429),
        ("credits_exhausted", 403),
        ("site_disabled", 403),
        ("provider_error", 500),
    ],
)
def test_every_error_can_be_had(site: Site, what: str, status: int) -> None:
    site.channel.fallback_replies = {what: "Please call us."}
    site.channel.save()
    response = ask(site, what)
    body = response.json()
    assert (response.status_code, body["code"]) == (status, what)
    assert body["fallback_reply"] == "Please call us."
    assert ("Retry-After" in response) == (status == 429)
    assert response["X-RateLimit-Limit"] == "60"
    assert differences() == []


def test_a_broken_stream_is_a_provider_error_for_a_plain_call(site: Site) -> None:
    assert ask(site, "midstream_error").json()["code"] == "provider_error"


def test_slow_answers_late(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("channels.providers.simulated.time.sleep", waits.append)
    assert ask(site, "slow").status_code == 200
    assert waits == [simulated.SLOW_SECONDS]


def test_an_unknown_word_is_named(site: Site) -> None:
    response = ask(site, "everything")
    assert response.status_code == 400
    assert "midstream_error" in response.json()["fields"]["X-Simulate"]


def test_a_live_keys_header_is_ignored(site: Site, provider: FakeProvider) -> None:
    response = ApiClient(site.api_key).chat(headers={"X-Simulate": "credits_exhausted"})
    assert response.status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_stream_breaks_off_after_some_pieces() -> None:
    response = ask(make_site(credit_amount=0), "midstream_error", stream=True)
    events = parse(response.getvalue())
    assert [name for name, _ in events] == ["delta"] * simulated.PIECES_BEFORE_BREAK + ["error"]
    assert Hold.objects.get().state == "released"
    assert differences() == []
