"""The Requests page: every request with its outcome and cost, and its own page."""

from __future__ import annotations

import csv
import io
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from channels.models import ApiKey, AuditEntry
from channels.tests.factories import Site, make_site, save_reply
from conversations.models import ChatSession, FailedRequest, Message, ReplayedRequest
from conversations.usage import request_log
from conversations.usage.request_filter import Kind
from server import answers
from tests.support.clients import (
    ApiClient,
    account_page,
    member_client,
    owner_client,
    page_of,
    staff_client,
    staff_guest,
    text_of,
)
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db

LIST = "/requests/"
FORMULA = '=HYPERLINK("https://evil.example")'


@pytest.fixture
def busy(site: Site, provider: FakeProvider) -> Site:
    """A site with a request of each outcome."""
    save_reply(site.channel, "Open?", "Always.")
    api = ApiClient(site.api_key)
    provider.script.append(reply(input_tokens=1234, output_tokens=56))
    api.chat(headers={"X-Request-Id": "answered"})
    api.chat("Open?", headers={"X-Request-Id": "saved"})
    provider.fail("timeout")
    api.chat(headers={"X-Request-Id": "failed"}, metadata={"url": "https://shop.example/cart"})
    completion = {"model": "gpt", "messages": [{"role": "user", "content": "Hi"}]}
    api.post("/v1/chat/completions", completion, {"X-Request-Id": "refused"})
    for request_id in ("original", "replayed"):
        api.chat("Again", headers={"Idempotency-Key": "k", "X-Request-Id": request_id})
    return site


def ids(page: Any) -> list[str]:
    return [one["row"].request_id for one in page.context["rows"]]


def test_lists_every_request_with_its_outcome_and_cost(busy: Site, owner: Client) -> None:
    page = owner.get(LIST)
    assert page.status_code == 200
    assert ids(page) == ["replayed", "original", "refused", "failed", "saved", "answered"]
    text = text_of(page)
    assert "5 requests, 2 credits charged, and 1 replay, which is free and not counted" in text
    assert "1,234 / 56" in text
    for words in ("provider_error (timeout)", "model_not_found", "Saved reply", "Replayed"):
        assert words in text
    key = ApiKey.objects.get(channel=busy.channel, mode="live")
    assert text.count(f">{key.masked}</span>") == 6
    assert text.count(f"{key.masked} (Shop)") == 1, "among the filter's choices"
    assert 'data-copy="answered"' in text
    ApiKey.objects.filter(id=key.id).update(name="Live key")
    text = text_of(owner.get(LIST))
    assert text.count(f'title="{key.masked}">Live key</span>') == 6
    assert text.count(f"Live key, {key.masked} (Shop)") == 1


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("outcome=answered", ["original", "saved", "answered"]),
        ("outcome=saved_reply", ["saved"]),
        ("outcome=errors", ["refused", "failed"]),
        ("outcome=failed", ["failed"]),
        ("outcome=refused", ["refused"]),
        ("outcome=replayed", ["replayed"]),
        ("code=provider_error", ["failed"]),
        ("model=gpt", ["refused"]),
        ("page=https://shop", ["failed"]),
        ("q=saved", ["saved"]),
        ("q=+saved+", ["saved"]),
        ("traffic=test", []),
        ("slower=10000000", []),
    ],
)
def test_filters(busy: Site, owner: Client, query: str, found: list[str]) -> None:
    assert ids(owner.get(f"{LIST}?{query}")) == found


def test_filters_by_key_and_by_time(busy: Site, owner: Client, provider: FakeProvider) -> None:
    other = make_site(name="Other")
    ApiClient(other.api_key).chat(headers={"X-Request-Id": "other"})
    key = ApiKey.objects.get(channel=other.channel, mode="live").id
    assert ids(owner.get(f"{LIST}?key={key}")) == ["other"]
    Message.objects.filter(request_id="answered").update(
        created_at=timezone.now() - timedelta(hours=2)
    )
    hour_ago = f"{timezone.now() - timedelta(hours=1):%Y-%m-%dT%H:%M}"
    assert ids(owner.get(f"{LIST}?until={hour_ago}")) == ["answered"]
    assert "answered" not in ids(owner.get(f"{LIST}?since={hour_ago}"))


