"""Tags of channels: entered in the settings, shown and filtered by in the list, changed at once."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from channels import channel_changes, tags
from channels.models import Account, AuditEntry, Channel
from channels.tests.factories import Site
from dashboard.console.channel_list import MOST_CARDS
from tests.support.clients import account_page, member_client, page_of, text_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def many(site: Site) -> list[Channel]:
    """Channels enough for the table."""
    account = Account.objects.get(id=site.account_id)
    return [
        channel_changes.create_channel(account=account, name=f"Blog {number}")
        for number in range(MOST_CARDS)
    ]


def save_tags(client: Client, site: Site, text: str) -> Any:
    form = client.get(page_of(site)).context["form"]
    values = {name: form[name].value() or "" for name in form.fields}
    return client.post(page_of(site, "save/"), values | {"tags": text})


def tags_of(channel_id: Any) -> str:
    return Channel.objects.get(id=channel_id).tags


def tag(client: Client, site: Site, change: str, words: str, *ids: Any) -> Any:
    data = {"change": change, "tag": words, "channel": [str(one) for one in ids]}
    return client.post(account_page(site, "channels/tag/"), data, follow=True)


def names_on(page: Any) -> list[str]:
    return sorted(card.channel.name for card in page.context["cards"])


def test_the_settings_save_tags_trimmed_and_each_once(site: Site, owner: Client) -> None:
    assert save_tags(owner, site, "  Winter sale , EU,, eu ").status_code == 302
    assert tags_of(site.channel.id) == "Winter sale, EU"
    assert owner.get(page_of(site)).context["form"]["tags"].value() == "Winter sale, EU"
    entry = AuditEntry.objects.get(action="channel.updated")
    assert entry.changes == {"tags": ["", "Winter sale, EU"]}
    # Saved again, nothing is recorded.
    save_tags(owner, site, "Winter sale, EU")
    assert AuditEntry.objects.filter(action="channel.updated").count() == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (", ".join(f"t{number}" for number in range(11)), "at most 10 tags"),
        ("x" * 41, "at most 40 characters"),
        ("a\x07b", "control characters"),
        ("a\u2028b", "control characters"),
    ],
)
def test_what_is_wrong_with_tags_is_said(site: Site, owner: Client, text: str, words: str) -> None:
    response = save_tags(owner, site, text)
    assert response.status_code == 422
    assert words in text_of(response)
    assert tags_of(site.channel.id) == ""


def test_ten_tags_of_full_length_fit(site: Site, owner: Client) -> None:
    text = ", ".join(f"{number:040}" for number in range(10))
    assert save_tags(owner, site, text).status_code == 302
    assert tags_of(site.channel.id) == text


def test_an_account_spells_a_tag_in_one_way(
    site: Site, stranger: Site, owner: Client, many: list[Channel]
) -> None:
    channel_changes.update_channel(channel_id=str(stranger.channel.id), tags="SHÖP")
    channel_changes.update_channel(channel_id=str(many[0].id), tags="Shöp")
    save_tags(owner, site, "new, shöp")
    assert tags_of(site.channel.id) == "new, Shöp"
    assert tags.list_tags(site.account_id) == ["new", "Shöp"]
    # The only channel with it may spell it differently.
    save_tags(owner, site, "NEW, Shöp")
    assert tags_of(site.channel.id) == "NEW, Shöp"


def test_the_list_shows_tags_and_is_filtered_by_one(
    site: Site, owner: Client, many: list[Channel]
) -> None:
    channel_changes.update_channel(channel_id=str(many[0].id), tags="50 %, EU")
    channel_changes.update_channel(channel_id=str(many[1].id), tags="EU north")
    address = account_page(site, "channels/")
    page = owner.get(address)
    assert f'href="{address}?tag=50%20%25"' in text_of(page)
    assert page.context["tags"] == ["50 %", "EU", "EU north"]
    assert names_on(owner.get(address, {"tag": "eu"})) == ["Blog 0"]
    assert names_on(owner.get(address, {"tag": "50 %"})) == ["Blog 0"]
    assert names_on(owner.get(address, {"tag": "EU", "q": "1"})) == []
    assert names_on(owner.get(address, {"tag": "nobody's\0"})) == []
    assert names_on(owner.get(address, {"q": "north"})) == ["Blog 1"]
    assert 'option value="EU" selected' in text_of(owner.get(address, {"tag": "eu"}))


def test_several_channels_get_a_tag_and_lose_it(
    site: Site, owner: Client, many: list[Channel]
) -> None:
    ids = [many[0].id, many[1].id]
    channel_changes.update_channel(channel_id=str(many[0].id), tags="EU")
    assert "Tag added: 1 channel." in text_of(tag(owner, site, "add", " eu ", *ids))
    assert [tags_of(one) for one in ids] == ["EU", "EU"]
    assert "Nothing to change." in text_of(tag(owner, site, "add", "EU", *ids))
    assert "Tag removed: 2 channels." in text_of(tag(owner, site, "remove", "eU", *ids))
    assert [tags_of(one) for one in ids] == ["", ""]
    changes = AuditEntry.objects.filter(channel_id=ids[1]).order_by("-id")[0].changes
    assert changes == {"tags": ["EU", ""]}


def test_one_full_channel_among_the_chosen_changes_none(
    site: Site, owner: Client, many: list[Channel]
) -> None:
    full = ", ".join(f"t{number}" for number in range(10))
    channel_changes.update_channel(channel_id=str(many[1].id), tags=full)
    page = text_of(tag(owner, site, "add", "more", many[0].id, many[1].id))
    assert "Nothing was changed. Blog 1: Enter at most 10 tags; these are 11." in page
    assert tags_of(many[0].id) == ""
    assert "Enter a tag." in text_of(tag(owner, site, "add", " ", many[0].id))
    assert "Enter one tag." in text_of(tag(owner, site, "add", "a, b", many[0].id))


def test_a_strangers_channel_among_the_chosen_changes_nothing(
    site: Site, stranger: Site, owner: Client
) -> None:
    for other in (stranger.channel.id, uuid.uuid4(), "x"):
        assert tag(owner, site, "add", "EU", site.channel.id, other).status_code == 404
    assert tag(owner, site, "maybe", "EU", site.channel.id).status_code == 400
    assert tag(member_client(site, "viewer"), site, "add", "EU", site.channel.id).status_code == 403
    assert not Channel.objects.exclude(tags="").exists()


def test_the_palette_finds_a_tag_and_a_copy_has_it(
    site: Site, stranger: Site, owner: Client
) -> None:
    for one in (site, stranger):
        channel_changes.update_channel(channel_id=str(one.channel.id), tags="Winter")
    found = owner.get(account_page(site, "search/?s=wint")).json()["results"]
    assert [row["url"] for row in found if row["group"] == "Channels"] == [page_of(site)]
    copy_id = uuid.uuid4()
    owner.post(reverse("console:duplicate_channel", args=[site.channel.id]), {"id": str(copy_id)})
    assert tags_of(Channel.objects.get(name__startswith="Copy of").id) == "Winter"
