"""From a new channel to its first reply, on one page that shows the reply by itself."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from channels.models import ApiKey, AuditEntry, Channel, User
from channels.tests.factories import Site
from conversations.models import Message
from dashboard.console.prompt_templates import TEMPLATES
from dashboard.reference.snippets import KEY_PLACEHOLDER
from tests.support.clients import ApiClient, log_in, member_client, owner_client, page_of
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db


def start_of(channel: Channel) -> str:
    return reverse("console:start", args=[channel.id])


def words_of(page: Any) -> str:
    """Return the words of a page, without markup."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page.content.decode())).split())


def make_channel(client: Client) -> Any:
    form = client.get("/channels/new/", follow=True).context["form"]
    data = {"id": form["id"].value(), "name": "Blog", "model": form["model"].value()}
    return client.post("/channels/new/", data)


def test_a_new_channel_waits_for_its_first_call_with_a_command_that_works(
    site: Site, owner: Client
) -> None:
    page = make_channel(owner)
    live, _ = page.context["fresh"]
    assert f"X-API-Key: {live.clear}" in page.context["command"]
    text = words_of(page)
    assert "Waiting for your first call" in text
    assert b'hx-trigger="every 2s"' in page.content
    # Later the page does not contain the key.
    again = owner.get(start_of(Channel.objects.get(name="Blog")))
    assert live.clear not in again.content.decode()
    assert KEY_PLACEHOLDER in again.context["command"]
    assert again["Cache-Control"] == "no-store"


def test_the_first_reply_appears_with_time_tokens_and_price(
    site: Site, owner: Client, provider: FakeProvider
) -> None:
    provider.script.append(reply("We open at nine.", input_tokens=31, output_tokens=7))
    ApiClient(site.api_key).chat("When do you open?")
    Message.objects.update(duration_ms=1_250)
    page = owner.get(start_of(site.channel))
    text = words_of(page)
    assert "We open at nine." in text
    assert "1.25 s 31 tokens in, 7 out 1 credit" in text
    assert f"requests/{Message.objects.get(role='assistant').id}/" in page.content.decode()
    # It no longer asks for more.
    assert b"hx-trigger" not in page.content.split(b'id="first-call"')[1].split(b"</section>")[0]


def test_a_refused_call_says_why_and_waits_on(
    site: Site, owner: Client, provider: FakeProvider
) -> None:
    provider.fail()
    ApiClient(site.api_key).chat()
    page = owner.get(start_of(site.channel))
    assert "A call arrived and was refused: provider_error" in words_of(page)
    assert b'hx-trigger="every 2s"' in page.content
    ApiClient(site.api_key).chat()
    assert "answers" in words_of(owner.get(start_of(site.channel)))


def test_a_call_with_the_test_key_counts_and_is_free(site: Site, owner: Client) -> None:
    ApiClient(site.test_key).chat()
    text = words_of(owner.get(start_of(site.channel)))
    assert "0 credits (test key: free) built-in demo See the request" in text


def test_a_viewer_sees_no_key_and_a_stranger_no_page(site: Site, stranger: Site) -> None:
    page = member_client(site, "viewer").get(start_of(site.channel)).content.decode()
    assert site.api_key not in page
    assert "data-key-copy" not in page
    assert "data-reveal" not in page
    assert owner_client(site).get(start_of(stranger.channel)).status_code == 404


def test_staff_do_not_read_the_reply_here(site: Site, provider: FakeProvider) -> None:
    provider.script.append(reply("A visitor's secret"))
    ApiClient(site.api_key).chat()
    guest = log_in(User.objects.create_superuser("boss@example.com", "x"))
    guest.post(reverse("admin:view_as_owner", args=[site.account_id]))
    page = guest.get(start_of(site.channel))
    assert page.status_code == 200
    assert "Shop answers" in words_of(page)
    assert "A visitor's secret" not in words_of(page)


def test_a_channel_without_a_key_offers_a_new_one(site: Site, owner: Client) -> None:
    ApiKey.objects.all().delete()
    page = owner.get(start_of(site.channel)).content.decode()
    assert "no active key" in page
    assert reverse("console:new_key", args=[site.channel.id]) in page


def test_whoever_called_has_copied_the_key(
    site: Site, owner: Client, provider: FakeProvider
) -> None:
    assert not AuditEntry.objects.filter(action__in=["key.copied", "key.revealed"]).exists()
    ApiClient(site.api_key).chat()
    assert owner.get("/", follow=True).context["checklist"] is None


def test_the_page_takes_few_queries(
    site: Site, owner: Client, provider: FakeProvider, django_assert_max_num_queries: Any
) -> None:
    ApiClient(site.api_key).chat()
    with django_assert_max_num_queries(12):
        owner.get(start_of(site.channel))


# --- Prompts to start from ------------------------------------------------------------------------


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda one: one.id)
def test_a_template_fills_the_editor_and_saves_nothing(
    site: Site, owner: Client, template: Any
) -> None:
    before = Channel.objects.get(id=site.channel.id)
    page = owner.get(f"/channels/{site.channel.id}/prompt/?template={template.id}")
    assert page.context["form"]["system_prompt"].value() == template.text
    assert b"data-unsaved" in page.content
    after = Channel.objects.get(id=site.channel.id)
    assert (after.system_prompt, after.prompt_version) == (
        before.system_prompt,
        before.prompt_version,
    )


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda one: one.id)
def test_no_sentence_of_a_template_is_broken(template: Any) -> None:
    assert [line for line in template.text.splitlines() if line.startswith(" ")] == []


def test_an_unknown_template_and_a_viewer_get_the_saved_prompt(site: Site, owner: Client) -> None:
    address = f"/channels/{site.channel.id}/prompt/"
    assert b"data-unsaved" not in owner.get(f"{address}?template=nothing").content
    page = member_client(site, "viewer").get(f"{address}?template=shop")
    assert page.context["form"]["system_prompt"].value() == site.channel.system_prompt


def test_a_template_is_saved_as_a_version(site: Site, owner: Client) -> None:
    address = f"/channels/{site.channel.id}/prompt/"
    form = owner.get(f"{address}?template=shop").context["form"]
    data = {name: form[name].value() or "" for name in form.fields}
    assert owner.post(f"{address}save/", data).status_code == 302
    site.channel.refresh_from_db()
    # Browsers and servers agree on line ends.
    assert site.channel.system_prompt == TEMPLATES[0].text


@pytest.mark.parametrize(
    ("waited", "pause", "following"),
    [("", 2, 2), ("58", 2, 60), ("90", 3, 93), ("999", 15, 1014), ("x", 2, 2), ("-1", 2, 2)],
)
def test_the_page_asks_more_rarely_the_longer_it_waits(
    site: Site, owner: Client, waited: str, pause: int, following: int
) -> None:
    page = owner.get(page_of(site, f"start/?waited={waited}")).content.decode()
    assert f'hx-trigger="every {pause}s"' in page
    assert f'start/?waited={following}"' in page
