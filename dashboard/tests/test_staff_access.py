"""Staff actions on an account need a reason, are limited, and appear in its own audit log."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from channels import channel_changes
from channels.models import (
    Account,
    ApiKey,
    AuditEntry,
    Channel,
    LanguageModel,
    Plan,
    PromptVersion,
    Provider,
    User,
)
from channels.tests.factories import Site
from conversations.models import Feedback, Message
from tests.support.clients import ApiClient, owner_client, staff_client, text_of
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db


def entries(site: Site, action: str) -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(account_id=site.account_id, action=action))


# --- Moving a channel -----------------------------------------------------------------------------


def move_url(site: Site) -> str:
    return reverse("admin:channels_channel_move", args=[site.channel.pk])


MOVE = {"owner_email": "stranger@example.com", "reason": "Sold with the shop"}


def test_moving_a_channel_ends_its_keys_and_is_in_both_logs(
    site: Site, stranger: Site, admin_client: Client, api: ApiClient
) -> None:
    asked = text_of(admin_client.get(move_url(site)))
    assert "Its keys are revoked" in asked
    assert admin_client.post(move_url(site), MOVE).status_code == 302
    assert Channel.objects.get(id=site.channel.id).account_id == stranger.account_id
    for key in (site.api_key, site.test_key):
        assert ApiClient(key).get("/api/key").status_code == 401
    for one in (site, stranger):
        (entry,) = entries(one, "channel.moved")
        assert entry.actor_name == "admin@example.com"
        assert entry.changes["reason"] == [None, "Sold with the shop"]
    # Neither account learns who the other is.
    assert "stranger" not in str(entries(site, "channel.moved")[0].changes)
    assert "owner" not in str(entries(stranger, "channel.moved")[0].changes)
    assert len(entries(site, "key.revoked")) == 2


@pytest.mark.parametrize("permissions", [("change_channel",), ("change_channel", "view_account")])
def test_who_may_change_channels_moves_none(
    site: Site, stranger: Site, permissions: tuple[str, ...]
) -> None:
    client = staff_client(*permissions)
    page = reverse("admin:channels_channel_change", args=[site.channel.pk])
    form = {
        "account": stranger.account_id,
        "name": "Mine",
        "is_enabled": "on",
        "model": site.channel.model_id,
        "requests_per_minute": "5",
        "daily_quota": "5",
    }
    assert client.post(page, form).status_code == 302
    assert client.post(move_url(site), MOVE).status_code == 403
    channel = Channel.objects.get(id=site.channel.id)
    assert (channel.account_id, channel.name) == (site.account_id, "Mine")
    (entry,) = entries(site, "channel.updated")
    assert entry.actor_name == "staff@example.com"


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (MOVE | {"owner_email": "nobody@example.com"}, "owns an account"),
        (MOVE | {"reason": ""}, "Fill in this field."),
        (MOVE | {"owner_email": "x"}, "Enter an e-mail address"),
    ],
)
def test_a_move_that_cannot_be_says_why(
    site: Site, stranger: Site, admin_client: Client, form: dict[str, str], words: str
) -> None:
    refused = admin_client.post(move_url(site), form)
    assert refused.status_code == 422
    assert words in text_of(refused)
    assert ApiClient(site.api_key).get("/api/key").status_code == 200


def test_a_move_needs_room_in_the_other_accounts_plan(
    site: Site, stranger: Site, admin_client: Client
) -> None:
    plan = Plan.objects.create(name="Tiny", max_channels=1)
    Account.objects.filter(id=stranger.account_id).update(plan=plan)
    refused = admin_client.post(move_url(site), MOVE)
    assert "at most 1 channels" in text_of(refused)
    assert Channel.objects.get(id=site.channel.id).account_id == site.account_id
    assert not ApiKey.objects.filter(channel=site.channel).exclude(revoked_at=None).exists()


def test_an_unknown_channel_is_not_moved(admin_client: Client) -> None:
    unknown = "0190a000-0000-7000-8000-000000000000"
    page = reverse("admin:channels_channel_move", args=[unknown])
    assert admin_client.post(page, MOVE).status_code == 404


# --- Reading what people wrote --------------------------------------------------------------------


@pytest.fixture
def talk(site: Site, provider: FakeProvider) -> Site:
    provider.script.append(reply("the reply's text"))
    metadata = {"url": "https://shop.example/private", "title": "Private page"}
    answered = ApiClient(site.api_key).chat("the visitor's text", metadata=metadata)
    assert answered.status_code == 200
    reply_row = Message.objects.get(role="assistant")
    Feedback.objects.create(message=reply_row, rating=1, note="the team's note")
    channel_changes.update_channel(
        channel_id=str(site.channel.id), system_prompt="the prompt's text"
    )
    return site


TEXTS = {
    "conversations_message": ("visitor", "reply"),
    "conversations_feedback": ("team",),
    "channels_promptversion": ("prompt",),
}


@pytest.mark.parametrize("model", TEXTS)
def test_text_is_read_with_a_reason_that_the_account_sees(talk: Site, model: str) -> None:
    label = model.split("_")[1]
    client = staff_client(f"view_{label}")
    words = [f"the {who}&#x27;s" for who in TEXTS[model]]
    changelist = text_of(client.get(reverse(f"admin:{model}_changelist")))
    assert not any(word in changelist for word in words)
    read = ""
    for row in ROWS[model].objects.all():
        page = reverse(f"admin:{model}_read_text", args=[row.pk])
        asked = client.get(page)
        assert not any(word in text_of(asked) for word in words)
        assert client.post(page, {"reason": " "}).status_code == 422
        before = len(entries(talk, "staff.read_text"))
        read += text_of(client.post(page, {"reason": "Ticket 7"}))
        assert len(entries(talk, "staff.read_text")) == before + 1
    assert all(word in read for word in words)
    entry = entries(talk, "staff.read_text")[-1]
    assert entry.changes == {"reason": [None, "Ticket 7"]}
    assert entry.actor_name == "staff@example.com"


ROWS: dict[str, Any] = {
    "conversations_message": Message,
    "conversations_feedback": Feedback,
    "channels_promptversion": PromptVersion,
}


def test_text_is_not_read_without_the_permission(talk: Site) -> None:
    client = staff_client("view_chatsession", "view_channel", "change_channel", "view_account")
    for model in TEXTS:
        page = reverse(f"admin:{model}_read_text", args=[ROWS[model].objects.all()[0].pk])
        assert client.post(page, {"reason": "Curious"}).status_code == 403
    assert not entries(talk, "staff.read_text")


def test_a_guest_of_the_staff_leaves_a_trace_of_each_conversation(talk: Site) -> None:
    client = staff_client("view_account", "view_ledgerentry", "view_message")
    start = reverse("admin:view_as_owner", args=[talk.account_id])
    client.post(start, {"reason": "Ticket 8"})
    assert entries(talk, "staff.viewed_account")[0].changes == {"reason": [None, "Ticket 8"]}
    session = Message.objects.all()[0].session_id
    for page in (
        "/conversations/",
        f"/conversations/{session}/",
        f"/conversations/{session}/export.csv",
        "/conversations/export.jsonl",
        f"/channels/{talk.channel.id}/prompt/",
        f"/channels/{talk.channel.id}/prompt/2/",
    ):
        before = len(entries(talk, "staff.read_text"))
        for _ in range(2):  # a page that refreshes itself is recorded once
            assert client.get(page, follow=True).status_code == 200
        assert len(entries(talk, "staff.read_text")) == before + 1, page


def test_an_owner_who_reads_leaves_no_such_trace(talk: Site) -> None:
    client = owner_client(talk)
    client.get("/conversations/")
    assert not entries(talk, "staff.read_text")


# --- Accounts, people, providers ------------------------------------------------------------------


def account_form(account: Account, **changes: Any) -> dict[str, Any]:
    none = {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}
    return {"name": account.name} | none | changes


def test_an_account_is_disabled_with_a_reason_its_owner_reads(site: Site) -> None:
    client = staff_client("change_account")
    account = Account.objects.get(id=site.account_id)
    page = reverse("admin:channels_account_change", args=[account.pk])
    assert "every API request" in text_of(client.get(page))
    refused = client.post(page, account_form(account))
    assert "Say why you disable the account" in text_of(refused)
    assert ApiClient(site.api_key).get("/api/key").status_code == 200
    client.post(page, account_form(account, reason="Unpaid since May"))
    assert ApiClient(site.api_key).chat().json()["code"] == "site_disabled"
    owner = owner_client(site)
    assert "Unpaid since May" in text_of(owner.get("/audit-log/", follow=True))
    # Enabling it again needs no reason.
    client.post(page, account_form(account, is_enabled="on"))
    assert ApiClient(site.api_key).get("/api/key").status_code == 200


def test_a_superuser_who_takes_over_a_log_in_is_in_its_accounts_log(
    site: Site, admin_client: Client
) -> None:
    owner = User.objects.get(email="owner@example.com")
    password = {"password1": "correct-horse-9", "password2": "correct-horse-9"}
    page = reverse("admin:auth_user_password_change", args=[owner.pk])
    sent = password | {"usable_password": "true"}
    assert admin_client.post(page, sent | {"password2": "other"}).status_code == 200
    assert not entries(site, "password.set_by_staff")
    assert admin_client.post(page, sent).status_code == 302
    assert entries(site, "password.set_by_staff")[0].target == "owner@example.com"
    none = {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}
    form = {"email": "mine@example.com", "is_active": "on"} | none
    admin_client.post(reverse("admin:channels_user_change", args=[owner.pk]), form)
    (entry,) = entries(site, "user.updated")
    assert entry.changes == {"email": ["owner@example.com", "mine@example.com"]}
    assert "correct-horse" not in str(list(AuditEntry.objects.values_list("changes")))


def test_a_person_added_without_superuser_chooses_the_password_by_mail() -> None:
    client = staff_client("add_user", "change_user")
    page = reverse("admin:channels_user_add")
    assert "password1" not in text_of(client.get(page))
    form = {"email": "new@example.com", "password1": "correct-horse-9", "usable_password": "true"}
    form["password2"] = form["password1"]
    assert client.post(page, form).status_code == 302
    assert not User.objects.get(email="new@example.com").has_usable_password()


def test_a_prepared_provider_stays_off_until_a_superuser_turns_it_on(admin_client: Client) -> None:
    client = staff_client("add_provider", "change_provider", "view_provider")
    form = {"name": "mine", "base_url": "https://mine.example/v1", "is_enabled": "on"}
    form["new_key"] = "sk-mine"
    assert client.post(reverse("admin:channels_provider_add"), form).status_code == 302
    provider = Provider.objects.filter(name="mine")
    assert provider.values_list("is_enabled", "key_ciphertext").get() == (False, None)
    page = reverse("admin:channels_provider_change", args=[provider.get().pk])
    # Switching a provider off again is no risk.
    switches = (client, form, False), (admin_client, form, True), (client, {"name": "mine"}, False)
    for browser, sent, is_on in switches:
        browser.post(page, sent)
        assert provider.get().is_enabled is is_on


def test_grants_and_plans_need_the_permission_for_credits(site: Site) -> None:
    generous = Plan.objects.create(name="Generous", monthly_grant_microcredits=10**12)
    client = staff_client(
        "change_account", "change_plan", "add_redemptioncode", "change_redemptioncode"
    )
    account = Account.objects.get(id=site.account_id)
    page = reverse("admin:channels_account_change", args=[account.pk])
    client.post(page, account_form(account, is_enabled="on", plan=generous.pk))
    assert Account.objects.get(id=account.pk).plan is None
    page = reverse("admin:channels_plan_change", args=[generous.pk])
    client.post(page, {"name": "Generous", "monthly_grant_microcredits": "5", "daily_quota": "7"})
    generous.refresh_from_db()
    assert (generous.monthly_grant_microcredits, generous.daily_quota) == (10**12, 7)
    assert client.get("/admin/credits/codes/").status_code == 403


# --- Finding, groups, words -----------------------------------------------------------------------


def test_accounts_are_found_by_what_their_owner_would_say(site: Site, stranger: Site) -> None:
    Channel.objects.filter(id=site.channel.id).update(site_url="https://bakery.example")
    client = staff_client("view_account", "view_channel", "view_membership", "view_apikey")
    ending = site.api_key[-4:]
    terms = ["owner@example.com", "bakery.example", ending, f"amgai_…{ending}"]
    terms.append(str(site.channel.id))
    for term in terms:
        for model in ("account", "channel"):
            page = reverse(f"admin:channels_{model}_changelist")
            found = client.get(page, {"q": term}).context["cl"].result_list
            accounts = {getattr(one, "account_id", one.pk) for one in found}
            assert accounts == {site.account_id}, (term, model)
        text = text_of(client.get("/admin/search/", {"s": term, "extended": "1"}))
        assert reverse("admin:customer", args=[site.account_id]) in text
        assert reverse("admin:channels_channel_change", args=[site.channel.id]) in text
        assert reverse("admin:customer", args=[stranger.account_id]) not in text


def test_the_palette_forgets_a_permission_with_the_next_search(site: Site) -> None:
    client = staff_client("view_account")
    query = {"s": "owner@example.com", "extended": "1"}
    assert "Account" in text_of(client.get("/admin/search/", query))
    User.objects.get(email="staff@example.com").user_permissions.clear()
    assert "owner@example.com" not in text_of(client.get("/admin/search/", query))


@pytest.mark.parametrize("term", ["\x00", "%", "_", "x" * 5_000, "…", "0" * 36, "{", "\\"])
def test_no_search_term_breaks_the_search(site: Site, admin_client: Client, term: str) -> None:
    for page in ("/admin/search/?extended=1", "/admin/search/?x=1"):
        assert admin_client.get(f"{page}&", {"s": term}).status_code == 200
    for model in ("account", "channel", "apikey"):
        page = reverse(f"admin:channels_{model}_changelist")
        assert admin_client.get(page, {"q": term}).status_code == 200


def test_staff_groups_are_made_once_and_kept_as_they_are() -> None:
    call_command("staffgroups")
    names = {"Support", "Billing", "Catalogue", "Auditor"}
    assert set(Group.objects.values_list("name", flat=True)) == names
    support = Group.objects.get(name="Support")
    support.permissions.clear()
    call_command("staffgroups")
    assert not support.permissions.exists()
    call_command("staffgroups", "--reset")
    assert support.permissions.filter(codename="view_message").exists()


def test_no_staff_group_gives_credits_and_texts_together() -> None:
    call_command("staffgroups")
    for group in Group.objects.all():
        codes = set(group.permissions.values_list("codename", flat=True))
        assert not {"add_ledgerentry", "view_message"} <= codes, group.name
        assert not codes & {"add_user", "change_user", "change_group", "add_membership"}
    auditor = Group.objects.get(name="Auditor").permissions
    assert not auditor.exclude(codename__startswith="view_").exists()
    assert not auditor.filter(codename="view_message").exists()


@pytest.mark.parametrize("model", ["account", "channel", "plan", "fixedanswer"])
def test_titles_are_ours(site: Site, admin_client: Client, model: str) -> None:
    page = text_of(admin_client.get(reverse(f"admin:channels_{model}_changelist")))
    assert "Select" not in page.split("<main")[0]
    assert "to change" not in page
    heading = page.split("<h1")[1].split("</h1>")[0]
    names = {"account": "Accounts", "channel": "Channels", "plan": "Plans"}
    assert names.get(model, "Saved replies") in heading
    assert heading.count("Channels") <= 1
    assert admin_client.get("/admin/channels/")["Location"] == "/admin/"


def test_fallback_replies_have_a_field_each(site: Site, admin_client: Client) -> None:
    page = reverse("admin:channels_channel_change", args=[site.channel.pk])
    channel_changes.update_channel(
        channel_id=str(site.channel.id), fallback_replies={"rate_limited": "Slow down"}
    )
    shown = text_of(admin_client.get(page))
    assert "Slow down" in shown
    assert "{&quot;" not in shown
    form = {
        "name": "Shop",
        "is_enabled": "on",
        "model": site.channel.model_id,
        "requests_per_minute": "60",
        "daily_quota": "1000",
        "reply_rate_limited": "Slow down",
        "reply_provider_error": "Ask again later",
    }
    assert admin_client.post(page, form).status_code == 302
    stored = Channel.objects.get(id=site.channel.id).fallback_replies
    assert stored == {"rate_limited": "Slow down", "provider_error": "Ask again later"}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("daily_quota", "99999999999", "Enter 1,000,000,000 or less."),
        ("daily_quota", "0", "Enter 1 or more."),
        ("requests_per_minute", "-3", "or more."),
        ("name", "x" * 200, "Use at most 120 characters, not 200."),
        ("reply_rate_limited", "x" * 2_001, "Use at most 2,000 characters, not 2,001."),
    ],
)
def test_what_is_wrong_is_said_in_our_words(
    site: Site, admin_client: Client, field: str, value: str, words: str
) -> None:
    page = reverse("admin:channels_channel_change", args=[site.channel.pk])
    form = {
        "name": "Shop",
        "model": site.channel.model_id,
        "requests_per_minute": "60",
        "daily_quota": "1000",
    }
    text = text_of(admin_client.post(page, form | {field: value}))
    assert words in text
    assert "2147483647" not in text
    assert "Ensure this value" not in text


def test_rows_within_a_page_and_pages_of_our_own_say_it_too(admin_client: Client) -> None:
    model = LanguageModel.objects.all()[0]
    page = reverse("admin:channels_languagemodel_change", args=[model.pk])
    form = {"routes-TOTAL_FORMS": "1", "routes-INITIAL_FORMS": "0", "routes-0-position": "9" * 12}
    asked = text_of(admin_client.post(page, form))
    asked += text_of(admin_client.post("/admin/credits/codes/", {"count": "0", "note": "x" * 151}))
    for words in ("1,000,000,000", "Enter 1 or more.", "at most 150 characters, not 151."):
        assert words in asked
    assert "Ensure this value" not in asked
