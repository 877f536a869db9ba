"""/api/manage/channels: what an agency's script does to set channels up and take one down."""

from __future__ import annotations

from typing import Any

import pytest

from channels import channel_changes
from channels.audit import COMMAND_LINE
from channels.errors import ProviderError
from channels.models import AuditEntry, Channel, Plan
from channels.tests.factories import Site
from gateway import verification
from tests.support.clients import ApiClient, owner_client, page_of, text_of
from tests.support.fake_provider import FakeProvider
from tests.support.manage import ManageClient, manager_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def manager(site: Site) -> ManageClient:
    return manager_of(site)


def test_a_script_sets_up_fifty_channels_and_takes_one_down(
    site: Site, manager: ManageClient, provider: FakeProvider
) -> None:
    keys = {}
    for number in range(50):
        shop = f"shop-{number}"
        body = {"name": shop, "external_id": shop, "system_prompt": f"You work for {shop}."}
        made = manager.post("channels", body, once=f"create {shop}")
        assert made.status_code == 201, made.content
        path = f"channels/{made.json()['id']}"
        key = manager.post(f"{path}/keys", {"mode": "live"}, once=f"key of {shop}")
        assert key.status_code == 201, key.content
        keys[shop] = key.json()["key"]
        cap = manager.put(f"{path}/spend-cap", {"month": "25"})
        assert cap.json()["month"]["limit"] == "25.000000"
        reply = {"question": "Where are you?", "answer": "Here."}
        assert manager.post(f"{path}/saved-replies", reply, once=shop).status_code == 201
    assert Channel.objects.filter(account=site.account_id).count() == 51
    for shop in ("shop-0", "shop-49"):
        assert ApiClient(keys[shop]).chat().status_code == 200
        assert f"You work for {shop}." in str(provider.prompts[-1])
    (found,) = manager.get("channels?external_id=shop-7").json()["data"]
    retired = manager.post(f"channels/{found['id']}/retire", once="retire shop-7")
    assert (retired.status_code, retired.json()["enabled"]) == (200, False)
    assert ApiClient(keys["shop-7"]).chat().status_code == 401
    assert ApiClient(keys["shop-8"]).chat().status_code == 200


def test_a_new_channel_is_described_and_read_again(
    site: Site, manager: ManageClient, clock: Any
) -> None:
    body = {
        "name": "Shop",
        "external_id": "42",
        "site_url": "https://shop.example/",
        "tags": ["EU", "Winter sale"],
        "model": site.channel.model.model_id,
        "requests_per_minute": 10,
        "daily_quota": 20,
        "enabled": False,
        "fallback_replies": {"overloaded": "Later!"},
        "temperature": 0.5,
        "max_answer_tokens": 300,
        "stop_words": ["END"],
        "fallback_model": "gemma2-9b-it",
        "unknown": 1,
        "system_prompt": None,
    }
    made = manager.post("channels", body)
    assert made.status_code == 201, made.content
    wanted = {name: value for name, value in body.items() if name in made.json()} | {
        "id": made.json()["id"],
        "prompt_version": 1,
        "created_at": "2026-04-05T12:00:00Z",
    }
    assert made.json() == wanted
    assert manager.get(f"channels/{wanted['id']}/").json() == wanted
    assert manager.get("channels?external_id=42").json() == {"data": [wanted], "next_cursor": None}