def test_the_period_is_chosen_by_tabs_as_in_usage(busy: Site, owner: Client) -> None:
    page = owner.get(LIST, {"channel": str(busy.channel.id)})
    tabs = {name: query for name, _label, query in page.context["ranges"]}
    assert list(tabs) == ["24h", "7d", "30d", "own"]
    assert all(f"channel={busy.channel.id}" in query for query in tabs.values())
    assert 'name="since"' not in page.content.decode()
    for days, name in ((1, "24h"), (7, "7d"), (30, "30d")):
        shown = owner.get(f"{LIST}?{tabs[name]}").context
        assert (shown["ends_at"] - shown["starts_at"]).days == days
        assert shown["form"].shown_range == name


def test_a_custom_period_starts_with_the_ends_that_are_shown(busy: Site, owner: Client) -> None:
    page = owner.get(LIST)
    query = {name: query for name, _label, query in page.context["ranges"]}["own"]
    custom = owner.get(f"{LIST}?{query}")
    for name in ("starts_at", "ends_at"):
        assert custom.context[name] == page.context[name]
    for name, end in (("since", "starts_at"), ("until", "ends_at")):
        value = f"{page.context[end]:%Y-%m-%dT%H:%M}"
        assert f'name="{name}" value="{value}"' in custom.content.decode()


def test_more_filters_open_above_the_buttons(busy: Site, owner: Client) -> None:
    page = text_of(owner.get(LIST, {"code": "provider_timeout"}))
    assert page.index('<details class="gw-filters-more" open>') < page.index("Apply filters")
    assert '<details class="gw-filters-more">' in text_of(owner.get(LIST, {"traffic": "live"}))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("since=yesterday", "Enter a time such as 2026-11-28 14:30."),
        ("since=1999-12-31T00:00", "Choose a time in 2000 or later."),
        ("since=0001-01-01T00:00", "Choose a time in 2000 or later."),
        ("since=9999-12-31T23:59", "Choose a time before the year 3000."),
        ("since=2026-03-02T00:00&until=2026-03-01T00:00", "choose a later time"),
        ("since=2024-01-01T00:00&until=2025-03-01T00:00", "At most 366 days"),
        ("outcome=lost", "Choose one of the options."),
        ("key=lost", "Choose one of the options."),
        ("channel=lost", "Choose one of the options."),
        ("slower=-1", "Enter 0 or more."),
        ("slower=soon", "Enter a whole number"),
    ],
)
def test_wrong_filters_are_said_beside_the_field(owner: Client, query: str, words: str) -> None:
    page = owner.get(f"{LIST}?{query}")
    assert page.status_code == 200
    assert words in page.content.decode()
    assert owner.get(f"{LIST}export.csv?{query}").status_code == 404


@pytest.mark.parametrize("query", ["since=2999-12-30T00:00", "until=2000-01-01T00:00", "after=x"])
def test_the_ends_of_the_calendar_are_no_error(owner: Client, query: str) -> None:
    assert owner.get(f"{LIST}?{query}").status_code == 200


def test_pages_lead_to_earlier_requests(
    busy: Site, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "REQUESTS_ON_A_PAGE", 4)
    first = owner.get(LIST + "?traffic=live")
    second = owner.get(f"{LIST}?{first.context['next_query']}")
    assert ids(first) + ids(second) == [
        "replayed", "original", "refused", "failed", "saved", "answered"
    ]  # fmt: skip
    assert not second.context["next_query"]
    assert "5 requests, 2 credits" in text_of(second)


def test_an_empty_log_says_what_to_do(owner: Client, site: Site) -> None:
    assert "No requests in the last 7 days" in text_of(owner.get(LIST))
    assert "No request has this id" in text_of(owner.get(f"{LIST}?q=nothing"))
    assert "No request matches" in text_of(owner.get(f"{LIST}?outcome=failed"))
    ApiClient(site.test_key).chat()
    assert "1 conversation with test keys" in text_of(owner.get(LIST))


def test_an_empty_tab_of_a_channel_speaks_of_the_channel(owner: Client, site: Site) -> None:
    tab = page_of(site, "requests/")
    page = text_of(owner.get(tab))
    assert "No requests in the last 7 days" in page
    assert "Clear filters" not in page, "the channel of a tab is no filter"
    assert "No request matches" in text_of(owner.get(f"{tab}?outcome=failed"))
    filtered = text_of(owner.get(f"{tab}?outcome=failed&traffic=live"))
    assert f'<a class="gw-btn" href="{tab}">Clear filters</a>' in filtered


