"""Conversations as a team reads them: found, safe to view, only from their own account."""

from __future__ import annotations

import csv
import io
import json
import re
import uuid
from typing import Any

import pytest
from django.test import Client

from channels.models import AuditEntry, Membership
from channels.tests.factories import Site, make_site
from conversations.archive import sessions, transcripts
from conversations.models import ChatSession, FailedRequest, Feedback, Message
from tests.support.clients import (
    ApiClient,
    account_page,
    member_client,
    owner_client,
    staff_guest,
)
from tests.support.fake_provider import FakeProvider, reply

pytestmark = pytest.mark.django_db

LIST = "/conversations/"
HOSTILE = "<script>alert('visitor')</script>"
HOSTILE_REPLY = (
    "<script>alert('model')</script> [x](javascript:alert(1)) "
    "![p](https://evil.example/pixel.png) ![d](data:image/png;base64,AAAA) <img src=x onerror=y>"
)
# No row has these ids. A database cannot even look up 2**63.
UNKNOWN = [999_999, 2**63]


@pytest.fixture
def session(site: Site, provider: FakeProvider) -> ChatSession:
    provider.script.append(reply("**Yes**, we deliver."))
    ApiClient(site.api_key).chat(
        "Do you deliver?",
        metadata={"url": "https://shop.example/delivery", "title": "Delivery"},
    )
    return ChatSession.objects.get()


def first_lines(page: Any) -> list[str]:
    return [row.first_line for row in page.context["page"].rows]


def streamed(response: Any) -> str:
    assert response.status_code == 200
    return b"".join(response.streaming_content).decode()


# --- The list -------------------------------------------------------------------------------------


def test_lists_sessions_newest_first(
    site: Site, owner: Client, provider: FakeProvider, clock: Any
) -> None:
    for index in range(3):
        ApiClient(site.api_key).chat(f"Question {index}", session_id=f"s{index}")
        clock.shift(60)
    owner = owner_client(site)
    page = owner.get(LIST)
    assert first_lines(page) == ["Question 2", "Question 1", "Question 0"]
    text = page.content.decode()
    assert "Times are UTC" in text
    assert "2 min ago</time>" in text
    assert "/v1 have no session" in text
    assert 'hx-trigger="every 5s"' in text


def test_an_empty_account_is_told_what_to_do(owner: Client) -> None:
    assert b"No conversations yet" in owner.get(LIST).content


def test_goes_on_where_the_page_ended(
    site: Site, owner: Client, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "SESSIONS_ON_A_PAGE", 2)
    for index in range(5):
        ApiClient(site.api_key).chat(f"Question {index}", session_id=f"s{index}")
    # All have the same time, so the id decides the order.
    ChatSession.objects.update(last_message_at=ChatSession.objects.latest("id").last_message_at)
    seen, query = [], ""
    for _ in range(3):
        page = owner.get(LIST + "?" + query)
        seen += first_lines(page)
        query = page.context["next_query"]
    assert seen == [f"Question {index}" for index in (4, 3, 2, 1, 0)]
    assert not query


@pytest.mark.parametrize("after", ["x", "2026-01-01~1", "2026-01-01T00:00:00+00:00~" + "9" * 30])
def test_a_wrong_place_is_the_beginning(owner: Client, session: ChatSession, after: str) -> None:
    assert first_lines(owner.get(LIST, {"after": after})) == ["Do you deliver?"]


@pytest.mark.parametrize("text", ["DELIVER?", "we deliver", "s1", "shop.example/deliv"])
def test_finds_words_ids_and_pages(owner: Client, session: ChatSession, text: str) -> None:
    page = owner.get(LIST, {"text": text})
    assert first_lines(page) == ["Do you deliver?"]
    assert b"hx-trigger" not in page.content
    assert first_lines(owner.get(LIST, {"text": "100%_"})) == []


def test_a_search_says_where_the_words_are(
    site: Site, owner: Client, provider: FakeProvider
) -> None:
    far = "Well. " * 20
    for message in (f"{far}Is there Parking?", f"{far}<b>PARKING</b>\nfor two? {far}", "Thanks"):
        ApiClient(site.api_key).chat(message, session_id="p")
    page = owner.get(LIST, {"text": "parking"}).content.decode()
    start = page.index("gw-talk-hit")
    hit = page[start : page.index("</p>", start)]
    assert "…" in hit[: hit.index("<mark>")]
    assert "&lt;b&gt;<mark>PARKING</mark>&lt;/b&gt;\nfor two?" in hit
    assert hit.endswith("…")
    assert 'aria-label="Clear search"' in page
    assert "gw-talk-hit" not in owner.get(LIST).content.decode()