def test_a_channel_is_changed_member_by_member(site: Site, manager: ManageClient) -> None:
    path = f"channels/{site.channel.id}"
    before = manager.get(path).json()
    changes = {"name": "New", "enabled": False, "external_id": "a", "name_of_nothing": 1}
    changed = manager.patch(path, changes)
    assert changed.json() == before | {"name": "New", "enabled": False, "external_id": "a"}
    assert manager.patch(path, {"external_id": "", "name": None}).json()["external_id"] is None
    assert manager.patch(path, {"tags": [" b ", "A", "a"]}).json()["tags"] == ["b", "A"]
    assert manager.patch(path, {"tags": []}).json()["tags"] == []
    assert manager.patch(path, {}).json() == manager.get(path).json()
    entry = AuditEntry.objects.filter(action="channel.updated").order_by("id")[0]
    assert entry.actor_name.startswith("API key amgai_admin_…")
    assert entry.address == "127.0.0.1"
    assert entry.changes["name"] == ["Shop", "New"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"name": "x\0"}, "name"),
        ({"name": 1}, "name"),
        ({"name": "x", "external_id": "y" * 121}, "external_id"),
        ({"name": "x", "external_id": "taken"}, "external_id"),
        ({"name": "x", "site_url": "javascript:alert(1)"}, "site_url"),
        ({"name": "x", "enabled": "yes"}, "enabled"),
        ({"name": "x", "model": "nobody's"}, "model"),
        ({"name": "x", "requests_per_minute": 0}, "requests_per_minute"),
        ({"name": "x", "requests_per_minute": True}, "requests_per_minute"),
        ({"name": "x", "daily_quota": 2**31}, "daily_quota"),
        ({"name": "x", "fallback_replies": []}, "fallback_replies"),
        ({"name": "x", "fallback_replies": {"nothing": "x"}}, "fallback_replies.nothing"),
        ({"name": "x", "fallback_replies": {"overloaded": 1}}, "fallback_replies.overloaded"),
        ({"name": "x", "fallback_replies": {"\ud800": "x"}}, "fallback_replies.?"),
        ({"name": "x", "system_prompt": "x" * 16_001}, "system_prompt"),
        ({"name": "x", "tags": "EU"}, "tags"),
        ({"name": "x", "tags": ["a, b"]}, "tags"),
        ({"name": "x", "tags": ["x" * 41]}, "tags"),
        ({"name": "x", "tags": ["a\nb"]}, "tags"),
        ({"name": "x", "tags": [str(number) for number in range(11)]}, "tags"),
    ],
)
def test_what_is_wrong_is_named(
    site: Site, manager: ManageClient, body: dict[str, Any], field: str
) -> None:
    Channel.objects.filter(id=site.channel.id).update(external_id="taken")
    answer = manager.post("channels", body, once="k")
    assert answer.status_code == 400, answer.content
    assert list(answer.json()["fields"]) == [field]
    assert Channel.objects.count() == 1
    # A refusal frees the key.
    assert manager.post("channels", {"name": "x"}, once="k").status_code == 201


def test_the_plan_bounds_what_a_script_creates(site: Site, manager: ManageClient) -> None:
    account = site.channel.account
    account.plan = Plan.objects.create(name="Small", max_channels=1)
    account.save()
    answer = manager.post("channels", {"name": "x"})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("This account may have at most 1 channels.")
    assert answer.json()["fields"] == {}


def test_an_external_id_is_unique_in_an_account_only(
    site: Site, stranger: Site, manager: ManageClient
) -> None:
    other = manager_of(stranger)
    for one in (manager, other):
        assert one.post("channels", {"name": "x", "external_id": "1"}).status_code == 201
    taken = manager.patch(f"channels/{site.channel.id}", {"external_id": "1"})
    assert "external_id" in taken.json()["fields"]
    assert len(manager.get("channels?external_id=1").json()["data"]) == 1
    assert manager.get("channels?external_id=%00").json()["data"] == []


def test_a_channel_that_moves_leaves_its_external_id_behind(
    site: Site, stranger: Site, manager: ManageClient
) -> None:
    for one, channel in ((manager, site.channel), (manager_of(stranger), stranger.channel)):
        assert one.patch(f"channels/{channel.id}", {"external_id": "1"}).status_code == 200
    channel_changes.move_channel(
        channel=site.channel, owner_email="stranger@example.com", reason="r", actor=COMMAND_LINE
    )
    site.channel.refresh_from_db()
    assert site.channel.external_id is None
    assert manager.get(f"channels/{site.channel.id}").status_code == 404
    assert manager.post("channels", {"name": "x", "external_id": "1"}).status_code == 201


