"""An address that keeps sending made-up keys must wait; nobody else must."""

from __future__ import annotations

import ipaddress
import uuid
from typing import Any

import pytest
from django.http import HttpRequest
from django.test import Client, RequestFactory
from pytest_django import Settings

from channels.authentication import generate_key as make_key
from common import floods
from common.api.base import keep_trusted_scheme
from common.cache import Outage
from common.errors import RateLimited
from tests.support.clients import ApiClient

LIMIT = 5
factory = RequestFactory()


@pytest.fixture(autouse=True)
def _few_tries(settings: Settings, monkeypatch: pytest.MonkeyPatch, clock: Any) -> None:
    """Make a few tries reach the limit, and keep the minute from ending between two of them."""
    settings.FAILED_KEYS_PER_MINUTE = LIMIT
    monkeypatch.setattr(floods, "redis_outage", Outage())


def request_from(address: str, forwarded: str = "") -> HttpRequest:
    request = factory.get("/api/key", REMOTE_ADDR=address)
    if forwarded:
        request.META["HTTP_X_FORWARDED_FOR"] = forwarded
    return request


def fail(address: str, times: int = LIMIT) -> None:
    for _ in range(times):
        floods.count_failed_key(request_from(address))


@pytest.mark.parametrize("uses_redis", [False, True])
def test_an_address_over_the_limit_waits_and_others_do_not(
    settings: Settings, uses_redis: bool
) -> None:
    if not uses_redis:
        settings.REDIS_URL = ""
    elif not settings.REDIS_URL:
        pytest.skip("no REDIS_URL")
    # Unique to this run: Redis remembers for longer than a test, and other runs share it.
    address, neighbour = (str(ipaddress.IPv6Address(uuid.uuid4().int)) for _ in range(2))
    fail(address)
    for _ in range(2):
        with pytest.raises(RateLimited) as caught:
            fail(address, times=1)
        assert caught.value.retry_after is not None
        assert 1 <= caught.value.retry_after <= 60
    fail(neighbour)


def test_a_lost_redis_costs_one_try_and_then_this_process_counts(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("common.cache.RETRY_AFTER_SECONDS", 3600.0)
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    fail("192.0.2.1")
    assert [record.message for record in caplog.records] == ["cache.redis.lost"]
    with pytest.raises(RateLimited):
        fail("192.0.2.1", times=1)


@pytest.mark.django_db
def test_a_guesser_is_told_to_wait_and_a_valid_key_of_the_same_address_is_not(
    settings: Settings, api: ApiClient
) -> None:
    settings.REDIS_URL = ""
    guesser = ApiClient(make_key(is_test=False))
    codes = [guesser.get("/api/key").json()["code"] for _ in range(LIMIT + 2)]
    assert codes == ["invalid_api_key"] * LIMIT + ["rate_limited"] * 2
    assert guesser.get("/api/key").headers["Retry-After"]
    assert api.get("/api/key").status_code == 200


@pytest.mark.django_db
def test_malformed_keys_are_not_counted(settings: Settings) -> None:
    settings.REDIS_URL = ""
    for _ in range(LIMIT + 2):
        assert ApiClient("nonsense").get("/api/key").json()["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "203.0.113.9", "192.0.2.1"),  # anyone can send the header
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "1.1.1.1, 203.0.113.9", "203.0.113.9"),  # the first part is only the caller's claim
        (2, "1.1.1.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        (2, "203.0.113.9", "192.0.2.1"),
        (1, "", "192.0.2.1"),
        (1, "203.0.113.9, ", "192.0.2.1"),
        (1, "203.0.113.9:52100", "203.0.113.9"),
        (1, "[2001:db8::9]:52100", "2001:db8::9"),
        (1, "2001:DB8:0:0::9", "2001:db8::9"),
        (1, '"[2001:db8::9]"', "2001:db8::9"),
        (1, "fe80::1%eth0", "fe80::1"),
        (1, "::ffff:203.0.113.9", "203.0.113.9"),
        (1, "unknown", "192.0.2.1"),
        (1, "example.com", "192.0.2.1"),
        (1, "203.0.113.9 OR 1=1", "192.0.2.1"),
        (1, "1" * 5000, "192.0.2.1"),
        (1, "203.0.113.999", "192.0.2.1"),
        (1, "٣.٣.٣.٣", "192.0.2.1"),
        (3, "a, b", "192.0.2.1"),
        (1, ",".join(["1.1.1.1"] * 500 + ["203.0.113.9"]), "203.0.113.9"),
    ],
)
def test_the_address_is_the_one_a_trusted_proxy_saw(
    settings: Settings, proxies: int, forwarded: str, address: str
) -> None:
    settings.TRUSTED_PROXY_COUNT = proxies
    assert floods.client_address(request_from("192.0.2.1", forwarded)) == address


def test_the_header_can_have_a_name_that_cannot_be_forged(settings: Settings) -> None:
    # WSGI merges X-Forwarded-For and X_Forwarded_For into one name. Nothing else maps to this one.
    settings.TRUSTED_PROXY_COUNT, settings.TRUSTED_PROXY_META = 1, "HTTP_CLIENTADDRESS"
    request = request_from("192.0.2.1", "6.6.6.6")
    request.META["HTTP_CLIENTADDRESS"] = "203.0.113.9"
    assert floods.client_address(request) == "203.0.113.9"


@pytest.mark.parametrize("proto", ["http, https", "https"])
def test_the_scheme_is_the_one_a_trusted_proxy_wrote(settings: Settings, proto: str) -> None:
    settings.TRUSTED_PROXY_COUNT = 1
    meta = {"HTTP_X_FORWARDED_PROTO": proto}
    keep_trusted_scheme(meta)
    assert meta["HTTP_X_FORWARDED_PROTO"] == "https"


def test_neighbours_in_one_ipv6_network_are_counted_as_one(settings: Settings) -> None:
    settings.REDIS_URL = ""
    fail("2001:db8:1:2::1")
    with pytest.raises(RateLimited):
        fail("2001:db8:1:2:ffff::9", times=1)
    fail("2001:db8:1:3::1", times=1)


@pytest.mark.django_db
def test_a_flood_writes_one_line_a_minute(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.REDIS_URL = ""
    caplog.set_level("INFO")
    guesser = ApiClient(make_key(is_test=False))
    for _ in range(LIMIT + 20):
        guesser.get("/api/key")
    said = [record.getMessage() for record in caplog.records]
    assert said.count("api.keys.flooded") == 1
    assert said.count("http.request.finished") == LIMIT


@pytest.mark.django_db
def test_a_header_of_any_length_breaks_no_page(settings: Settings) -> None:
    settings.TRUSTED_PROXY_COUNT = 1
    form = {"email": "anna@example.com", "password1": "correct-horse-battery"}
    for forwarded in ("x" * 4000, "1.2.3.4:99", "[::1", "\x00"):
        answer = Client().post("/accounts/signup/", form, headers={"X-Forwarded-For": forwarded})
        assert answer.status_code in (302, 429)
