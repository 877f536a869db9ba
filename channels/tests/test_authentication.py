"""Authentication: from the key in a header to its caller, and how changes apply at once."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import JSONField, Value
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from channels import api_keys, callers, channel_changes, usable_keys
from channels.authentication import generate_key
from channels.callers import find_caller
from channels.models import Account, ApiKey, LanguageModel
from channels.providers.base import Usage
from channels.tests.factories import Site, make_site
from common import crypto
from tests.support.clients import ApiClient

pytestmark = pytest.mark.django_db

Headers = Callable[[str], dict[str, str]]


def key_record(site: Site, mode: str = "live") -> ApiKey:
    return ApiKey.objects.get(channel=site.channel, mode=mode)


def status_of(key: str) -> int:
    return int(ApiClient(key).get("/api/key").status_code)


# --- The caller -----------------------------------------------------------------------------------


def test_a_key_finds_its_caller_in_one_query(
    django_assert_num_queries: DjangoAssertNumQueries, clock: Any
) -> None:
    site = make_site(
        system_prompt="Be kind.",
        requests_per_minute=7,
        daily_quota=9,
        model_id="gemma2-9b-it",
        fallback_replies={"daily_quota_reached": "Later.", "bad": 1, "empty": ""},
    )
    with django_assert_num_queries(1):
        caller = find_caller(site.api_key)
    assert caller is not None
    assert (caller.channel_id, caller.account_id) == (site.channel.id, site.account_id)
    assert (caller.channel_name, caller.system_prompt) == ("Shop", "Be kind.")
    assert (caller.requests_per_minute, caller.daily_quota) == (7, 9)
    assert caller.fallback_replies == {"daily_quota_reached": "Later."}
    assert caller.key_masked == f"amgai_…{site.api_key[-4:]}"
    assert (caller.key_created_at, caller.key_expires_at) == (timezone.now(), None)
    assert (caller.is_test, caller.is_enabled) == (False, True)
    model = LanguageModel.objects.get(model_id="gemma2-9b-it")
    assert (caller.model.id, caller.model.model_id) == (model.id, "gemma2-9b-it")
    assert (caller.model.context_window_tokens, caller.model.max_output_tokens) == (8192, 4096)
    assert caller.model.price(Usage(10, 10)) == 1_000_000
    assert site.caller(is_test=True).is_test


@pytest.mark.parametrize(
    "stored", [[], "text", 3, Value(None, JSONField()), [["a", "b"]], {"a": {"b": "c"}, "d": None}]
)
def test_fallback_replies_that_are_no_texts_break_no_request(site: Site, stored: Any) -> None:
    type(site.channel).objects.update(fallback_replies=stored)
    assert site.caller().fallback_replies == {}
    assert status_of(site.api_key) == 200


def test_an_unknown_key_has_no_caller(site: Site) -> None:
    assert find_caller(generate_key(is_test=False)) is None
    assert find_caller("") is None


def test_a_key_finds_nobody_under_another_pepper(site: Site, settings: Settings) -> None:
    settings.KEY_DIGEST_PEPPER = base64.b64encode(b"q" * 32).decode()
    assert find_caller(site.api_key) is None


def test_a_keys_row_holds_neither_the_key_nor_a_plain_hash(site: Site) -> None:
    record = key_record(site)
    assert record.key_digest == crypto.digest(site.api_key)
    assert site.api_key.encode() not in bytes(record.key_ciphertext)
    assert api_keys.reveal_api_key(record) == site.api_key
    assert str(record) == f"amgai_…{site.api_key[-4:]} (live)"


def test_a_ciphertext_moved_to_another_key_is_not_revealed(site: Site, stranger: Site) -> None:
    mine, theirs = key_record(site), key_record(stranger)
    ApiKey.objects.filter(id=theirs.id).update(key_ciphertext=bytes(mine.key_ciphertext))
    theirs.refresh_from_db()
    with pytest.raises(crypto.DecryptionError):
        api_keys.reveal_api_key(theirs)
    assert api_keys.reveal_api_key(mine) == site.api_key
    assert status_of(stranger.api_key) == 200  # the look-up needs only the digest


# --- Headers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers_for",
    [
        lambda key: {"X-API-Key": key},
        lambda key: {"X-API-Key": f"  {key} "},
        lambda key: {"Authorization": f"Bearer {key}"},
        lambda key: {"Authorization": f"bearer  {key}"},
        lambda key: {"Authorization": f"Bearer {key}", "X-API-Key": key},
        lambda key: {"Authorization": "Basic dXNlcjpwYXNz", "X-API-Key": key},
        lambda key: {"Authorization": "Bearer ", "X-API-Key": key},
    ],
)
def test_takes_the_key_from_either_header(site: Site, headers_for: Headers) -> None:
    assert Client().get("/api/key", headers=headers_for(site.api_key)).status_code == 200


@pytest.mark.parametrize(
    ("headers_for", "code"),
    [
        (lambda key: {}, "missing_api_key"),
        (lambda key: {"X-API-Key": ""}, "missing_api_key"),
        (lambda key: {"X-API-Key": "   "}, "missing_api_key"),
        (lambda key: {"Authorization": key}, "missing_api_key"),
        (lambda key: {"Authorization": f"Basic {key}"}, "missing_api_key"),
        (lambda key: {"Authorization": "Bearer"}, "missing_api_key"),
        (lambda key: {"Cookie": f"X-API-Key={key}"}, "missing_api_key"),
        (lambda key: {"X-API-Key": f"{key},{key}"}, "invalid_api_key"),
        (lambda key: {"Authorization": f"Bearer Bearer {key}"}, "invalid_api_key"),
        (lambda key: {"Authorization": f"Bearer {key}", "X-API-Key": "x"}, "invalid_api_key"),
        (lambda key: {"X-API-Key": key.upper()}, "invalid_api_key"),
    ],
)
def test_anything_else_is_401(site: Site, headers_for: Headers, code: str) -> None:
    response = Client().get("/api/key", headers=headers_for(site.api_key))
    assert (response.status_code, response.json()["code"]) == (401, code)
    assert site.api_key not in response.content.decode()


def injections() -> list[str]:
    """Return 200 texts with a special meaning for a database, a shell, a template or a log."""
    heads = ["' OR '1'='1", '" OR 1=1 --', "'; DROP TABLE channels_apikey; --", "${jndi:ldap://x}"]
    heads += ["{{7*7}}", "<script>alert(1)</script>", "../../etc/passwd", "%00", "\\x00", "*"]
    heads += ["amgai_%", "amgai______", "$(reboot)", "`id`", "|| pg_sleep(9)", "1e309", "null"]
    heads += ["\xff\xfe", "é" * 20, "a" * 5000]
    good = generate_key(is_test=False)
    return [
        form.format(h) for h in heads for form in ("{}", "amgai_{}", good + "{}", "{}" + good)
    ] + [good[:10] + head + good[10 + len(head) :] for head in heads for _ in range(6)]


def test_injection_strings_are_401_without_a_query_or_an_echo(
    site: Site, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    sent = injections()
    assert len(sent) == 200
    client = Client()
    for text in sent:
        with django_assert_num_queries(0):
            response = client.get("/api/key", headers={"X-API-Key": text})
        assert (response.status_code, response.json()["code"]) == (401, "invalid_api_key")
        assert len(text) < 5 or text not in response.content.decode()


def test_a_well_formed_unknown_key_takes_one_query(
    site: Site, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(1):
        assert status_of(generate_key(is_test=False)) == 401


# --- Rotation, revocation -------------------------------------------------------------------------


def test_a_rotated_key_works_until_the_second_its_overlap_ends(site: Site, clock: Any) -> None:
    old = key_record(site)
    new = api_keys.issue_api_key(channel=site.channel, is_test=False)
    api_keys.expire_api_key(api_key=old, at=timezone.now() + timedelta(hours=1))
    assert (status_of(site.api_key), status_of(new.clear)) == (200, 200)
    clock.shift(3599)
    assert status_of(site.api_key) == 200
    clock.shift(0.999)
    assert status_of(site.api_key) == 200
    clock.shift(0.001)
    assert (status_of(site.api_key), status_of(new.clear)) == (401, 200)


def test_a_key_works_until_the_second_it_expires(site: Site, clock: Any) -> None:
    ApiKey.objects.update(expires_at=timezone.now() + timedelta(seconds=60))
    body = ApiClient(site.api_key).get("/api/key").json()
    assert body["key"]["expires_at"] == "2026-04-05T12:01:00Z"
    clock.shift(59.999)
    assert status_of(site.api_key) == 200
    clock.shift(0.001)
    assert status_of(site.api_key) == 401


def test_a_revoked_key_is_refused_at_once_and_alone(site: Site, clock: Any) -> None:
    api_keys.revoke_api_key(api_key=key_record(site))
    assert (status_of(site.api_key), status_of(site.test_key)) == (401, 200)


def test_a_revocation_stays_as_it_was_made(site: Site, clock: Any) -> None:
    record = key_record(site)
    api_keys.revoke_api_key(api_key=record)
    clock.shift(60)
    revoked_at = key_record(site).revoked_at
    api_keys.revoke_api_key(api_key=record)
    api_keys.expire_api_key(api_key=record, at=timezone.now() + timedelta(days=1))
    assert status_of(site.api_key) == 401
    assert (key_record(site).revoked_at, key_record(site).expires_at) == (revoked_at, None)


def test_a_key_revoked_while_the_clock_ran_ahead_stays_refused(site: Site, clock: Any) -> None:
    """The key stays revoked whatever the corrected clock says, and no page lists it as usable."""
    clock.shift(3600)
    api_keys.revoke_api_key(api_key=key_record(site))
    clock.shift(-3600)
    assert status_of(site.api_key) == 401
    assert key_record(site) not in usable_keys.usable_keys(timezone.now())


def test_an_end_that_was_set_is_only_ever_moved_forward(site: Site, clock: Any) -> None:
    record = key_record(site)
    for minutes in (60, 90, 30):
        api_keys.expire_api_key(api_key=record, at=timezone.now() + timedelta(minutes=minutes))
    ends_at = key_record(site).expires_at
    assert ends_at is not None
    assert ends_at - timezone.now() == timedelta(minutes=30)


def test_a_key_in_its_overlap_can_still_be_revoked_at_once(site: Site, clock: Any) -> None:
    record = key_record(site)
    api_keys.expire_api_key(api_key=record, at=timezone.now() + timedelta(hours=1))
    assert status_of(site.api_key) == 200
    api_keys.revoke_api_key(api_key=record)
    assert status_of(site.api_key) == 401


# --- Disabled -------------------------------------------------------------------------------------


def test_a_disabled_channel_is_refused_by_the_next_request(site: Site, stranger: Site) -> None:
    assert status_of(site.api_key) == 200
    channel_changes.update_channel(channel_id=str(site.channel.id), is_enabled=False)
    for key in (site.api_key, site.test_key):
        response = ApiClient(key).get("/api/key")
        assert (response.status_code, response.json()["code"]) == (403, "site_disabled")
    assert status_of(stranger.api_key) == 200
    channel_changes.update_channel(channel_id=str(site.channel.id), is_enabled=True)
    assert status_of(site.api_key) == 200


def test_a_disabled_account_disables_all_its_channels(site: Site, stranger: Site) -> None:
    other = make_site(name="Second shop")
    assert other.account_id == site.account_id
    Account.objects.filter(id=site.account_id).update(is_enabled=False)
    for key in (site.api_key, other.api_key):
        response = ApiClient(key).get("/api/key")
        assert (response.status_code, response.json()["code"]) == (403, "site_disabled")
        assert "account" in response.json()["error"]
    assert status_of(stranger.api_key) == 200


def test_a_revoked_key_of_a_disabled_channel_is_401(site: Site) -> None:
    channel_changes.update_channel(channel_id=str(site.channel.id), is_enabled=False)
    api_keys.revoke_api_key(api_key=key_record(site))
    assert status_of(site.api_key) == 401


@pytest.mark.django_db
@pytest.mark.parametrize("is_test", [False, True])
def test_a_channel_is_a_caller_without_a_key_for_people_who_may_use_it(
    site: Site, is_test: bool
) -> None:
    caller = callers.find_channel_caller(channel_id=site.channel.id, is_test=is_test)
    assert caller
    assert (caller.channel_id, caller.account_id) == (site.channel.id, site.account_id)
    assert (caller.is_test, caller.key_masked) == (is_test, "…")
    assert callers.find_channel_caller(channel_id=uuid.uuid4(), is_test=is_test) is None