def test_only_an_unused_channel_is_deleted(
    site: Site, manager: ManageClient, provider: FakeProvider
) -> None:
    made = manager.post("channels", {"name": "x"}).json()["id"]
    assert manager.delete(f"channels/{made}").status_code == 204
    assert manager.delete(f"channels/{made}").status_code == 404
    ApiClient(site.api_key).chat()
    refused = manager.delete(f"channels/{site.channel.id}")
    assert refused.status_code == 400
    assert "Retire it" in refused.json()["error"]


def test_a_channel_with_a_spend_cap_but_no_message_is_deleted(
    site: Site, manager: ManageClient
) -> None:
    path = f"channels/{site.channel.id}"
    key = site.channel.api_keys.filter(mode="live")[0]
    for cap in (f"{path}/spend-cap", f"{path}/keys/{key.id}/spend-cap"):
        assert manager.put(cap, {"day": "5"}).status_code == 200
    assert "Delete channel" in text_of(owner_client(site).get(page_of(site)))
    assert manager.delete(path).status_code == 204
    assert not Channel.objects.filter(id=site.channel.id).exists()
    assert verification.verify_and_alert() == 0


def test_a_message_that_failed_keeps_a_channel_with_a_spend_cap(
    site: Site, manager: ManageClient, provider: FakeProvider
) -> None:
    path = f"channels/{site.channel.id}"
    manager.put(f"{path}/spend-cap", {"day": "5"})
    provider.script.append(ProviderError("timeout"))
    assert ApiClient(site.api_key).chat().status_code == 500
    assert set(site.channel.daily_usage.values_list("message_count", flat=True)) == {0}
    assert manager.delete(path).status_code == 400
    assert "Retire channel" in text_of(owner_client(site).get(page_of(site)))
    # Also for what the log of failures does not know any more.
    site.channel.failed_requests.all().delete()
    assert manager.delete(path).status_code == 400
    assert site.channel.daily_usage.exists()


def test_a_retired_channel_keeps_its_books(
    site: Site, manager: ManageClient, provider: FakeProvider
) -> None:
    ApiClient(site.api_key).chat()
    path = f"channels/{site.channel.id}"
    answer = manager.post(f"{path}/retire", once="1")
    assert answer.json()["erased_messages"] == 2
    again = manager.post(f"{path}/retire", once="1")
    assert again.content == answer.content
    assert AuditEntry.objects.filter(action="channel.retired").count() == 1
    assert manager.get(f"{path}/usage").json()["total"]["credits"] == "1.000000"


def test_pages_hold_every_channel_once_while_channels_are_created(
    site: Site, manager: ManageClient
) -> None:
    for number in range(4):
        manager.post("channels", {"name": f"c{number}"})
    wanted = [one["id"] for one in manager.get("channels").json()["data"]]
    assert len(wanted) == 5
    seen: list[str] = []
    cursor = ""
    while True:
        page = manager.get(f"channels?limit=2{cursor and '&cursor='}{cursor}").json()
        seen += [one["id"] for one in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = page["next_cursor"]
        if len(seen) == 2:
            wanted.append(manager.post("channels", {"name": "later"}).json()["id"])
    assert seen == wanted


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit="])
def test_a_wrong_limit_is_named(manager: ManageClient, query: str) -> None:
    answer = manager.get(f"channels?{query}")
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["limit"])


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "%00", "W10=", "WzFd", "WyJ4Il0=", "bnVsbA==", "W251bGxd", "x" * 501, "%C3%A9"],
)
def test_a_broken_cursor_is_named(manager: ManageClient, cursor: str, site: Site) -> None:
    for path in (
        "channels",
        f"channels/{site.channel.id}/keys",
        f"channels/{site.channel.id}/prompt-versions",
        f"channels/{site.channel.id}/saved-replies",
    ):
        answer = manager.get(f"{path}?cursor={cursor}")
        assert answer.status_code == 400, (path, answer.content)
        assert list(answer.json()["fields"]) == ["cursor"]
