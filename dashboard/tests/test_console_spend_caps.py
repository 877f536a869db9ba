"""The page of spend caps: limits set per channel and key, with what is spent of them."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from billing import spend_caps
from billing.models import SpendCap
from channels import api_keys
from channels.audit import COMMAND_LINE, Actor
from channels.models import ApiKey, AuditEntry, Channel
from channels.tests.factories import Site
from common.money import MICROCREDITS_PER_CREDIT
from tests.support.clients import (
    UNKNOWN,
    ApiClient,
    assert_same_404,
    member_client,
    owner_client,
    page_of,
    staff_guest,
    text_of,
)
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db
PAGE = "spend-caps/"
CREDIT = MICROCREDITS_PER_CREDIT


def key_of(site: Site) -> ApiKey:
    return ApiKey.objects.get(channel=site.channel, mode="live")


def test_a_cap_set_on_the_page_stops_the_next_message(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    assert api.chat("one").status_code == 200
    client = member_client(site, "editor")
    form = {"key": "", "spend_cap_day": "2", "spend_cap_month": "1,000.5"}
    assert client.post(page_of(site, PAGE + "save/"), form).status_code == 302
    assert api.chat("two").status_code == 200
    refused = api.chat("three")
    assert (refused.status_code, refused.json()["code"]) == (403, "spend_cap_reached")
    assert refused.json()["resets_at"].endswith("T00:00:00Z")
    page = client.get(page_of(site, PAGE)).content.decode()
    assert "2 of 2 credits spent today, 100 %." in page
    assert "2 of 1,000.5 credits spent this month, 0 %." in page
    assert "Reached" in page
    assert AuditEntry.objects.get(action="channel.spend_cap_changed").actor_name.startswith("edit")


def test_without_a_cap_the_page_says_what_the_channel_spent(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    client = owner_client(site)
    api.chat("one")
    api.chat("two")
    page = text_of(client.get(page_of(site, PAGE)))
    assert "Credits spent today: 2. No limit." in page
    assert "Credits spent this month: 2. No limit." in page
    spend_caps.set_cap(
        channel=site.channel,
        key=None,
        day_microcredits=10 * CREDIT,
        month_microcredits=None,
        actor=COMMAND_LINE,
        now=timezone.now(),
    )
    page = text_of(client.get(page_of(site, PAGE)))
    assert "2 of 10 credits spent today, 20 %." in page
    assert "Credits spent this month: 2. No limit." in page


def test_says_that_no_e_mail_is_sent_without_a_mail_server(site: Site, settings: Any) -> None:
    client = owner_client(site)
    words = "These e-mails are not sent now: this installation has no mail server."
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    assert words in text_of(client.get(page_of(site, PAGE)))
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    assert words not in text_of(client.get(page_of(site, PAGE)))


def test_a_keys_cap_stops_that_key_alone(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    other = api_keys.issue_api_key(channel=site.channel, is_test=False)
    key = ApiKey.objects.get(key_last_four=site.api_key[-4:])
    form = {"key": str(key.id), "spend_cap_day": "0", "spend_cap_month": ""}
    assert owner_client(site).post(page_of(site, PAGE + "save/"), form).status_code == 302
    assert api.chat("one").json()["code"] == "spend_cap_reached"
    assert ApiClient(other.clear).chat("one").status_code == 200


@pytest.mark.parametrize(
    ("day", "words"),
    [
        ("0.5", "Enter at least 1, which is spent today already."),
        ("-1", "Must be at least 0."),
        ("a lot", "gw-error"),
        ("1" * 500, ""),
    ],
)
def test_says_beside_the_field_what_is_wrong(
    site: Site, api: ApiClient, provider: FakeProvider, day: str, words: str
) -> None:
    api.chat("one")
    form = {"key": "", "spend_cap_day": day, "spend_cap_month": ""}
    answer = owner_client(site).post(page_of(site, PAGE + "save/"), form)
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert "gw-field-bad" in answer.content.decode()
    assert spend_caps.list_caps(channel_ids=[site.channel.id]) == []


def test_viewers_and_staff_guests_read_only(site: Site) -> None:
    form = {"key": "", "spend_cap_day": "1", "spend_cap_month": ""}
    for client in (member_client(site, "viewer"), staff_guest(site)):
        assert client.get(page_of(site, PAGE)).status_code == 200
        assert b"Save cap" not in client.get(page_of(site, PAGE)).content
        assert client.post(page_of(site, PAGE + "save/"), form).status_code == 403
    assert not SpendCap.objects.exists()


def test_a_strangers_key_is_unknown(site: Site, stranger: Site) -> None:
    client = owner_client(site)
    foreign, unknown = (
        client.post(page_of(site, PAGE + "save/"), {"key": str(key), "spend_cap_day": "1"})
        for key in (key_of(stranger).id, UNKNOWN)
    )
    assert foreign.status_code == unknown.status_code == 404
    assert text_of(foreign) == text_of(unknown)
    assert_same_404(client, "", page_of(stranger, PAGE), f"/channels/{UNKNOWN}/{PAGE}")
    assert not SpendCap.objects.exists()


def test_a_test_key_and_a_revoked_key_have_no_cap(site: Site) -> None:
    client = owner_client(site)
    revoked = key_of(site)
    ApiKey.objects.filter(id=revoked.id).update(revoked_at=timezone.now())
    for key in ApiKey.objects.filter(channel=site.channel):
        form = {"key": str(key.id), "spend_cap_day": "1"}
        answer = client.post(page_of(site, PAGE + "save/"), form, follow=True)
        assert "Nothing was saved: this key does not work" in text_of(answer)
    assert not SpendCap.objects.exists()


def test_the_key_tells_its_caps(site: Site, api: ApiClient, provider: FakeProvider) -> None:
    form = {"key": "", "spend_cap_day": "5", "spend_cap_month": ""}
    owner_client(site).post(page_of(site, PAGE + "save/"), form)
    api.chat("one")
    (told,) = api.get("/api/key").json()["limits"]["spend"]
    assert {name: told[name] for name in ("of", "period", "limit", "remaining")} == {
        "of": "channel",
        "period": "day",
        "limit": "5.000000",
        "remaining": "4.000000",
    }


def test_the_overview_names_caps_that_are_half_used(
    site: Site, stranger: Site, api: ApiClient, provider: FakeProvider
) -> None:
    form = {"key": "", "spend_cap_day": "3", "spend_cap_month": ""}
    owner_client(site).post(page_of(site, PAGE + "save/"), form)
    api.chat("one")
    assert "of a spend cap" not in text_of(owner_client(site).get("/"))
    api.chat("two")
    assert "66 % of a spend cap is used up" in text_of(owner_client(site).get("/"))
    api.chat("three")
    page = text_of(owner_client(site).get("/"))
    assert "100 % of a spend cap is used up, so messages are refused" in page
    assert "of a spend cap" not in text_of(owner_client(stranger).get("/"))


def test_openais_endpoint_says_when_the_cap_resets(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    form = {"key": "", "spend_cap_day": "0", "spend_cap_month": ""}
    owner_client(site).post(page_of(site, PAGE + "save/"), form)
    asked = {"model": site.channel.model.model_id, "messages": [{"role": "user", "content": "x"}]}
    refused = api.post("/v1/chat/completions", asked)
    assert refused.status_code == 403
    assert refused["X-Should-Retry"] == "false"
    body = refused.json()
    assert (body["error"]["code"], body["error"]["type"]) == (
        "spend_cap_reached",
        "permission_error",
    )
    assert body["resets_at"].endswith("T00:00:00Z")


@pytest.mark.parametrize("is_capped", [True, False])
def test_no_form_can_name_a_strangers_cap(
    site: Site, stranger: Site, provider: FakeProvider, is_capped: bool
) -> None:
    """A cap's id is that of its channel or key, and forms carry the ids of what they create."""
    theirs = ApiKey.objects.get(channel=stranger.channel, mode="live")
    now = timezone.now()
    for key in (None, theirs) if is_capped else (theirs,):
        spend_caps.set_cap(
            channel=stranger.channel, key=key, day_microcredits=9 * CREDIT,
            month_microcredits=None, actor=Actor("stranger"), now=now,
        )  # fmt: skip
    before = list(SpendCap.objects.order_by("id").values())
    client = member_client(site, "editor")
    client.post(page_of(site, "keys/new/"), {"mode": "live", "key_id": str(stranger.channel.id)})
    for key in ApiKey.objects.filter(channel=site.channel, mode="live"):
        form = {"key": str(key.id), "spend_cap_day": "0", "spend_cap_month": ""}
        client.post(page_of(site, PAGE + "save/"), form)
    copy = {"id": str(theirs.id)}
    client.post(page_of(site, "duplicate/"), copy)
    for channel in Channel.objects.filter(account=site.channel.account):
        form = {"key": "", "spend_cap_day": "0", "spend_cap_month": ""}
        client.post(f"/channels/{channel.id}/{PAGE}save/", form)
    assert list(SpendCap.objects.filter(channel=stranger.channel).order_by("id").values()) == before
    answer = ApiClient(stranger.api_key).chat("Hello")
    assert (answer.status_code, answer.json().get("code")) == (200, None)


def test_a_rotated_key_hands_its_cap_on(site: Site, api: ApiClient, provider: FakeProvider) -> None:
    client, key = owner_client(site), key_of(site)
    form = {"key": str(key.id), "spend_cap_day": "1", "spend_cap_month": ""}
    client.post(page_of(site, PAGE + "save/"), form)
    page = client.post(page_of(site, f"keys/{key.id}/rotate/"), {"overlap": "0"})
    new = ApiClient(page.context["fresh"][0].clear)
    assert new.chat("one").status_code == 200
    assert new.chat("two").json()["code"] == "spend_cap_reached"
