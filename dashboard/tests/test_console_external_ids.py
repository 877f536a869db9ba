"""The id that a program gave a channel: shown to copy, found by search, changed by nobody there."""

from __future__ import annotations

import pytest

from channels.models import Channel
from channels.tests.factories import Site, make_site
from tests.support.clients import (
    account_page,
    member_client,
    owner_client,
    page_of,
    staff_client,
    text_of,
)

pytestmark = pytest.mark.django_db
EXTERNAL = "shop-<7>"
SHOWN = "shop-&lt;7&gt;"


@pytest.fixture
def numbered(site: Site) -> Site:
    Channel.objects.filter(id=site.channel.id).update(external_id=EXTERNAL)
    return site


@pytest.mark.parametrize("role", ["owner", "viewer"])
def test_the_settings_show_the_ids_to_copy(numbered: Site, role: str) -> None:
    client = owner_client(numbered) if role == "owner" else member_client(numbered, role)
    page = text_of(client.get(page_of(numbered)))
    for shown in (SHOWN, str(numbered.channel.id)):
        assert f'data-copy="{shown}"' in page
    # Not within the fieldset that is disabled for viewers, nor in a field.
    assert f'value="{SHOWN}"' not in page
    assert SHOWN not in page[page.index("<fieldset") : page.index("</fieldset")]


def test_a_channel_without_an_external_id_shows_none(site: Site) -> None:
    page = text_of(owner_client(site).get(page_of(site)))
    assert "External id" not in page
    assert f'data-copy="{site.channel.id}"' in page


def test_the_form_cannot_change_it(numbered: Site) -> None:
    client = owner_client(numbered)
    form = client.get(page_of(numbered)).context["form"]
    values = {name: form[name].value() or "" for name in form.fields}
    saved = client.post(page_of(numbered, "save/"), values | {"external_id": "x", "name": "New"})
    assert saved.status_code == 302
    numbered.channel.refresh_from_db()
    assert (numbered.channel.name, numbered.channel.external_id) == ("New", EXTERNAL)


def test_the_palette_and_the_overview_find_it(numbered: Site, stranger: Site) -> None:
    other = make_site(name="Blog")
    Channel.objects.filter(id=stranger.channel.id).update(external_id=EXTERNAL)
    client = owner_client(numbered)
    palette = text_of(client.get(account_page(numbered, "search/?s=SHOP-%3C7")))
    assert page_of(numbered) in palette
    assert EXTERNAL in palette
    cards = text_of(client.get(account_page(numbered, "?q=shop-%3C7")))
    assert str(numbered.channel.id) in cards
    for one in (other, stranger):
        assert str(one.channel.id) not in palette + cards
    nothing = text_of(client.get(account_page(numbered, "?q=nowhere")))
    assert "No channel has “nowhere” in its name, tags or external id" in nothing


def test_staff_find_the_channel_by_it(numbered: Site) -> None:
    client = staff_client("view_channel")
    palette = text_of(client.get("/admin/search/?s=shop-%3C7&extended=1"))
    assert f"/admin/channels/channel/{numbered.channel.id}/change/" in palette