@pytest.mark.parametrize(
    ("part", "hit"),
    [
        ("Parking?", ("", "Parking", "?")),
        ("x" * 40 + "parking" + "y" * 73, ("…" + "x" * 40, "parking", "y" * 73 + "…")),
        ("", None),
    ],
)
def test_a_hit_is_cut_out_of_its_message(part: str, hit: tuple[str, str, str] | None) -> None:
    assert sessions.split_hit(part, "PARKING") == hit


def test_a_conversation_found_by_its_id_says_so(owner: Client, session: ChatSession) -> None:
    page = owner.get(LIST, {"text": "s1"}).content.decode()
    assert "Found in its session id or in the address of a page." in page


def test_a_long_search_says_from_where_to_go_on(
    site: Site, owner: Client, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(5):
        ApiClient(site.api_key).chat("needle" if index == 0 else "hay", session_id=f"s{index}")
    monkeypatch.setattr(sessions, "SCANNED_AT_ONCE", 2)
    page = owner.get(LIST, {"text": "needle"})
    assert "Nothing found among the latest 2 conversations" in page.content.decode()
    page = owner.get(LIST + "?" + page.context["next_query"])
    assert first_lines(page) == []
    page = owner.get(LIST + "?" + page.context["next_query"])
    assert first_lines(page) == ["needle"]
    assert not page.context["next_query"]


def test_the_latest_come_first_whichever_channel_they_are_of(
    site: Site, stranger: Site, owner: Client, provider: FakeProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(sessions, "SESSIONS_ON_A_PAGE", 2)
    second = make_site(name="Second")
    for index, one in enumerate([site, site, second, stranger, site, second, second]):
        ApiClient(one.api_key).chat(f"number {index}", session_id=f"s{index}")
    pages, query = [], "x=1"
    while query:
        page = owner.get(f"{LIST}?{query}")
        pages.append([line[-1] for line in first_lines(page)])
        query = page.context["next_query"]
    assert pages == [["6", "5"], ["4", "2"], ["1", "0"]]


@pytest.mark.parametrize("first", [1, 2, 50])
def test_a_search_finds_each_once_however_many_it_looks_into_at_a_time(
    site: Site, owner: Client, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    monkeypatch.setattr(sessions, "SCANNED_AT_ONCE", first)
    monkeypatch.setattr(sessions, "SESSIONS_ON_A_PAGE", 2)
    for index in range(9):
        word = "hay" if index in (2, 3, 4) else "needle"
        ApiClient(site.api_key).chat(f"{word} {index}", session_id=f"s{index}")
    pages, query = [], "text=needle"
    while query:
        page = owner.get(f"{LIST}?{query}")
        pages.append(first_lines(page))
        query = page.context["next_query"]
    assert [line for page in pages for line in page] == [
        f"needle {at}" for at in (8, 7, 6, 5, 1, 0)
    ]
    if first == 50:
        assert [len(page) for page in pages] == [2, 2, 2]


def test_filters_by_channel_traffic_days_errors_and_thumbs(
    site: Site, owner: Client, provider: FakeProvider
) -> None:
    second = make_site(name="Second")
    ApiClient(site.api_key).chat("fine")
    provider.fail()
    ApiClient(site.api_key).chat("lost", session_id="s2")
    ApiClient(site.api_key).chat("again", session_id="s2")
    ApiClient(second.api_key).chat("elsewhere")
    ApiClient(site.test_key).chat("trying")

    def found(**query: str) -> set[str]:
        return set(first_lines(owner.get(LIST, query)))

    assert found() == {"fine", "again", "elsewhere"}
    assert found(channel=str(second.channel.id)) == {"elsewhere"}
    assert found(traffic="test") == {"trying"}
    assert found(errors_only="on") == {"again"}
    assert found(thumb_down="on") == set()
    Feedback.objects.create(message=Message.objects.get(content="Reply 1"), rating=-1)
    assert found(thumb_down="on") == {"fine"}
    assert found(last="2020-01-01") == set()
    assert found(first="2020-01-01") == {"fine", "again", "elsewhere"}


def test_wrong_filters_are_said_beside_the_field(owner: Client) -> None:
    page = owner.get(LIST, {"first": "yesterday", "channel": "x", "text": "a\0"})
    assert page.status_code == 200
    text = page.content.decode()
    assert "Enter a day such as 2026-11-28." in text
    assert "Choose one of the options." in text
    assert "Remove the NUL character" in text
    assert owner.get(LIST + "export.csv", {"channel": "x"}).status_code == 404


@pytest.mark.django_db(transaction=True)  # as for a real page, those of transactions count
def test_the_list_takes_few_queries(
    site: Site, owner: Client, provider: FakeProvider, django_assert_max_num_queries: Any
) -> None:
    for index in range(8):
        ApiClient(site.api_key).chat(session_id=f"s{index}")
    Feedback.objects.create(message=Message.objects.filter(role="assistant")[0], rating=-1)
    owner.get(account_page(site, "conversations/"))
    with django_assert_max_num_queries(10):
        owner.get(account_page(site, "conversations/"))
    searches = ({"text": "hello"}, {"errors_only": "on"}, {"thumb_down": "on"}, {"text": "nowhere"})
    for query in (*searches, {"text": "hello", "errors_only": "on", "thumb_down": "on"}):
        with django_assert_max_num_queries(13):
            owner.get(account_page(site, "conversations/"), query)
        with django_assert_max_num_queries(15):
            owner.get(f"/channels/{site.channel.id}/conversations/", query)


def test_of_many_channels_only_what_is_recent_enough_is_read(
    site: Site, owner: Client, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    shops = [site, *(make_site(name=f"Shop {index}") for index in range(5))]
    order = [0, 1, 2, 0, 0, 3, 0, 0, 0, 4, 1, 0]
    for index, shop in enumerate(order):
        ApiClient(shops[shop].api_key).chat(f"Question {index}", session_id=f"s{index}")
    everything = [f"Question {index}" for index in range(len(order))][::-1]
    for most in (1, 2, 3, 5, 11):
        monkeypatch.setattr(sessions, "SESSIONS_ON_A_PAGE", most)
        assert first_lines(owner.get(LIST)) == everything[:most]


def test_the_rarer_filters_are_folded_until_one_is_used(owner: Client) -> None:
    assert (
        "<details open>" not in owner.get(LIST, {"text": "x", "traffic": "live"}).content.decode()
    )
    for used in ({"traffic": "test"}, {"errors_only": "on"}, {"first": "2026-01-01"}):
        assert "<details open>" in owner.get(LIST, used).content.decode()


# --- One conversation -----------------------------------------------------------------------------


def test_reads_as_a_chat(site: Site, owner: Client, session: ChatSession) -> None:
    text = owner.get(f"{LIST}{session.pk}/").content.decode()
    for part in (
        "Do you deliver?", "<strong>Yes</strong>, we deliver.", "10 + 5 tokens",
        "1 credit<", "llama-3.3-70b-versatile by fake", "Delivery", "prompt version 1",
        f"/channels/{site.channel.id}/prompt/1/",
    ):  # fmt: skip
        assert part in text


def test_its_title_is_what_the_visitor_said_first(
    site: Site, owner: Client, session: ChatSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    ApiClient(site.api_key).chat("And when?")
    monkeypatch.setattr(transcripts, "MESSAGES_ON_A_PAGE", 2)
    address = f"{LIST}{session.pk}/"
    for query in ({}, {"before": "2"}):
        text = owner.get(address, query).content.decode()
        assert re.search(r"<h2[^>]*>Do you deliver\?</h2>", text)
    Message.objects.update(content="", erased_at=session.created_at)
    assert re.search(r"<h2[^>]*>\(text erased\)</h2>", owner.get(address).content.decode())


def test_nothing_that_was_said_is_live(site: Site, owner: Client, provider: FakeProvider) -> None:
    provider.script.append(reply(HOSTILE_REPLY))
    page = {"url": 'javascript:alert("u")', "title": "<img src=x onerror=alert(1)>"}
    ApiClient(site.api_key).chat(HOSTILE, session_id=HOSTILE, metadata=page)
    session = ChatSession.objects.get()
    for path in (LIST, f"{LIST}{session.pk}/", f"{LIST}?text=script"):
        text = owner.get(path).content.decode()
        assert "&lt;script&gt;" in text
        for live in (
            "<script>alert",
            "<img src=x",
            'href="javascript',
            'src="data:',
            '<img src="h',
        ):
            assert live not in text


def test_failures_stand_where_they_happened(
    site: Site, owner: Client, provider: FakeProvider, clock: Any
) -> None:
    api = ApiClient(site.api_key)
    api.chat("first")
    clock.shift(10)
    provider.fail("timeout")
    api.chat("second")
    clock.shift(10)
    api.chat("third")
    owner = owner_client(site)
    page = owner.get(f"{LIST}{ChatSession.objects.get().pk}/")
    kinds = [item["kind"] for item in page.context["items"]]
    assert kinds == ["user", "reply", "failure", "user", "reply"]
    assert "provider_error" in page.content.decode()
    assert "(timeout)" in page.content.decode()


def test_failures_of_an_earlier_conversation_stay_there(
    site: Site, provider: FakeProvider, clock: Any
) -> None:
    api = ApiClient(site.api_key)
    api.chat()
    provider.fail()
    api.chat()
    clock.shift(25 * 3600)
    api.chat()
    earlier, later = ChatSession.objects.order_by("id")
    owner = owner_client(site)
    count = [
        len([one for one in owner.get(f"{LIST}{pk}/").context["items"] if one["kind"] == "failure"])
        for pk in (earlier.pk, later.pk)
    ]
    assert count == [1, 0]


def test_long_conversations_are_read_in_parts(
    site: Site, owner: Client, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(3):
        ApiClient(site.api_key).chat(f"Question {index}")
    monkeypatch.setattr(transcripts, "MESSAGES_ON_A_PAGE", 4)
    address = f"{LIST}{ChatSession.objects.get().pk}/"
    page = owner.get(address)
    # The title is there, the message is not.
    assert b">Question 0</div>" not in page.content
    assert page.context["transcript"].earlier_than == 2
    assert b">Question 0</div>" in owner.get(address, {"before": 2}).content
    assert owner.get(address, {"before": "-1"}).status_code == 200


def test_a_conversation_takes_few_queries(
    site: Site, owner: Client, session: ChatSession, django_assert_max_num_queries: Any
) -> None:
    for _ in range(3):
        ApiClient(site.api_key).chat()
    address = account_page(site, f"conversations/{session.pk}/")
    with django_assert_max_num_queries(10):
        owner.get(address)
    with django_assert_max_num_queries(11):
        owner.get(address, {"before": 4})


def test_a_strangers_conversation_is_as_unknown_as_any(
    site: Site, stranger: Site, owner: Client, provider: FakeProvider
) -> None:
    ApiClient(stranger.api_key).chat("secret words")
    theirs = ChatSession.objects.get()
    reply_id = Message.objects.get(role="assistant").id
    for pk in (theirs.pk, *UNKNOWN):
        for path in ("", "export.jsonl", "export.csv"):
            assert owner.get(f"{LIST}{pk}/{path}").status_code == 404
        assert owner.post(f"{LIST}{pk}/erase/", {"confirm": "yes"}).status_code == 404
    for one in (reply_id, uuid.uuid4()):
        response = owner.post(f"{LIST}replies/{one}/feedback/", {"rating": 1})
        assert response.status_code == 404
    assert b"secret" not in owner.get(LIST).content
    assert first_lines(owner.get(LIST, {"text": "secret words"})) == []
    assert "secret" not in streamed(owner.get(LIST + "export.jsonl"))
    assert not Feedback.objects.exists()
    assert Message.objects.filter(content="secret words").exists()


def test_requests_of_v1_are_not_listed(site: Site, owner: Client, provider: FakeProvider) -> None:
    question = [{"role": "user", "content": "Hi"}]
    ApiClient(site.api_key).post(
        "/v1/chat/completions", {"model": "llama-3.3-70b-versatile", "messages": question}
    )
    assert first_lines(owner.get(LIST)) == []
    reply_id = Message.objects.get().id
    assert owner.post(f"{LIST}replies/{reply_id}/feedback/", {"rating": 1}).status_code == 404


def test_own_answers_are_marked(site: Site, owner: Client, session: ChatSession) -> None:
    Message.objects.filter(role="assistant").update(provider_name="fixed")
    assert b"Saved reply" in owner.get(f"{LIST}{session.pk}/").content


# --- What the team thinks -------------------------------------------------------------------------


def rate(client: Client, session: ChatSession, **fields: Any) -> Any:
    reply_id = Message.objects.get(session=session, role="assistant").id
    return client.post(f"{LIST}replies/{reply_id}/feedback/", fields, follow=True)


def test_an_editor_keeps_a_thumb_and_a_note(site: Site, session: ChatSession) -> None:
    editor = member_client(site, Membership.Role.EDITOR)
    rate(editor, session, rating=1, note="first thought")
    page = rate(editor, session, rating=-1, note="<b>Too short</b>")
    text = page.content.decode()
    assert 'data-rating="-1" aria-pressed="true"' in text
    assert "&lt;b&gt;Too short&lt;/b&gt;" in text
    assert "editor@example.com" in text
    kept = Feedback.objects.get()
    assert (kept.rating, kept.author and kept.author.email) == (-1, "editor@example.com")
    rate(editor, session, rating=0, note="")
    assert not Feedback.objects.exists()


def test_a_thumb_keeps_the_note_and_a_note_keeps_the_thumb(
    site: Site, owner: Client, session: ChatSession
) -> None:
    def kept() -> tuple[int, str]:
        return Feedback.objects.values_list("rating", "note").get()

    rate(owner, session, rating=1)
    assert kept() == (1, "")
    rate(owner, session, note="Well said")
    assert kept() == (1, "Well said")
    rate(owner, session, rating=-1)
    assert kept() == (-1, "Well said")
    page = rate(owner, session, rating=0)
    assert kept() == (0, "Well said")
    assert "Change note" in page.content.decode()
    rate(owner, session, note="")
    assert not Feedback.objects.exists()


def test_a_script_is_told_whether_the_thumb_was_kept(owner: Client, session: ChatSession) -> None:
    reply_id = Message.objects.get(session=session, role="assistant").id
    address = f"{LIST}replies/{reply_id}/feedback/"
    kept = owner.post(address, {"rating": 1}, headers={"accept": "application/json"})
    assert (kept.status_code, kept.json()) == (200, {"error": ""})
    assert Feedback.objects.get().rating == 1
    refused = owner.post(address, {"rating": 5}, headers={"accept": "application/json"})
    assert refused.status_code == 422
    assert "Choose one of the options." in refused.json()["error"]
    assert not list(owner.get(LIST).context["messages"])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rating": 7}, "Choose one of the options."),
        ({"rating": 1, "note": "x" * 2001}, "at most 2,000 characters"),
        ({}, "Choose one of the options."),
    ],
)
def test_wrong_feedback_is_said(
    owner: Client, session: ChatSession, fields: dict[str, Any], words: str
) -> None:
    assert words in rate(owner, session, **fields).content.decode()
    assert not Feedback.objects.exists()


def test_a_viewer_reads_and_changes_nothing(site: Site, session: ChatSession) -> None:
    viewer = member_client(site, Membership.Role.VIEWER)
    page = viewer.get(f"{LIST}{session.pk}/")
    assert page.status_code == 200
    assert b"data-thumbs" not in page.content
    assert b"Add a note" not in page.content
    assert b"Erase text" not in page.content
    assert rate(viewer, session, rating=1).status_code == 403
    response = viewer.post(f"{LIST}{session.pk}/erase/", {"confirm": "yes"})
    assert response.status_code == 403
    assert not Feedback.objects.exists()
    assert Message.objects.filter(erased_at=None).count() == 2


# --- Erasing --------------------------------------------------------------------------------------


def test_erasing_keeps_the_books_and_says_so_in_the_log(
    site: Site, session: ChatSession, provider: FakeProvider
) -> None:
    provider.fail()
    ApiClient(site.api_key).chat(metadata={"url": "https://p.example"})
    editor = member_client(site, Membership.Role.EDITOR)
    rate(editor, session, rating=1, note="quotes the words")
    address = f"{LIST}{session.pk}/erase/"
    editor.post(address, {"confirm": "yes"})
    page = editor.post(address, {"confirm": "yes"}, follow=True)
    assert "The text was already erased." in page.content.decode()
    assert "(text erased)" in page.content.decode()
    assert b"(text erased)" in editor.get(LIST).content
    assert not Message.objects.exclude(content="").exists()
    assert Message.objects.get(role="assistant").charged_microcredits == 1_000_000
    assert (Feedback.objects.get().rating, Feedback.objects.get().note) == (1, "")
    assert (FailedRequest.objects.get().session_id, FailedRequest.objects.get().page_url) == (
        "",
        "",
    )
    entries = AuditEntry.objects.filter(action="session.erased")
    assert entries[0].actor_name == "editor@example.com"
    assert entries[0].channel == site.channel
    assert "s1" not in entries[0].target


def test_erasing_must_be_confirmed(site: Site, owner: Client, session: ChatSession) -> None:
    page = owner.post(f"{LIST}{session.pk}/erase/", follow=True)
    assert "tick the box" in page.content.decode()
    assert Message.objects.filter(erased_at=None).count() == 2
    address = account_page(site, f"conversations/{session.pk}/")
    assert owner.get(f"{address}erase/")["Location"] == address


# --- Files ----------------------------------------------------------------------------------------


def test_exports_one_and_all(site: Site, owner: Client, session: ChatSession) -> None:
    ApiClient(site.api_key).chat("=1+1", session_id="s2")
    one = [
        json.loads(line)
        for line in streamed(owner.get(f"{LIST}{session.pk}/export.jsonl")).splitlines()
    ]
    assert [found["session_id"] for found in one] == ["s1"]
    user, answer = one[0]["messages"]
    assert user["page"]["url"] == "https://shop.example/delivery"
    assert (answer["content"], answer["credits"]) == ("**Yes**, we deliver.", "1.000000")
    text = streamed(owner.get(LIST + "export.csv")).removeprefix("\ufeff")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["text"] for row in rows][:2] == ["'=1+1", "Reply 2"]
    assert len(rows) == 4
    only = streamed(owner.get(LIST + "export.jsonl", {"text": "deliver"}))
    assert len(only.splitlines()) == 1


def test_an_export_reads_on_to_the_end(
    site: Site, owner: Client, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "SESSIONS_ON_A_PAGE", 2)
    for index in range(5):
        ApiClient(site.api_key).chat(session_id=f"s{index}")
    assert len(streamed(owner.get(LIST + "export.jsonl")).splitlines()) == 5


def test_a_long_session_is_exported_piece_by_piece(
    owner: Client, session: ChatSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [streamed(owner.get(f"{LIST}export.{kind}")) for kind in ("jsonl", "csv")]
    monkeypatch.setattr(transcripts, "MESSAGES_A_READ", 1)
    assert [streamed(owner.get(f"{LIST}export.{kind}")) for kind in ("jsonl", "csv")] == whole
    assert len(json.loads(whole[0].splitlines()[0])["messages"]) == session.message_count


# --- The way back ---------------------------------------------------------------------------------


def test_going_back_keeps_the_filters_and_the_place(
    site: Site, owner: Client, session: ChatSession
) -> None:
    filters = "traffic=live&text=deliver&after=2999-01-01T00%3A00%3A00%2B00%3A00~9"
    escaped = filters.replace("&", "&amp;")
    one = account_page(site, f"conversations/{session.pk}/")
    listed = owner.get(account_page(site, f"conversations/?{filters}")).content.decode()
    assert f'href="{one}?{escaped}"' in listed
    page = owner.get(f"{one}?{filters}").content.decode()
    assert f'href="{account_page(site, "conversations/")}?{escaped}"' in page
    reply = Message.objects.get(role="assistant")
    rated = owner.post(
        account_page(site, f"conversations/replies/{reply.pk}/feedback/?{filters}"),
        {"rating": "1"},
    )
    assert rated["Location"] == f"{one}?{filters}#reply-{reply.pk}"
    erased = owner.post(f"{one}erase/?{filters}", {"confirm": "yes"})
    assert erased["Location"] == f"{one}?{filters}"


def test_a_rating_opened_like_a_page_leads_to_its_reply(
    site: Site, owner: Client, session: ChatSession
) -> None:
    reply = Message.objects.get(role="assistant")
    opened = owner.get(account_page(site, f"conversations/replies/{reply.pk}/feedback/"))
    one = account_page(site, f"conversations/{session.pk}/")
    assert opened["Location"] == f"{one}#reply-{reply.pk}"


def test_a_staff_guest_leaves_a_trace_of_what_the_pages_show_and_of_nothing_else(
    site: Site, session: ChatSession
) -> None:
    guest = staff_guest(site)
    pages = [account_page(site, f"conversations/{path}") for path in (f"{session.pk}/", "")]
    read = AuditEntry.objects.filter(action="staff.read_text").order_by("id")
    for page in pages:
        assert b"data-thumbs" not in guest.get(page).content
    targets = [entry.target for entry in read]
    assert targets == ["conversation s1", "first lines of conversations"]
