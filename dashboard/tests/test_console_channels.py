"""Channels: created once, saved without overwriting others, deleted without touching the ledger."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from billing.models import Hold, LedgerEntry
from channels import channel_changes
from channels.fallbacks import CODES
from channels.models import Account, ApiKey, AuditEntry, Channel, LanguageModel, Plan
from channels.tests.factories import Site
from conversations.models import ChatSession, FailedRequest, IdempotencyRecord, Message
from gateway import verification
from tests.support.clients import (
    UNKNOWN,
    ApiClient,
    account_page,
    assert_same_404,
    member_client,
    owner_client,
    page_of,
    staff_guest,
)
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db


def new_form(**more: Any) -> dict[str, Any]:
    model = "llama-3.3-70b-versatile"
    return {"id": str(uuid.uuid4()), "name": "Blog", "site_url": "", "model": model} | more


def settings_form(client: Any, site: Site, **more: Any) -> dict[str, Any]:
    """Return what a browser sends after opening the page and changing some fields."""
    form = client.get(page_of(site)).context["form"]
    values = {name: form[name].value() for name in form.fields}
    return {name: "" if value is None else value for name, value in values.items()} | more


# --- New ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["owner", "editor"])
def test_a_new_channel_comes_with_two_keys_that_are_shown_once(
    site: Site, provider: FakeProvider, role: str
) -> None:
    client = owner_client(site) if role == "owner" else member_client(site, role)
    assert client.get("/channels/new/").status_code == 200
    response = client.post("/channels/new/", new_form(site_url="https://blog.example.com"))
    assert response["Cache-Control"] == "no-store"
    live, test = response.context["fresh"]
    page = response.content.decode()
    assert live.clear in page
    assert test.clear in page
    assert ApiClient(live.clear).chat().status_code == 200
    channel = Channel.objects.get(name="Blog")
    assert (channel.account_id, channel.site_url) == (site.account_id, "https://blog.example.com")
    entry = AuditEntry.objects.get(action="channel.created", channel=channel)
    assert entry.actor is not None
    later = client.get(f"/channels/{channel.id}/keys/").content.decode()
    assert live.clear not in later


def test_the_same_form_makes_one_channel(site: Site) -> None:
    client, form = owner_client(site), new_form()
    client.post("/channels/new/", form)
    again = client.post("/channels/new/", form)
    made = Channel.objects.get(name="Blog")
    assert again["Location"] == f"/channels/{made.id}/start/"
    assert ApiKey.objects.filter(channel=made).count() == 2


def test_a_strangers_id_in_the_form_tells_nothing_and_changes_nothing(
    site: Site, stranger: Site
) -> None:
    response = owner_client(site).post("/channels/new/", new_form(id=str(stranger.channel.id)))
    assert response.status_code == 200
    stranger.channel.refresh_from_db()
    assert stranger.channel.name == "Stranger's shop"
    assert Channel.objects.get(name="Blog").account_id == site.account_id


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": ""}, "Fill in this field."),
        ({"name": "x" * 121}, "at most 120 characters"),
        ({"name": "a\x00b"}, "Remove the NUL character"),
        ({"site_url": "javascript:alert(1)"}, "Enter a web address such as"),
        ({"model": "gpt-5"}, "Choose one of the models shown here."),
        ({"model": ""}, "Choose a model."),
        ({"id": "x"}, "The form is damaged. Reload the page"),
    ],
)
def test_a_wrong_field_is_named_beside_it(site: Site, wrong: dict[str, str], words: str) -> None:
    response = owner_client(site).post("/channels/new/", new_form(**wrong))
    assert response.status_code == 422
    (field,) = wrong
    assert words in str(response.context["form"].errors[field])
    assert Channel.objects.count() == 1


def test_only_models_of_the_plan_are_offered(site: Site) -> None:
    plan = Plan.objects.create(name="Small", requests_per_minute=7, daily_quota=9)
    plan.models_allowed.set(LanguageModel.objects.filter(model_id="gemma2-9b-it"))
    Account.objects.update(plan=plan)
    client = owner_client(site)
    page = client.get("/channels/new/").content.decode()
    assert re.findall(r'name="model" value="([^"]+)"', page) == ["gemma2-9b-it"]
    assert client.post("/channels/new/", new_form()).status_code == 422
    page = client.get(page_of(site)).content.decode()
    assert "No longer offered to this account" in page
    assert "The plan Small allows 7 requests per minute; the lower number applies." in page
    assert "The plan Small allows 9 messages per day" in page
    form = settings_form(client, site, name="Other")
    response = client.post(page_of(site, "save/"), form)
    assert "does not allow this model" in str(response.context["form"].errors["model"])


def test_a_model_of_another_time_keeps_nothing_else_from_changing(site: Site) -> None:
    plan = Plan.objects.create(name="Small")
    plan.models_allowed.set(LanguageModel.objects.filter(model_id="gemma2-9b-it"))
    Account.objects.update(plan=plan)
    client = owner_client(site)
    client.post(page_of(site, "switch/"), {"is_enabled": "off"})
    assert not Channel.objects.get().is_enabled
    channel_changes.update_channel(channel_id=str(site.channel.id), system_prompt="Hi")
    Hold.objects.create(
        account_id=site.account_id,
        channel=site.channel,
        is_test=True,
        day="2026-01-01",
        amount_microcredits=0,
        created_at=site.channel.created_at,
        expires_at=site.channel.created_at,
    )
    client.post(page_of(site, "retire/"), {"confirmation": "Shop"})
    assert AuditEntry.objects.filter(action="channel.retired").exists()
    other = Account.objects.create(name="Other", plan=plan)
    with pytest.raises(ValidationError, match="does not allow this model"):
        channel_changes.update_channel(channel_id=str(site.channel.id), account=other)


def test_a_model_shows_what_it_can_and_costs(site: Site) -> None:
    LanguageModel.objects.filter(model_id="gemma2-9b-it").update(
        price_per_reply_microcredits=500_000,
        price_per_1k_input_tokens_microcredits=1_250_000,
        price_per_1k_cached_input_tokens_microcredits=250_000,
        price_per_1k_output_tokens_microcredits=0,
        best_for="<i>Short</i>",
    )
    page = owner_client(site).get("/channels/new/").content.decode()
    price = "0.5 a reply + 1.25 per 1,000 input tokens + 0.25 per 1,000 cached input tokens"
    assert price in page
    assert "8,192 tokens" in page
    assert "&lt;i&gt;Short&lt;/i&gt;" in page


# --- Settings -------------------------------------------------------------------------------------


def test_settings_are_saved_audited_and_seen_by_the_next_call(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    client = owner_client(site)
    form = settings_form(
        client,
        site,
        name="New name",
        model="gemma2-9b-it",
        daily_quota="1",
        reply_daily_quota_reached="Come back\r\ntomorrow.",
    )
    assert client.post(page_of(site, "save/"), form)["Location"] == page_of(site)
    assert api.chat().json()["model"] == "gemma2-9b-it"
    assert api.chat(session_id="s2").json()["fallback_reply"] == "Come back\ntomorrow."
    entry = AuditEntry.objects.get(action="channel.updated")
    assert entry.changes["name"] == ["Shop", "New name"]
    assert entry.changes["daily_quota"] == [1000, 1]
    assert set(entry.changes) == {"name", "model", "daily_quota", "fallback_replies"}


def test_replies_to_codes_the_page_does_not_know_are_kept(site: Site) -> None:
    channel_changes.update_channel(
        channel_id=str(site.channel.id), fallback_replies={"later": "x", CODES[0]: "y"}
    )
    client = owner_client(site)
    client.post(page_of(site, "save/"), settings_form(client, site, **{f"reply_{CODES[0]}": ""}))
    assert Channel.objects.get(id=site.channel.id).fallback_replies == {"later": "x"}


def test_a_save_on_top_of_anothers_is_refused(site: Site) -> None:
    Account.objects.filter(id=site.account_id).update(time_zone="Asia/Tokyo")
    client, editor = owner_client(site), member_client(site, "editor")
    mine = settings_form(client, site, daily_quota="5")
    editor.post(page_of(site, "save/"), settings_form(editor, site, name="Theirs"))
    response = client.post(page_of(site, "save/"), mine)
    assert response.status_code == 409
    page = response.content.decode()
    assert re.search(r"editor@example.com saved it at \d\d:\d\d Asia/Tokyo\.", page)
    assert 'value="5"' in page
    channel = Channel.objects.get(id=site.channel.id)
    assert (channel.name, channel.daily_quota) == ("Theirs", 1000)
    # A switch or prompt saved in between is no conflict, because the form contains neither.
    mine = settings_form(client, site, daily_quota="6")
    channel_changes.update_channel(channel_id=str(channel.id), is_enabled=False, system_prompt="Hi")
    assert client.post(page_of(site, "save/"), mine).status_code == 302
    channel.refresh_from_db()
    assert (channel.daily_quota, channel.is_enabled, channel.system_prompt) == (6, False, "Hi")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("requests_per_minute", "0"),
        ("requests_per_minute", "many"),
        ("daily_quota", "-1"),
        ("daily_quota", "9" * 30),
        ("site_url", "ftp://x"),
        ("model", "gpt-5"),
        ("reply_provider_error", "x" * 2_001),
        ("digest", ""),
    ],
)
def test_nothing_is_saved_with_a_wrong_field(site: Site, field: str, value: str) -> None:
    client = owner_client(site)
    form = settings_form(client, site, name="Changed") | {field: value}
    response = client.post(page_of(site, "save/"), form)
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert Channel.objects.get(id=site.channel.id).name == "Shop"


def test_viewers_and_guests_look_and_change_nothing(site: Site) -> None:
    for client in (member_client(site, "viewer"), staff_guest(site)):
        page = client.get(page_of(site)).content.decode()
        assert "Danger zone" not in page
        assert "<fieldset" in page
        assert " disabled>" in page
        for name in ("save/", "delete/", "retire/"):
            form = {"confirmation": "Shop", "name": "x"}
            assert client.post(page_of(site, name), form).status_code == 403
        assert client.get("/channels/new/").status_code == 403
        assert client.post("/channels/new/", new_form()).status_code == 403
    assert Channel.objects.get().name == "Shop"


def test_viewers_read_the_model_there_is_and_why_nothing_can_be_changed(site: Site) -> None:
    page = member_client(site, "viewer").get(page_of(site)).content.decode()
    assert "You are a viewer of this account" in page
    assert page.count('name="model"') == 1
    assert owner_client(site).get(page_of(site)).content.decode().count('name="model"') > 1


def test_editors_do_not_end_channels(site: Site) -> None:
    client = member_client(site, "editor")
    page = client.get(page_of(site)).content.decode()
    assert "An owner of the account can also delete the channel." in page
    for name in ("delete/", "retire/"):
        assert client.post(page_of(site, name), {"confirmation": "Shop"}).status_code == 403
    assert Channel.objects.get().is_enabled


def test_a_strangers_channel_is_unknown(site: Site, stranger: Site) -> None:
    client = owner_client(stranger)
    assert_same_404(client, "", page_of(site), f"/channels/{UNKNOWN}/")
    for name in ("save/", "delete/", "retire/"):
        assert_same_404(
            client, name, page_of(site, name), f"/channels/{UNKNOWN}/{name}", confirmation="Shop"
        )


# --- Delete and retire ----------------------------------------------------------------------------


def test_a_channel_that_was_never_used_can_go(site: Site) -> None:
    client = owner_client(site)
    client.post(page_of(site, "delete/"), {"confirmation": "shop"})
    assert Channel.objects.count() == 1
    response = client.post(page_of(site, "delete/"), {"confirmation": "Shop"})
    assert response["Location"] == account_page(site)
    assert (Channel.objects.count(), ApiKey.objects.count()) == (0, 0)
    entry = AuditEntry.objects.get(action="channel.deleted")
    assert entry.target.startswith("Shop (")
    assert client.post(page_of(site, "delete/"), {"confirmation": "Shop"}).status_code == 404
    assert verification.verify_and_alert() == 0


def test_a_used_channel_stays_and_is_retired(
    site: Site, stranger: Site, api: ApiClient, provider: FakeProvider
) -> None:
    api.chat("My secret", headers={"Idempotency-Key": "k"})
    ApiClient(site.test_key).chat("My other secret")
    ApiClient(stranger.api_key).chat("Theirs")
    FailedRequest.objects.create(
        channel=site.channel,
        is_test=False,
        error_code="x",
        page_url="https://a.example/?secret",
        created_at=site.channel.created_at,
    )
    client = owner_client(site)
    client.post(page_of(site, "delete/"), {"confirmation": "Shop"})
    assert Channel.objects.filter(id=site.channel.id).exists()
    assert "Retire channel" in client.get(page_of(site)).content.decode()
    before = list(LedgerEntry.objects.order_by("id").values())
    client.post(page_of(site, "retire/"), {"confirmation": "no"})
    assert api.chat(session_id="s9").status_code == 200
    before = list(LedgerEntry.objects.order_by("id").values())
    for _ in range(2):
        client.post(page_of(site, "retire/"), {"confirmation": "Shop"})
    assert api.chat().status_code == 401
    channel = Channel.objects.get(id=site.channel.id)
    assert not channel.is_enabled
    assert not ApiKey.objects.filter(channel=channel, revoked_at=None).exists()
    texts = Message.objects.filter(channel=channel).values_list("content", "page_url")
    assert set(texts) == {("", "")}
    assert not IdempotencyRecord.objects.filter(channel=channel).exists()
    assert not ChatSession.objects.filter(channel=channel, closed_at=None).exists()
    assert FailedRequest.objects.get().page_url == ""
    assert list(LedgerEntry.objects.order_by("id").values()) == before
    assert Message.objects.filter(channel=stranger.channel, content="Theirs").exists()
    assert ApiClient(stranger.api_key).chat(session_id="z").status_code == 200
    assert Hold.objects.filter(channel=channel).exists()
    retired = AuditEntry.objects.filter(action="channel.retired").order_by("id")
    assert [entry.changes["messages_erased"][1] for entry in retired] == [6, 0]
    assert verification.verify_and_alert() == 0


def test_the_pages_take_few_queries(site: Site, django_assert_max_num_queries: Any) -> None:
    client = owner_client(site)
    client.get(page_of(site))
    for address in (page_of(site), "/channels/new/"):
        with django_assert_max_num_queries(12):
            client.get(address)


# --- Words, addresses, conflicts ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("shop.example.com", "https://shop.example.com"),
        ("shop.example.com:8443/a", "https://shop.example.com:8443/a"),
        ("http://shop.example.com", "http://shop.example.com"),
        ("", ""),
    ],
)
def test_a_site_address_without_a_scheme_is_taken_as_https(
    site: Site, typed: str, stored: str
) -> None:
    client = owner_client(site)
    client.post(page_of(site, "save/"), settings_form(client, site, site_url=typed))
    assert Channel.objects.get(id=site.channel.id).site_url == stored


@pytest.mark.parametrize("typed", ["javascript:alert(1)", "ftp://x.example", "no address"])
def test_what_is_no_web_address_stays_refused(site: Site, typed: str) -> None:
    client = owner_client(site)
    response = client.post(page_of(site, "save/"), settings_form(client, site, site_url=typed))
    assert response.status_code == 422
    assert response.context["form"].errors["site_url"] == [
        "Enter a web address such as https://shop.example.com"
    ]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("daily_quota", "9" * 12, "Enter 2,147,483,647 or less."),
        ("daily_quota", "0", "Enter 1 or more."),
        ("requests_per_minute", "many", "Enter a whole number such as 60."),
        ("requests_per_minute", "", "Fill in this field."),
        ("name", "x" * 121, "Use at most 120 characters, not 121."),
        ("name", "a\x00b", "Remove the NUL character: it cannot be stored."),
        ("model", "gpt-5", "Choose one of the models shown here."),
    ],
)
def test_errors_say_how_to_put_them_right(site: Site, field: str, value: str, words: str) -> None:
    client = owner_client(site)
    form = settings_form(client, site) | {field: value}
    response = client.post(page_of(site, "save/"), form)
    assert response.context["form"].errors[field] == [words]


def test_a_conflict_shows_both_and_lets_one_keep_either(site: Site) -> None:
    client, editor = owner_client(site), member_client(site, "editor")
    mine = settings_form(client, site, name="Mine", daily_quota="5")
    editor.post(page_of(site, "save/"), settings_form(editor, site, name="Theirs"))
    response = client.post(page_of(site, "save/"), mine)
    assert response.status_code == 409
    shown = {
        one.label: ["".join(text for text, _ in line.parts) for line in (*one.theirs, *one.yours)]
        for one in response.context["differences"]
    }
    assert shown == {"Name": ["Theirs", "Mine"], "Messages per day": ["1000", "5"]}
    assert "Keep theirs, discard mine" in response.content.decode()
    again = mine | {"digest": response.context["form"]["digest"].value()}
    assert client.post(page_of(site, "save/"), again).status_code == 302
    channel = Channel.objects.get(id=site.channel.id)
    assert (channel.name, channel.daily_quota) == ("Mine", 5)