def test_an_id_is_found_whatever_its_age_and_key(site: Site, owner: Client) -> None:
    ApiClient(site.test_key).chat(headers={"X-Request-Id": "old"})
    Message.objects.update(created_at=timezone.now() - timedelta(days=400))
    assert ids(owner.get(f"{LIST}?q=old")) == ["old"]
    message = Message.objects.get(role="assistant")
    assert ids(owner.get(f"{LIST}?q={message.id}")) == ["old"]


# --- Search ---------------------------------------------------------------------------------------


def test_the_palette_finds_a_request_by_either_id(
    busy: Site, stranger: Site, owner: Client
) -> None:
    message = Message.objects.get(request_id="answered")
    theirs = owner_client(stranger)
    for reference in ("answered", str(message.id)):
        (one,) = owner.get(f"{LIST}?q={reference}").context["rows"]
        path = "search/?s=" + reference
        assert one["url"] in text_of(owner.get(account_page(busy, path)))
        assert one["url"] not in text_of(theirs.get(account_page(stranger, path)))
    assert "Request: failed" in text_of(owner.get(account_page(busy, "search/?s=failed")))


def test_the_staffs_palette_finds_requests_that_the_person_may_see(busy: Site) -> None:
    message = Message.objects.get(request_id="answered")
    failure = FailedRequest.objects.get(error_code="model_not_found")
    FailedRequest.objects.filter(pk=failure.pk).update(request_id="refused-1")
    may_see = staff_client("view_message", "view_failedrequest")
    may_not = staff_client("view_account", email="other@example.com")
    for reference, url in (
        ("answered", f"/admin/conversations/message/{message.id}/change/"),
        (str(message.id), f"/admin/conversations/message/{message.id}/change/"),
        ("refused-1", f"/admin/conversations/failedrequest/{failure.pk}/change/"),
    ):
        path = f"/admin/search/?s={reference}&extended=1"
        assert url in text_of(may_see.get(path))
        assert "Request of" not in text_of(may_not.get(path))


# --- One request ----------------------------------------------------------------------------------


def open_one(client: Client, request_id: str) -> Any:
    (one,) = client.get(f"{LIST}?q={request_id}").context["rows"]
    return client.get(one["url"])


def test_a_reply_shows_its_receipt_and_leads_to_ledger_and_conversation(
    busy: Site, owner: Client
) -> None:
    page = open_one(owner, "answered")
    text = text_of(page)
    for words in ("1,234", "1 credit<", "Entry 2", "Version 1", "fake (fake-model)"):
        assert words in text, words
    assert owner.get(page.context["ledger_url"].partition("#")[0]).status_code == 200
    ledger = owner.get(page.context["ledger_url"].partition("#")[0])
    assert 'id="entry-2"' in text_of(ledger)
    reply_id = Message.objects.get(request_id="answered").id
    session = ChatSession.objects.get()
    url = account_page(busy, f"conversations/{session.pk}/#reply-{reply_id}")
    assert page.context["conversation_url"] == url


def test_a_failure_shows_why_and_leads_to_its_conversation(busy: Site, owner: Client) -> None:
    page = open_one(owner, "failed")
    text = text_of(page)
    for words in ("provider_error", "(timeout)", "https://shop.example/cart", "0 credits"):
        assert words in text, words
    session = ChatSession.objects.get()
    assert page.context["conversation_url"] == account_page(busy, f"conversations/{session.pk}/")
    assert page.context["meaning"].meaning.split("'")[0].split("&")[0] in text


def test_a_replay_leads_to_the_original(busy: Site, owner: Client) -> None:
    page = open_one(owner, "replayed")
    original = owner.get(page.context["original_url"])
    assert original.context["row"].request_id == "original"


@pytest.mark.parametrize("role", ["editor", "viewer"])
def test_every_member_may_look(busy: Site, role: str) -> None:
    client = member_client(busy, role)
    assert len(ids(client.get(LIST))) == 6
    assert client.get(f"{LIST}export.csv").status_code == 200
    for request_id in ("answered", "failed", "replayed"):
        assert open_one(client, request_id).status_code == 200


