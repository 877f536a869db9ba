"""Drafts in the playground: answered and paid like a chat, seen by no visitor and in no figure."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing.models import Hold, LedgerEntry
from channels import channel_changes
from channels.errors import Fault
from channels.models import AuditEntry, Channel, LanguageModel
from channels.tests.factories import Site, make_site, set_prices
from conversations.archive import retention
from conversations.models import ChatSession, DraftReply, FailedRequest, Message
from conversations.tests.test_openai import assert_books_agree
from dashboard.tests.test_console_playground import events_of
from gateway.tests.test_hostile_input import body_of
from tests.support.clients import (
    UNKNOWN,
    ApiClient,
    member_client,
    owner_client,
    page_of,
    staff_guest,
)
from tests.support.fake_provider import FakeProvider, reply

# An answer runs on its own thread, and both threads must see the same data.
pytestmark = pytest.mark.django_db(transaction=True)

OWN, OTHER = "llama-3.3-70b-versatile", "gemma2-9b-it"
CREDIT = 1_000_000


@pytest.fixture
def client(site: Site) -> Client:
    return member_client(site, "editor")


def address(name: str, site: Site) -> str:
    return reverse(f"console:{name}", args=(site.channel.id,))


def send(client: Client, site: Site, **fields: str) -> Any:
    form = {"system_prompt": "Draft.", "model": OTHER, "digest": "x", "mode": "live"}
    return client.post(address("draft_send", site), form | {"message": "Hello!"} | fields)


def done(response: Any) -> dict[str, Any]:
    name, data = events_of(response)[-1]
    assert name == "done", data
    answer: dict[str, Any] = data
    return answer


def ask_questions(client: Client, site: Site, count: str = "20", **fields: str) -> Any:
    form = {"system_prompt": "Draft.", "model": OTHER, "digest": "x", "count": count}
    return client.post(address("draft_questions", site), form | fields)


# --- Answers --------------------------------------------------------------------------------------


def test_a_draft_answers_with_its_prompt_and_model_and_is_paid(
    client: Client, site: Site, provider: FakeProvider
) -> None:
    channel_changes.update_channel(channel_id=str(site.channel.id), temperature=Decimal("0.5"))
    LanguageModel.objects.filter(model_id=OTHER).update(price_per_reply_microcredits=3 * CREDIT)
    answer = done(send(client, site))
    assert (answer["reply"], answer["model"]) == ("Reply 1", OTHER)
    assert answer["credits"] == {"charged": "3.000000", "remaining": "97.000000"}
    (request,) = provider.requests
    assert request.messages[0] == {"role": "system", "content": "Draft."}
    assert request.options == {"temperature": 0.5}
    entry = LedgerEntry.objects.get(kind="charge")
    assert entry.reason == f"Draft reply by {OTHER}"
    kept = DraftReply.objects.get()
    assert (kept.id, kept.request_model) == (entry.hold_id, OTHER)
    assert kept.charged_microcredits == 3 * CREDIT
    assert_books_agree()


def test_a_draft_is_in_no_figure_of_visitors(
    client: Client, site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    api.chat()
    done(send(client, site))
    provider.fail()
    assert send(client, site).status_code == 500
    assert Message.objects.count() == 2
    assert ChatSession.objects.count() == 1
    assert not FailedRequest.objects.exists()
    assert not Hold.objects.filter(state="held").exists()
    page = client.get(f"/a/{site.account_id}/usage/")
    assert page.context["report"].total.request_count == 1
    assert page.context["comparison"].is_equal
    assert "Playground drafts</a>: 1 answered, 1 credit charged" in page.content.decode()
    assert api.get("/api/usage").json()["total"]["requests"] == 1
    assert_books_agree()


def test_a_draft_remembers_its_own_conversation(
    client: Client, site: Site, provider: FakeProvider
) -> None:
    done(send(client, site, turns=orjson.dumps([["One?", "1"], ["Two?", "2"]]).decode()))
    said = [message["content"] for message in provider.prompts[0]]
    assert said == ["Draft.", "One?", "1", "Two?", "2", "Hello!"]


def test_a_free_draft_costs_nothing(client: Client, site: Site) -> None:
    answer = done(send(client, site, mode="test"))
    assert answer["credits"]["charged"] == "0.000000"
    assert DraftReply.objects.get().is_test
    assert not LedgerEntry.objects.filter(kind="charge").exists()
    assert_books_agree()


def test_a_draft_that_says_nothing_or_fails_costs_nothing(
    client: Client, site: Site, provider: FakeProvider
) -> None:
    provider.script.append(reply(""))
    assert send(client, site).json()["code"] == "provider_error"
    provider.fail("content_filter", fault=Fault.DECLINED)
    assert send(client, site).json()["code"] == "content_filtered"
    codes = DraftReply.objects.order_by("created_at").values_list("error_code", flat=True)
    assert list(codes) == ["provider_error", "content_filtered"]
    assert not LedgerEntry.objects.filter(kind="charge").exists()
    assert_books_agree()


# --- The log --------------------------------------------------------------------------------------


def test_the_log_explains_each_draft_and_leads_to_its_ledger_entry(
    client: Client, site: Site, provider: FakeProvider
) -> None:
    done(send(client, site))
    provider.fail()
    failed = send(client, site).json()["request_id"]
    log = reverse("console:drafts", args=(site.account_id,))
    text = client.get(log).content.decode()
    assert "Answered" in text
    assert "provider_error" in text
    charge = LedgerEntry.objects.get(kind="charge")
    assert f"?before={charge.sequence + 1}#entry-{charge.sequence}" in text
    # From the ledger's entry, and from the id in the error.
    page = client.get(reverse("console:request", args=(site.account_id, charge.hold_id)))
    assert page.headers["Location"] == f"{log}?q={charge.hold_id}"
    assert client.get(page.headers["Location"]).content.decode().count("<tr>") == 2
    requests = reverse("console:requests", args=(site.account_id,))
    page = client.get(requests, {"q": failed})
    assert page.headers["Location"] == f"{log}?q={failed}"
    assert "provider_error" in client.get(page.headers["Location"]).content.decode()


def test_usage_leads_to_the_drafts_it_counts(
    client: Client, site: Site, provider: FakeProvider
) -> None:
    done(send(client, site))
    done(send(client, site, mode="test"))
    usage = client.get(f"/a/{site.account_id}/usage/")
    found = client.get(usage.context["drafts_url"])
    assert len(found.context["rows"]) == usage.context["comparison"].draft_count == 1
    found = client.get(f"{usage.context['drafts_url']}&traffic=test")
    assert [row["draft"].is_test for row in found.context["rows"]] == [True]


def test_a_statement_has_the_drafts_on_a_line_of_their_own(
    client: Client, site: Site, provider: FakeProvider
) -> None:
    assert ApiClient(site.api_key).chat().status_code == 200
    done(send(client, site))
    month = f"{timezone.now():%Y-%m}"
    page = client.get(reverse("console:statement", args=(site.account_id, month)))
    drafts, total = page.context["drafts"], page.context["total"]
    assert (drafts["count"], drafts["credits"], page.context["other"]) == (1, "1", "")
    assert (total["replies"], total["credits"], total["url"]) == (2, "2", "")
    assert len(client.get(drafts["url"]).context["rows"]) == 1
    file = client.get(reverse("console:statement_csv", args=(site.account_id, month)))
    text = body_of(file).decode()
    assert "drafts,,,,1,-1.000000,Playground drafts," in text
    assert "moved" not in text


def test_a_stranger_finds_no_draft(client: Client, site: Site, provider: FakeProvider) -> None:
    done(send(client, site))
    kept = DraftReply.objects.get()
    other = make_site(owner="stranger@example.com")
    stranger = owner_client(other)
    assert stranger.get(reverse("console:drafts", args=(site.account_id,))).status_code == 404
    own = reverse("console:drafts", args=(other.account_id,))
    for reference in (str(kept.id), kept.request_id):
        assert stranger.get(own, {"q": reference}).context["rows"] == []
    page = stranger.get(reverse("console:request", args=(other.account_id, kept.id)))
    assert page.status_code == 404


def test_old_failures_of_drafts_are_deleted_and_the_books_kept(
    client: Client, site: Site, provider: FakeProvider, settings: Any
) -> None:
    done(send(client, site))
    provider.fail()
    send(client, site)
    now = timezone.now() + timedelta(days=settings.SESSION_RETENTION_DAYS)
    retention.expire_stale_sessions(now=now)
    assert [kept.error_code for kept in DraftReply.objects.all()] == [""]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"model": "gpt-17"}, "model"),
        ({"model": ""}, "model"),
        ({"system_prompt": "x" * 16_001}, "system_prompt"),
        ({"system_prompt": "a\x00b"}, "system_prompt"),
        ({"message": " "}, "message"),
        ({"turns": "["}, "turns"),
        ({"turns": "7"}, "turns"),
        ({"turns": "[[1, 2]]"}, "turns"),
        ({"turns": '[["a"]]'}, "turns"),
        ({"turns": orjson.dumps([["a", "b"]] * 51).decode()}, "turns"),
        ({"question": "x"}, "question"),
        ({"question": UNKNOWN}, "question"),
    ],
)
def test_what_is_wrong_is_named(
    client: Client, site: Site, provider: FakeProvider, fields: dict[str, str], wrong: str
) -> None:
    response = send(client, site, **fields)
    assert response.status_code == 400
    assert list(response.json()["fields"]) == [wrong]
    assert not Hold.objects.exists()


# --- Rehearsal ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("connected")
def test_visitors_questions_are_rehearsed_with_the_price_told_before(
    client: Client, site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    set_prices(price_per_reply_microcredits=2 * CREDIT)
    api.chat("One?", session_id="a", metadata={"url": "https://shop.example/", "title": "Shop"})
    api.chat("Two?", session_id="a")
    api.chat("Three?", session_id="b")
    ApiClient(site.test_key).chat("A test?")
    api.chat("Mine?", session_id="playground-1-abcdef")
    shown = ask_questions(client, site).json()
    assert [one["question"] for one in shown["questions"]] == ["Three?", "Two?", "One?"]
    assert [one["reply"] for one in shown["questions"]] == ["Reply 3", "Reply 2", "Reply 1"]
    assert shown["highest"] == "6.000000"
    assert len(ask_questions(client, site, count="2").json()["questions"]) == 2
    before = list(Message.objects.order_by("id").values())
    answer = done(send(client, site, question=shown["questions"][1]["id"], message=""))
    assert answer["reply"] == "Reply 5"
    said = [message["content"] for message in provider.prompts[-1]]
    assert said == ["Draft.", "One?", "Reply 1", "Two?"]
    done(send(client, site, question=shown["questions"][2]["id"], message=""))
    assert "https://shop.example/" in provider.prompts[-1][0]["content"]
    # Nothing of it is in a visitor's session.
    assert list(Message.objects.order_by("id").values()) == before
    assert [message["content"] for message in api.history("a")][::2] == ["One?", "Two?"]
    assert_books_agree()


def test_a_question_that_visitors_repeat_is_rehearsed_once(
    client: Client, site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    provider.script += [
        reply("Old"),
        reply("New"),
        reply("| Day | Hours |\n|---|---|\n| Mon | 9 |"),
    ]
    api.chat("Are you  open?", session_id="a")
    api.chat("are you open?", session_id="b")
    api.chat("When?", session_id="c")
    rows = ask_questions(client, site, count="2").json()["questions"]
    assert [one["question"] for one in rows] == ["When?", "are you open?"]
    assert rows[1]["reply"] == "New"
    # Shown as transcripts show it.
    assert "<th>Day</th>" in rows[0]["html"]


def test_a_rehearsal_with_the_demo_has_no_price(
    client: Client, site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    api.chat("One?")
    assert ask_questions(client, site).json()["highest"] == "0.000000"


@pytest.mark.usefixtures("connected")
def test_a_rehearsal_of_tokens_tells_the_highest_price(
    client: Client, site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    api.chat("One?")
    set_prices(price_per_reply_microcredits=0, price_per_1k_output_tokens_microcredits=CREDIT)
    channel_changes.update_channel(channel_id=str(site.channel.id), max_answer_tokens=500)
    shown = ask_questions(client, site).json()
    assert shown["highest"] == "0.500000"
    charged = done(send(client, site, question=shown["questions"][0]["id"]))["credits"]["charged"]
    assert Decimal(charged) <= Decimal(shown["highest"])
    assert Hold.objects.latest("created_at").amount_microcredits == CREDIT // 2


def test_erased_questions_are_rehearsed_no_more(
    client: Client, site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    api.chat("Secret?")
    (question,) = ask_questions(client, site).json()["questions"]
    api.erase()
    assert ask_questions(client, site).json() == {"questions": [], "highest": "0.000000"}
    response = send(client, site, question=question["id"])
    assert "question" in response.json()["fields"]


def test_a_strangers_question_is_as_unknown_as_any(
    client: Client, site: Site, stranger: Site, provider: FakeProvider
) -> None:
    ApiClient(stranger.api_key).chat("Theirs?")
    theirs = Message.objects.get(role="user")
    responses = [send(client, site, question=one) for one in (str(theirs.pk), UNKNOWN)]
    first, second = (response.json() | {"request_id": ""} for response in responses)
    assert first == second
    assert ask_questions(client, site).json()["questions"] == []


@pytest.mark.parametrize("count", ["0", "21", "-1", "many", "", "²"])
def test_the_number_of_questions_is_bounded(client: Client, site: Site, count: str) -> None:
    response = ask_questions(client, site, count=count)
    assert response.json()["fields"] == {"count": "Enter a number from 1 to 20."}


# --- Publishing -----------------------------------------------------------------------------------


def publish(client: Client, site: Site, **fields: str) -> Any:
    digest = client.get(page_of(site, "playground/")).context["form"]["digest"].value()
    form = {"system_prompt": "Draft.", "model": OTHER, "digest": digest}
    return client.post(address("publish_draft", site), form | fields)


def test_a_published_draft_answers_visitors(
    client: Client, site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    assert publish(client, site).status_code == 302
    channel = Channel.objects.get(id=site.channel.id)
    assert (channel.system_prompt, channel.prompt_version) == ("Draft.", 2)
    assert channel.prompt_versions.get(number=2).note == "From the playground"
    assert api.chat().json()["model"] == OTHER
    entry = AuditEntry.objects.get(action="channel.updated")
    assert entry.changes["model"] == ["Llama 3.3 70B", "Gemma 2 9B"]


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("conversation=abcdef0123456789&mode=live", "?conversation=abcdef0123456789&mode=live"),
        ("conversation=abcdef0123456789&mode=x", "?conversation=abcdef0123456789&mode=test"),
        ("conversation=//evil.example&next=/", ""),
        ("", ""),
    ],
)
def test_publishing_returns_to_the_conversation(
    client: Client, site: Site, query: str, kept: str
) -> None:
    page = page_of(site, "playground/")
    form = client.get(page).context["form"]
    sent = {name: form[name].value() for name in ("digest", "system_prompt", "model")}
    response = client.post(f"{address('publish_draft', site)}?{query}", sent)
    assert response["Location"] == page + kept


def test_a_draft_is_not_published_over_what_another_saved(
    client: Client, site: Site, provider: FakeProvider
) -> None:
    digest = client.get(page_of(site, "playground/")).context["form"]["digest"].value()
    channel_changes.update_channel(channel_id=str(site.channel.id), system_prompt="Theirs")
    response = publish(client, site, digest=digest)
    assert response.status_code == 409
    assert [one.label for one in response.context["differences"]] == ["System prompt", "Model"]
    assert ">\nDraft.</textarea>" in response.content.decode()
    assert Channel.objects.get(id=site.channel.id).system_prompt == "Theirs"
    fresh = response.context["form"]["digest"].value()
    assert publish(client, site, digest=fresh).status_code == 302
    assert Channel.objects.get(id=site.channel.id).system_prompt == "Draft."


def test_a_draft_with_a_wrong_model_is_not_published(client: Client, site: Site) -> None:
    response = publish(client, site, model="gpt-17")
    assert response.status_code == 422
    assert "Choose one of the models shown here." in response.content.decode()
    channel_changes.update_channel(
        channel_id=str(site.channel.id), fallback_model=LanguageModel.objects.get(model_id=OTHER)
    )
    response = publish(client, site)
    assert response.status_code == 422
    assert "is this channel&#x27;s fallback model" in response.content.decode()


# --- Who may --------------------------------------------------------------------------------------


def test_only_editors_and_owners_use_drafts(
    site: Site, stranger: Site, provider: FakeProvider
) -> None:
    for client in (member_client(site, "viewer"), staff_guest(site)):
        digest = client.get(page_of(site, "playground/")).context["form"]["digest"].value()
        assert send(client, site).status_code == 403
        assert ask_questions(client, site).status_code == 403
        assert publish(client, site, digest=digest).status_code == 403
    client = owner_client(stranger)
    assert send(client, site).status_code == 404
    assert ask_questions(client, site).status_code == 404
    assert client.post(address("publish_draft", site), {"digest": "x"}).status_code == 404
    assert send(owner_client(site), site).status_code == 200
    assert Channel.objects.get(id=site.channel.id).prompt_version == 1
