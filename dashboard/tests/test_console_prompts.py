"""Prompts: every save is a version, versions can be compared and restored, no silent overwrite."""

from __future__ import annotations

import re
from typing import Any

import pytest

from channels import channel_changes
from channels.models import AuditEntry, Channel, PromptVersion
from channels.providers.tokens import estimate_tokens, most_tokens
from channels.tests.factories import Site, set_prices
from conversations.models import Message
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


def digest_on(client: Any, site: Site) -> str:
    return str(client.get(page_of(site, "prompt/")).context["form"]["digest"].value())


def save(client: Any, site: Site, text: str, note: str = "", digest: str | None = None) -> Any:
    form = {"system_prompt": text, "prompt_note": note}
    return client.post(
        page_of(site, "prompt/save/"), form | {"digest": digest or digest_on(client, site)}
    )


def stored(site: Site) -> Channel:
    return Channel.objects.get(id=site.channel.id)


def test_a_saved_prompt_is_a_version_that_messages_remember(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    client = member_client(site, "editor")
    assert save(client, site, "Be brief.\r\nBe kind.", "first words").status_code == 302
    version = PromptVersion.objects.get(channel=site.channel, number=2)
    assert version.author is not None
    assert (version.text, version.note) == ("Be brief.\nBe kind.", "first words")
    api.chat()
    assert provider.prompts[0][0]["content"].startswith("Be brief.\nBe kind.")
    assert Message.objects.get(role="assistant").prompt_version == 2
    page = client.get(page_of(site, "prompt/")).content.decode()
    assert "first words" in page
    assert "editor@example.com" in page
    assert "about 5 tokens" in page
    assert "16,000 characters" in page


def test_the_same_text_makes_no_version(site: Site) -> None:
    client = owner_client(site)
    digest = digest_on(client, site)
    for _ in range(2):
        assert save(client, site, "Hello", digest=digest).status_code == 302
    assert stored(site).prompt_version == 2
    assert PromptVersion.objects.filter(channel=site.channel).count() == 2


def test_white_space_is_the_owners_choice(site: Site) -> None:
    save(owner_client(site), site, "  Hi\n\n")
    assert stored(site).system_prompt == "  Hi\n\n"


def test_a_prompt_has_a_limit_in_characters_not_bytes(site: Site) -> None:
    client = owner_client(site)
    assert save(client, site, "é\r\n" * 8_000).status_code == 302
    assert len(stored(site).system_prompt) == 16_000
    response = save(client, site, "x" * 16_001)
    assert response.status_code == 422
    assert "16,000" in str(response.context["form"].errors["system_prompt"])
    assert save(client, site, "a\x00b").status_code == 422
    assert save(client, site, "x", note="n" * 201).status_code == 422
    assert stored(site).prompt_version == 2


def test_a_save_on_top_of_anothers_is_refused(site: Site) -> None:
    client, editor = owner_client(site), member_client(site, "editor")
    digest = digest_on(client, site)
    save(editor, site, "Theirs")
    response = save(client, site, "Mine", digest=digest)
    assert response.status_code == 409
    page = response.content.decode()
    assert "editor@example.com saved it" in page
    assert ">\nMine</textarea>" in page
    assert stored(site).system_prompt == "Theirs"
    # Both are shown side by side, and saving again keeps the person's own text.
    (both,) = response.context["differences"]
    assert [line.parts[0][0] for line in (*both.theirs, *both.yours)] == ["Theirs", "Mine"]
    fresh = response.context["form"]["digest"].value()
    assert save(client, site, "Mine", digest=fresh).status_code == 302
    assert stored(site).system_prompt == "Mine"


def test_versions_are_compared_and_brought_back_once(site: Site) -> None:
    client = owner_client(site)
    save(client, site, "Be brief.\nAnswer in <b>English</b>.")
    save(client, site, "Be brief.\nAnswer in <b>French</b>.")
    page = client.get(page_of(site, "prompt/2/")).content.decode()
    assert "removed: " in page
    assert "<mark>English</mark>" in page
    assert "<mark>French</mark>" in page
    assert "&lt;b&gt;" in page
    client.post(page_of(site, "prompt/2/restore/"))
    response = client.post(page_of(site, "prompt/2/restore/"), follow=True)
    assert "already the same as version 2" in response.content.decode()
    channel = stored(site)
    assert (channel.prompt_version, channel.system_prompt) == (
        4,
        "Be brief.\nAnswer in <b>English</b>.",
    )
    assert PromptVersion.objects.get(number=4).note == "Back to version 2"
    assert AuditEntry.objects.filter(action="channel.updated").count() == 3
    assert (
        "Both versions have the same text"
        in client.get(page_of(site, "prompt/2/")).content.decode()
    )


def test_viewers_and_guests_read_and_change_nothing(site: Site) -> None:
    channel_changes.update_channel(channel_id=str(site.channel.id), system_prompt="Hello")
    for client in (member_client(site, "viewer"), staff_guest(site)):
        page = client.get(page_of(site, "prompt/")).content.decode()
        assert "Hello" in page
        assert "Save as a new version" not in page
        assert "Roll back" not in client.get(page_of(site, "prompt/1/")).content.decode()
        assert client.post(page_of(site, "prompt/save/"), {"system_prompt": "x"}).status_code == 403
        assert client.post(page_of(site, "prompt/1/restore/")).status_code == 403
    assert stored(site).prompt_version == 2


def test_a_strangers_versions_and_unknown_numbers_are_alike(site: Site, stranger: Site) -> None:
    channel_changes.update_channel(channel_id=str(site.channel.id), system_prompt="Secret")
    client = owner_client(stranger)
    for rest in ("prompt/", "prompt/2/"):
        assert_same_404(client, rest, page_of(site, rest), f"/channels/{UNKNOWN}/{rest}")
    for rest in ("prompt/save/", "prompt/2/restore/"):
        assert_same_404(
            client, rest, page_of(site, rest), f"/channels/{UNKNOWN}/{rest}", system_prompt="x"
        )
    mine = [page_of(stranger, f"prompt/{number}/") for number in (1, 2, 9)]
    assert_same_404(client, *mine)
    assert client.get(page_of(stranger, f"prompt/{10**30}/")).status_code == 404
    assert client.post(page_of(stranger, "prompt/2/restore/")).status_code == 404


def test_the_page_takes_few_queries(site: Site, django_assert_max_num_queries: Any) -> None:
    client = owner_client(site)
    for number in range(30):
        channel_changes.update_channel(channel_id=str(site.channel.id), system_prompt=str(number))
    client.get(page_of(site, "prompt/"))
    with django_assert_max_num_queries(13):
        page = client.get(page_of(site, "prompt/"))
    assert page.content.decode().count("Roll back") == 19
    assert client.get(page_of(site, "prompt/?page=2")).status_code == 200


# --- While somebody edits -------------------------------------------------------------------------


def test_changes_are_shown_before_they_are_saved(site: Site) -> None:
    channel_changes.update_channel(channel_id=str(site.channel.id), system_prompt="Be brief.\nHi")
    client = member_client(site, "editor")
    path = page_of(site, "prompt/changes/")
    form = {"system_prompt": "Be kind.\r\nHi", "temperature": "9", "prompt_note": "kinder"}
    page = client.post(path, form | {"digest": digest_on(client, site)})
    assert page.status_code == 200
    text = text_of(page)
    changes = text[text.index('id="prompt-changes"') :]
    assert "Changes to version 2" in changes
    assert changes.count("removed: ") == changes.count("added: ") == 1
    assert "<mark>brief</mark>" in changes
    assert "<mark>kind</mark>" in changes
    # The form keeps what was typed, and says what else is wrong with it.
    assert "Be kind.\nHi</textarea>" in page.content.decode().replace("\r\n", "\n")
    assert 'value="kinder"' in text
    assert "data-unsaved" in text
    assert page.context["form"].errors.keys() == {"temperature"}
    assert stored(site).system_prompt == "Be brief.\nHi"
    same = client.post(path, {"system_prompt": "Be brief.\r\nHi"})
    assert "The text is the same as in version 2." in text_of(same)
    assert client.post(path, {"system_prompt": "x" * 16_001}).status_code == 422
    assert client.get(path)["Location"] == page_of(site, "prompt/")
    # Before somebody asks, there is nothing to show.
    assert "Changes to version" not in text_of(client.get(page_of(site, "prompt/")))


def test_only_those_who_may_save_compare(site: Site, stranger: Site) -> None:
    path = page_of(site, "prompt/changes/")
    for client in (member_client(site, "viewer"), staff_guest(site)):
        assert client.post(path, {"system_prompt": "x"}).status_code == 403
        assert "Show changes" not in text_of(client.get(page_of(site, "prompt/")))
    unknown = f"/channels/{UNKNOWN}/prompt/changes/"
    assert_same_404(owner_client(stranger), path, path, unknown, system_prompt="x")


def test_a_comparison_takes_few_queries(site: Site, django_assert_max_num_queries: Any) -> None:
    client = owner_client(site)
    path = page_of(site, "prompt/changes/")
    client.post(path, {"system_prompt": "x"})
    with django_assert_max_num_queries(15):
        client.post(path, {"system_prompt": "x"})


def test_the_page_says_how_many_tokens_the_text_in_it_has(site: Site) -> None:
    client = owner_client(site)
    set_prices(price_per_1k_input_tokens_microcredits=1000)
    page = client.post(page_of(site, "prompt/save/"), {"system_prompt": "ä" * 41, "digest": "old"})
    assert page.status_code == 409
    text = re.sub(r"<[^>]+>", "", text_of(page))
    assert f"about {estimate_tokens('ä' * 41)} tokens" in text
    assert f"up to {most_tokens('ä' * 41)} of them" in text
    # Of a form that was not sent: those of the saved text.
    assert "about 0 tokens" in re.sub(r"<[^>]+>", "", text_of(client.get(page_of(site, "prompt/"))))
