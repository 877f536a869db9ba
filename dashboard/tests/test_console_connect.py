"""The Connect tab: this channel's own URL and limits, code to copy, one click to test a key."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from billing.models import LedgerEntry
from channels import api_keys, callers, channel_changes
from channels.models import ApiKey, AuditEntry, Membership, Plan
from channels.tests.factories import Site, make_site, set_prices
from conversations.models import ChatSession
from dashboard.console.access import begin_staff_view
from dashboard.reference import facts
from dashboard.reference.snippets import KEY_PLACEHOLDER
from tests.support.clients import member_client, owner_client
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db

Role = Membership.Role


def key_of(site: Site, mode: str) -> ApiKey:
    return ApiKey.objects.get(channel=site.channel, mode=mode)


def show(client: Client, site: Site, **headers: str) -> str:
    response = client.get(reverse("console:connect", args=(site.channel.id,)), headers=headers)
    assert response.status_code == 200
    return response.content.decode()


def try_key(client: Client, site: Site, key: ApiKey | None = None, key_id: str = "") -> Any:
    return client.post(
        reverse("console:test_key", args=(site.channel.id,)),
        {"key_id": str(key.id) if key else key_id},
    )


# --- The page -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("connected")
def test_shows_this_channels_address_model_and_limits(site: Site) -> None:
    channel_changes.update_channel(
        channel_id=str(site.channel.id), requests_per_minute=7, daily_quota=1234
    )
    html = show(owner_client(site), site)
    assert "http://testserver/api/chat" in html
    assert "http://testserver/v1" in html
    assert site.channel.model.model_id in html
    assert "7 messages" in html
    assert "1,234 messages" in html
    assert "1 credit per reply" in html


def test_the_plans_limits_count_where_they_are_tighter(site: Site) -> None:
    account = site.channel.account
    account.plan = Plan.objects.create(name="Small", requests_per_minute=3)
    account.save()
    assert "3 messages" in show(owner_client(site), site)


@pytest.mark.parametrize("is_trusted", [True, False])
def test_the_address_is_that_of_the_proxy_where_one_is_trusted(
    site: Site, settings: Any, is_trusted: bool
) -> None:
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if is_trusted else None
    html = show(owner_client(site), site, **{"Host": "testserver", "X-Forwarded-Proto": "https"})
    assert ("https://testserver/api/chat" in html) == is_trusted
    assert ("http://testserver/api/chat" in html) != is_trusted


def test_no_page_holds_a_key(site: Site) -> None:
    html = show(owner_client(site), site)
    assert site.api_key not in html
    assert site.test_key not in html
    assert key_of(site, "live").masked in html
    assert html.count(f"<span data-api-key>{KEY_PLACEHOLDER}</span>") >= 15


def test_warns_that_the_key_belongs_into_the_backend(site: Site) -> None:
    assert "The key belongs in your backend, and nowhere else." in show(owner_client(site), site)


def test_every_code_and_every_simulation_is_explained(site: Site) -> None:
    html = show(owner_client(site), site)
    for row in facts.ERRORS:
        assert f">{row.code}<" in html
    for name in facts.SIMULATIONS:
        assert f">{name}<" in html


def test_the_page_needs_few_queries(site: Site, django_assert_max_num_queries: Any) -> None:
    client = owner_client(site)
    for _ in range(20):
        api_keys.issue_api_key(channel=site.channel, is_test=False)
    with django_assert_max_num_queries(12):
        show(client, site)


def test_ids_are_unique_and_every_copy_button_has_its_text(site: Site) -> None:
    html = show(owner_client(site), site)
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    for target in re.findall(r'data-copy-from="#([^"]+)"', html):
        assert target in ids


def test_a_channel_without_a_working_key_is_told_so(site: Site) -> None:
    for key in ApiKey.objects.filter(channel=site.channel):
        api_keys.revoke_api_key(api_key=key)
    assert "This channel has no active key." in show(owner_client(site), site)


def test_the_newest_working_key_of_each_mode_is_offered(site: Site) -> None:
    old = key_of(site, "live")
    new = api_keys.issue_api_key(channel=site.channel, is_test=False)
    gone = api_keys.issue_api_key(channel=site.channel, is_test=False)
    api_keys.revoke_api_key(api_key=gone.record)
    html = show(owner_client(site), site)
    assert new.record.masked in html
    assert old.masked not in html
    assert gone.record.masked not in html


def reveal_url(site: Site, mode: str) -> str:
    return reverse("console:show_key", args=(site.channel.id, key_of(site, mode).id))


@pytest.mark.parametrize("mode", ["live", "test"])
def test_editors_can_put_a_key_into_the_code(site: Site, mode: str) -> None:
    assert f'data-reveal="{reveal_url(site, mode)}"' in show(member_client(site, Role.EDITOR), site)


def test_who_has_just_logged_in_gets_the_key_others_are_sent_to_do_so(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = owner_client(site)
    for is_recent, expected in ((True, "key"), (False, "redirect")):
        monkeypatch.setattr("dashboard.login.recent.is_login_recent", lambda _, now=is_recent: now)
        response = client.post(reveal_url(site, "live"), {"next": "/channels/"})
        assert set(response.json()) == {expected}
        assert response.status_code == (200 if is_recent else 403)


def test_viewers_see_no_button_that_would_need_more(site: Site) -> None:
    html = show(member_client(site, Role.VIEWER), site)
    assert "data-reveal" not in html
    assert "data-test-key" not in html
    assert "Viewers cannot see keys" in html


def test_staff_guests_see_no_button_either(site: Site, admin_client: Client) -> None:
    session = admin_client.session
    begin_staff_view(session, site.account_id)
    session.save()
    html = show(admin_client, site)
    assert "data-reveal" not in html
    assert "Staff cannot see an account's keys." in html


def test_a_stranger_finds_nothing(site: Site, stranger: Site) -> None:
    client = owner_client(stranger)
    assert client.get(reverse("console:connect", args=(site.channel.id,))).status_code == 404
    assert try_key(client, site, key_of(site, "test")).status_code == 404


# --- Test this key ------------------------------------------------------------------------------


def test_a_test_key_is_tried_for_free(site: Site) -> None:
    response = try_key(member_client(site, Role.EDITOR), site, key_of(site, "test"))
    result = response.json()
    assert result["status"] == 200
    assert result["reply"].startswith("This is a demo reply to a test key")
    assert 0 <= result["provider_ms"] <= result["latency_ms"] + 1
    assert result["credits"]["charged"] == "0.000000"
    assert result["provider"] == "demo"
    assert result["latency_ms"] >= 0
    assert result["request_id"] == response["X-Request-Id"]
    assert result["key"] == key_of(site, "test").masked
    assert not LedgerEntry.objects.exclude(hold_id=None).exists()
    session = ChatSession.objects.get()
    assert session.is_test
    assert session.session_id.startswith("key-test-")


def test_a_live_key_is_tried_for_its_price(site: Site, provider: FakeProvider) -> None:
    provider.script.append(reply("Hi!", 7, 4))
    result = try_key(owner_client(site), site, key_of(site, "live")).json()
    assert (result["status"], result["reply"], result["provider"]) == (200, "Hi!", "fake")
    assert result["credits"] == {"charged": "1.000000", "remaining": "99.000000"}
    assert result["usage"] == {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}
    assert LedgerEntry.objects.exclude(hold_id=None).count() == 1


@pytest.mark.usefixtures("connected")
def test_the_price_is_said_before_a_live_key_is_tried(site: Site) -> None:
    set_prices(
        price_per_reply_microcredits=2_500_000, price_per_1k_output_tokens_microcredits=500_000
    )
    html = show(owner_client(site), site)
    dialog = html[html.index("<dialog") : html.index("</dialog>")]
    assert "2.5 credits per reply and 0.5 per 1,000 output tokens" in dialog
    assert str(key_of(site, "live").id) in dialog
    assert str(key_of(site, "test").id) not in dialog


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize(
    ("price", "words"),
    [
        ((0, 0, 0, None), "nothing"),
        ((0, 250_000, 0, None), "0.25 per 1,000 input tokens (in credits)"),
        ((0, 250_000, 0, 250_000), "0.25 per 1,000 input tokens (in credits)"),
        (
            (0, 250_000, 0, 0),
            "0.25 per 1,000 input tokens and 0 per 1,000 cached input tokens (in credits)",
        ),
    ],
)
def test_prices_read_well(site: Site, price: tuple[Any, ...], words: str) -> None:
    names = (
        "per_reply", "per_1k_input_tokens", "per_1k_output_tokens", "per_1k_cached_input_tokens",
    )  # fmt: skip
    pairs = zip(names, price, strict=True)
    set_prices(**{f"price_{name}_microcredits": amount for name, amount in pairs})
    assert words in show(owner_client(site), site)


def test_a_revoked_key_is_told_as_callers_are_told(site: Site) -> None:
    key = key_of(site, "test")
    api_keys.revoke_api_key(api_key=key)
    result = try_key(owner_client(site), site, key).json()
    assert (result["status"], result["code"]) == (401, "invalid_api_key")
    assert result["error"]


def test_a_key_that_cannot_be_read_is_told_as_invalid(site: Site) -> None:
    key = key_of(site, "test")
    key.key_ciphertext = b"damaged"
    key.save()
    assert try_key(owner_client(site), site, key).json()["code"] == "invalid_api_key"


def test_errors_are_those_of_the_api(site: Site, provider: FakeProvider) -> None:
    client, key = owner_client(site), key_of(site, "live")
    provider.fail()
    failed = try_key(client, site, key).json()
    assert (failed["status"], failed["code"]) == (500, "provider_error")
    channel_changes.update_channel(
        channel_id=str(site.channel.id),
        is_enabled=False,
        fallback_replies={"site_disabled": "We are closed"},
    )
    closed = try_key(client, site, key).json()
    assert (closed["status"], closed["code"]) == (403, "site_disabled")
    assert closed["fallback_reply"] == "We are closed"
    assert not LedgerEntry.objects.exclude(hold_id=None).exists()


def test_an_account_without_credits_is_told(db: None, provider: FakeProvider) -> None:
    poor = make_site(credit_amount=0)
    result = try_key(owner_client(poor), poor, key_of(poor, "live")).json()
    assert (result["status"], result["code"]) == (403, "credits_exhausted")
    assert provider.requests == []


def test_trying_counts_in_the_channels_minute(site: Site, clock: Any) -> None:
    channel_changes.update_channel(channel_id=str(site.channel.id), requests_per_minute=1)
    client, key = owner_client(site), key_of(site, "test")
    assert try_key(client, site, key).json()["status"] == 200
    second = try_key(client, site, key).json()
    assert (second["status"], second["code"]) == (429, "rate_limited")
    assert second["retry_after"] > 0


@pytest.mark.parametrize("key_id", ["", "no-uuid", "01a20556-fa38-4ad3-bcdc-f54f523a89e1"])
def test_only_keys_of_this_channel_are_tried(site: Site, stranger: Site, key_id: str) -> None:
    client = owner_client(site)
    assert try_key(client, site, key_id=key_id).status_code == 404
    assert try_key(client, site, key_of(stranger, "test")).status_code == 404


def test_viewers_try_no_key(site: Site) -> None:
    assert try_key(member_client(site, Role.VIEWER), site, key_of(site, "test")).status_code == 403
    assert not ChatSession.objects.exists()


def test_a_key_is_tried_by_post_and_with_the_forms_token_only(site: Site) -> None:
    client = owner_client(site)
    url = reverse("console:test_key", args=(site.channel.id,))
    assert client.get(url)["Location"] == reverse("console:connect", args=(site.channel.id,))
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = client.cookies
    assert strict.post(url, {"key_id": str(key_of(site, "test").id)}).status_code == 403


def test_trying_a_key_shows_it_to_nobody(site: Site) -> None:
    before = AuditEntry.objects.count()
    response = try_key(owner_client(site), site, key_of(site, "test"))
    assert site.test_key not in response.content.decode()
    assert AuditEntry.objects.count() == before


# --- The look-up behind it ----------------------------------------------------------------------


@pytest.mark.parametrize("is_test", [True, False])
def test_a_channel_is_the_caller_that_its_key_would_be(site: Site, is_test: bool) -> None:
    by_key = site.caller(is_test=is_test)
    by_channel = callers.find_channel_caller(channel_id=site.channel.id, is_test=is_test)
    assert by_channel is not None
    # Everything except what belongs to the key, such as its version.
    names = [name for name in callers.Caller.__slots__ if not name.startswith(("key_", "mark"))]
    assert [getattr(by_channel, name) for name in names] == [
        getattr(by_key, name) for name in names
    ]


def test_an_unknown_channel_is_no_caller(site: Site) -> None:
    assert callers.find_channel_caller(channel_id=key_of(site, "live").id, is_test=True) is None
