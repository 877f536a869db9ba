"""Many channels: a table with filters and page numbers, several switched at once, and copies."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from channels import catalogue, channel_changes, fixed_answers
from channels.audit import COMMAND_LINE
from channels.models import Account, ApiKey, AuditEntry, Channel, FixedAnswer, Wording
from channels.tests.factories import Site
from conversations.models import FailedRequest
from dashboard.console.channel_list import CHANNELS_PER_PAGE, MOST_CARDS
from tests.support.clients import ApiClient, account_page, member_client, owner_client, page_of
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db


@pytest.fixture
def many(site: Site) -> list[Channel]:
    """Channels enough for two pages of the table."""
    account = Account.objects.get(id=site.account_id)
    return [
        channel_changes.create_channel(account=account, name=f"Blog {number:02}")
        for number in range(CHANNELS_PER_PAGE)
    ]


def names_on(page: Any) -> list[str]:
    return [card.channel.name for card in page.context["cards"]]


def switch(client: Client, site: Site, wanted: str, *ids: Any, **more: str) -> Any:
    data = {"is_enabled": wanted, "channel": [str(one) for one in ids], **more}
    return client.post(account_page(site, "channels/switch/"), data)


def copy(client: Client, channel: Channel, copy_id: Any) -> Any:
    address = reverse("console:duplicate_channel", args=[channel.id])
    return client.post(address, {"id": str(copy_id)})


def test_few_channels_are_cards_and_more_a_table(site: Site, owner: Client) -> None:
    account = Account.objects.get(id=site.account_id)
    for number in range(MOST_CARDS - 1):
        channel_changes.create_channel(account=account, name=f"Blog {number}")
    assert owner.get(account_page(site, "channels/")).content.count(b"<article") == MOST_CARDS
    channel_changes.create_channel(account=account, name="One more")
    page = owner.get(account_page(site, "channels/")).content
    assert page.count(b"<article") == 0
    assert page.count(b'name="channel"') == MOST_CARDS + 1


def test_the_table_is_filtered_by_state_model_and_errors(
    site: Site, owner: Client, many: list[Channel]
) -> None:
    address = account_page(site, "channels/")
    Channel.objects.filter(id=many[3].id).update(is_enabled=False)
    other = catalogue.get_model("gemma2-9b-it", account_id=site.account_id)
    Channel.objects.filter(id=many[5].id).update(model=other)
    for is_test, channel in ((False, many[7]), (True, many[8])):
        FailedRequest.objects.create(
            channel=channel, is_test=is_test, error_code="provider_error", created_at=timezone.now()
        )
    assert names_on(owner.get(address, {"state": "off"})) == ["Blog 03"]
    assert names_on(owner.get(address, {"model": "gemma2-9b-it"})) == ["Blog 05"]
    assert names_on(owner.get(address, {"state": "errors"})) == ["Blog 07"]
    both = owner.get(address, {"state": "off", "model": "gemma2-9b-it"})
    assert names_on(both) == []
    assert b"No channel matches these filters" in both.content
    # What nobody offers filters nothing.
    assert len(names_on(owner.get(address, {"state": "evil"}))) == CHANNELS_PER_PAGE


def test_pages_have_numbers_that_keep_the_filters(
    site: Site, owner: Client, many: list[Channel]
) -> None:
    page = owner.get(account_page(site, "channels/"), {"sort": "name", "q": "o"})
    assert b'href="?q=o&amp;sort=name&amp;page=2" aria-label="Page 2"' in page.content
    second = owner.get(account_page(site, "channels/?q=o&sort=name&page=2"))
    assert names_on(second) == ["Shop"]


def test_heads_of_the_table_sort_and_keep_the_filters(
    site: Site, owner: Client, many: list[Channel]
) -> None:
    page = owner.get(account_page(site, "channels/"), {"q": "o"}).content.decode()
    assert 'aria-sort="descending"><a class="gw-plain-link" href="?q=o&amp;sort=recent"' in page
    assert '<th scope="col"><a class="gw-plain-link" href="?q=o&amp;sort=name"' in page
    sorted_page = owner.get(account_page(site, "channels/"), {"q": "o", "sort": "name"})
    assert sorted_page.content.count(b'aria-sort="ascending"') == 1
    assert names_on(sorted_page)[:2] == ["Blog 00", "Blog 01"]


def test_several_channels_are_switched_at_once(
    site: Site, owner: Client, many: list[Channel]
) -> None:
    chosen = [many[0].id, many[1].id]
    back = account_page(site, "channels/?state=on")
    response = switch(owner, site, "off", *chosen, next=back)
    assert (response.status_code, response["Location"]) == (302, back)
    assert set(Channel.objects.filter(is_enabled=False).values_list("id", flat=True)) == set(chosen)
    entries = AuditEntry.objects.filter(action="channel.updated", channel_id__in=chosen)
    assert entries.count() == 2
    # Again: nothing changes, and nothing is recorded.
    switch(owner, site, "off", *chosen)
    assert entries.count() == 2
    switch(owner, site, "on", *chosen)
    assert not Channel.objects.filter(is_enabled=False).exists()


@pytest.mark.parametrize("back", ["https://evil.example/", "//evil.example", ""])
def test_a_switch_leads_nowhere_else(
    site: Site, owner: Client, many: list[Channel], back: str
) -> None:
    response = switch(owner, site, "off", many[0].id, next=back)
    assert response["Location"] == account_page(site, "channels/")


def test_a_strangers_channel_among_the_chosen_changes_nothing(
    site: Site, stranger: Site, owner: Client
) -> None:
    for other in (stranger.channel.id, uuid.uuid4(), "x"):
        assert switch(owner, site, "off", site.channel.id, other).status_code == 404
    assert not Channel.objects.filter(is_enabled=False).exists()
    assert switch(owner, site, "maybe", site.channel.id).status_code == 400
    viewer = member_client(site, "viewer")
    assert switch(viewer, site, "off", site.channel.id).status_code == 403


def test_a_viewer_has_no_switches(site: Site, many: list[Channel]) -> None:
    page = member_client(site, "viewer").get(account_page(site, "channels/")).content
    assert b"gw-bulk" not in page
    assert b'role="switch"' not in page


def test_a_page_of_many_takes_few_queries(
    site: Site, owner: Client, many: list[Channel], django_assert_max_num_queries: Any
) -> None:
    for query in ("", "?q=blog&state=errors&model=gemma2-9b-it", "?page=2"):
        with django_assert_max_num_queries(15):
            assert owner.get(account_page(site, f"channels/{query}")).status_code == 200


# --- Copies ---------------------------------------------------------------------------------------


def test_a_copy_has_settings_prompt_and_replies_and_keys_of_its_own(
    site: Site, owner: Client, provider: FakeProvider
) -> None:
    fields: dict[str, Any] = {
        "site_url": "https://shop.example",
        "system_prompt": "You sell bikes.",
        "fallback_replies": {"provider_error": "Sorry!"},
        "requests_per_minute": 7,
        "daily_quota": 70,
        "max_answer_tokens": 500,
        "stop_words": ["END"],
    }
    original = channel_changes.update_channel(channel_id=str(site.channel.id), **fields)
    fixed_answers.add_fixed_answer(
        channel=original, question="Open?", answer="At nine.", actor=COMMAND_LINE
    )
    copy_id = uuid.uuid4()
    page = copy(owner, original, copy_id)
    made = Channel.objects.get(name__startswith="Copy of")
    assert made.name == "Copy of Shop"
    assert {name: getattr(made, name) for name in fields} == fields
    assert made.model_id == original.model_id
    assert made.external_id is None
    assert FixedAnswer.objects.get(channel=made).answer == "At nine."
    live, _ = page.context["fresh"]
    assert ApiClient(live.clear).chat("Open?").json()["reply"] == "At nine."
    assert not ApiKey.objects.filter(channel=made, key_digest__in=_digests(original)).exists()
    # The same form, sent again, makes no second copy.
    again = copy(owner, original, copy_id)
    assert again["Location"] == reverse("console:start", args=[made.id])
    assert Channel.objects.filter(account_id=site.account_id).count() == 2


def test_a_copy_is_named_in_the_language_of_whoever_makes_it(site: Site) -> None:
    owner = owner_client(site, headers={"Accept-Language": "de"})
    copy(owner, site.channel, uuid.uuid4())
    assert Channel.objects.filter(name="Kopie von Shop").exists()


def _digests(channel: Channel) -> list[str]:
    return list(ApiKey.objects.filter(channel=channel).values_list("key_digest", flat=True))


def test_a_copy_of_many_saved_replies_takes_few_queries(
    site: Site, owner: Client, django_assert_max_num_queries: Any
) -> None:
    """The account's lock is held meanwhile, and on SQLite the only write lock there is."""
    rows = [FixedAnswer(channel=site.channel, question=f"q{n}", answer="a") for n in range(300)]
    for row in FixedAnswer.objects.bulk_create(rows):
        texts = [row.question, f"other {row.question}"]
        Wording.objects.bulk_create(fixed_answers.make_wordings(row, texts))
    with django_assert_max_num_queries(64):
        copy(owner, site.channel, uuid.uuid4())
    assert FixedAnswer.objects.exclude(channel=site.channel).count() == 300
    copies = Wording.objects.exclude(channel=site.channel).select_related("fixed_answer")
    assert {(one.text, one.fixed_answer.question) for one in copies} == {
        (text, f"q{n}") for n in range(300) for text in (f"q{n}", f"other q{n}")
    }
    entry = AuditEntry.objects.get(action="fixed_answer.added")
    assert entry.target == "300 saved replies of Shop"