def test_a_staff_guest_may_look_and_reading_a_page_address_is_audited(busy: Site) -> None:
    guest = staff_guest(busy)
    assert len(ids(guest.get(LIST))) == 6
    for request_id in ("answered", "failed"):
        assert open_one(guest, request_id).status_code == 200
    read = AuditEntry.objects.filter(action="staff.read_text")
    assert [entry.target for entry in read] == ["page of request failed"]


def test_a_stranger_finds_none_of_it(busy: Site, stranger: Site) -> None:
    theirs = owner_client(stranger)
    assert ids(theirs.get(LIST)) == []
    mine = owner_client(busy)
    for request_id in ("answered", "failed", "replayed"):
        (one,) = mine.get(f"{LIST}?q={request_id}").context["rows"]
        assert ids(theirs.get(f"{LIST}?q={request_id}")) == []
        own_place = one["url"].replace(account_page(busy), account_page(stranger))
        assert theirs.get(own_place).status_code == 404
        assert theirs.get(one["url"]).status_code == 404
    key = ApiKey.objects.get(channel=busy.channel, mode="live").id
    for value in (key, uuid.uuid4()):
        assert "Choose one of the options." in text_of(theirs.get(f"{LIST}?key={value}"))


@pytest.mark.parametrize("path", ["failed", "replayed"])
def test_a_number_that_no_row_can_have_is_unknown(owner: Client, path: str) -> None:
    assert owner.get(f"{LIST}{path}/{2**63}/").status_code == 404


# --- The download ---------------------------------------------------------------------------------


def csv_rows(response: Any) -> list[dict[str, str]]:
    assert response.status_code == 200
    text = b"".join(response.streaming_content).decode()
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))


def test_the_csv_has_every_request_and_honours_filters(busy: Site, owner: Client) -> None:
    rows = csv_rows(owner.get(f"{LIST}export.csv"))
    assert [row["outcome"] for row in rows] == [
        "replayed", "answered", "refused", "failed", "saved_reply", "answered"
    ]  # fmt: skip
    answered, failed = rows[-1], rows[3]
    assert (answered["credits"], answered["input_tokens"]) == ("1.000000", "1234")
    assert answered["key"].endswith("(Shop)")
    assert (failed["error"], failed["reason"]) == ("provider_error", "timeout")
    assert failed["page"] == "https://shop.example/cart"
    assert sum(float(row["credits"]) for row in rows) == 2
    assert len(csv_rows(owner.get(f"{LIST}export.csv?outcome=errors"))) == 2


def test_a_download_too_many_says_that_it_is_one(
    site: Site, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "MOST_DOWNLOADS_OF_ONE", 0)
    owner.raise_request_exception = False
    refused = owner.get(account_page(site, "requests/export.csv"))
    assert (refused.status_code, refused["Retry-After"]) == (503, "2")
    text = refused.content.decode()
    assert "too many requests or downloads at once" in text
    assert "database" not in text


def test_the_csv_runs_no_formula(site: Site, owner: Client, provider: FakeProvider) -> None:
    ApiClient(make_site(name="+Second").api_key).chat(
        session_id=FORMULA, metadata={"url": "@SUM(A1)"}
    )
    (row,) = csv_rows(owner.get(f"{LIST}export.csv"))
    assert row["session_id"] == "'" + FORMULA
    assert row["page"] == "'@SUM(A1)"
    assert row["channel"] == "'+Second"


@pytest.mark.django_db(transaction=True)  # as for a real page, those of transactions count
def test_the_page_takes_few_queries(
    busy: Site, owner: Client, provider: FakeProvider, django_assert_max_num_queries: Any
) -> None:
    for number in range(5):
        ApiClient(make_site(name=f"Shop {number}").api_key).chat()
    assert FailedRequest.objects.count() + ReplayedRequest.objects.count() == 3
    page = account_page(busy, "requests/")
    kinds = {one["entry"].kind for one in owner.get(page).context["rows"]}
    assert kinds == set(Kind)
    with django_assert_max_num_queries(15):
        owner.get(page)
    used_key = FailedRequest.objects.filter(channel=busy.channel).values("api_key_id")[0]
    for query in ({"slower": 0}, {"key": str(used_key["api_key_id"])}, {"q": "nothing"}):
        with django_assert_max_num_queries(15, info=query):
            owner.get(page, query)
        with django_assert_max_num_queries(16, info=query):
            owner.get(f"/channels/{busy.channel.id}/requests/", query)