def test_a_copy_of_a_long_name_fits(site: Site, owner: Client) -> None:
    channel = channel_changes.update_channel(channel_id=str(site.channel.id), name="x" * 120)
    copy(owner, channel, uuid.uuid4())
    assert Channel.objects.exclude(id=channel.id).get().name == "Copy of " + "x" * 112


def test_a_strangers_channel_is_not_copied_nor_their_id_taken(
    site: Site, stranger: Site, owner: Client
) -> None:
    assert copy(owner, stranger.channel, uuid.uuid4()).status_code == 404
    assert copy(owner, site.channel, "x").status_code == 404
    assert copy(owner, site.channel, stranger.channel.id).status_code == 200
    assert Channel.objects.get(name="Copy of Shop").id != stranger.channel.id
    assert copy(member_client(site, "viewer"), site.channel, uuid.uuid4()).status_code == 403


def test_a_model_that_is_no_longer_offered_copies_nothing(site: Site, owner: Client) -> None:
    model = site.channel.model
    model.is_enabled = False
    model.save()
    response = copy(owner, site.channel, uuid.uuid4())
    assert response["Location"] == page_of(site)
    assert Channel.objects.count() == 1
    assert b"Nothing was copied." in owner.get(page_of(site)).content


# --- The overview ---------------------------------------------------------------------------------


def test_the_last_30_days_are_compared_and_lead_to_their_requests(
    site: Site, owner: Client, provider: FakeProvider
) -> None:
    ApiClient(site.api_key).chat()
    page = owner.get(account_page(site, "overview/month/"))
    assert page.context["total"].request_count == 1
    log = owner.get(page.context["links"]["all"])
    assert log.context["tally"].total.request_count == 1
    assert b"so far" in page.content


def test_a_month_without_requests_says_what_test_keys_did(site: Site, owner: Client) -> None:
    ApiClient(site.test_key).chat()
    page = owner.get(account_page(site, "overview/month/")).content
    assert b"1 conversation with test keys" in page


def test_the_month_takes_few_queries(
    site: Site, owner: Client, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(15):
        owner.get(account_page(site, "overview/month/"))
