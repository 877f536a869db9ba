"""An owner's saved replies: sent without a provider, free, and marked in the transcript."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.tests.test_settlement import differences
from channels.models import FixedAnswer
from channels.tests.factories import Site, make_site, save_reply
from common.text import normalize_question
from conversations.models import Message
from conversations.usage.saved_reply_hits import list_hits
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db


def answer(site: Site, question: str, text: str = "From 9 to 5.", *wordings: str) -> FixedAnswer:
    return save_reply(site.channel, question, text, *wordings)


@pytest.mark.parametrize(
    "asked",
    [
        "When are you open?",
        "  when   are you OPEN ",
        "When are you open…?!",
        "Whén are yóu opén",
        "“When are you open?”",
    ],
)
def test_is_matched_whatever_the_typing(provider: FakeProvider, asked: str) -> None:
    site = make_site()
    answer(site, "When are you open?")
    body = ApiClient(site.api_key).chat(asked).json()
    assert body["reply"] == "From 9 to 5."
    assert body["credits"] == {"charged": "0.000000", "remaining": "100.000000"}
    assert body["usage"]["total_tokens"] == 0
    assert ApiClient(site.api_key).get("/api/key").json()["limits"]["day"]["used"] == 0
    assert provider.prompts == []
    assert Message.objects.get(role="assistant").provider_name == "fixed"
    assert differences() == []


def test_other_questions_go_to_the_provider(site: Site, provider: FakeProvider) -> None:
    answer(site, "When are you open?")
    api = ApiClient(site.api_key)
    assert api.chat("When are you open?").json()["reply"] == "From 9 to 5."
    assert api.chat("When are you closed?").json()["reply"] == "Reply 1"
    assert [part["content"] for part in provider.prompts[0]] == [
        "When are you open?",
        "From 9 to 5.",
        "When are you closed?",
    ]


def test_is_given_with_no_credits_left_and_for_its_channel_alone(
    stranger: Site, provider: FakeProvider
) -> None:
    site = make_site(credit_amount=0)
    answer(site, "Hello")
    assert ApiClient(site.api_key).chat("hello!").status_code == 200
    assert ApiClient(stranger.api_key).chat("hello!").json()["reply"] == "Reply 1"


def test_any_wording_gets_the_answer(site: Site, provider: FakeProvider) -> None:
    saved = answer(site, "When are you open?", "9 to 5.", "Opening hours", "¿Qué horario tienen?")
    api = ApiClient(site.api_key)
    for asked in ("when are you open", "Opening hours?", "que horario tienen"):
        assert api.chat(asked).json()["reply"] == "9 to 5."
    assert api.chat("Opening").json()["reply"] == "Reply 1"
    assert list(
        Message.objects.filter(role="assistant").order_by("id").values_list("fixed_answer_id")
    ) == [(saved.id,), (saved.id,), (saved.id,), (None,)]
    assert not Message.objects.filter(role="user").exclude(fixed_answer_id=None).exists()


def test_the_same_question_has_one_answer(site: Site) -> None:
    answer(site, "When are you open?")
    for question in ("when are you open", "?!"):
        with pytest.raises(ValidationError) as refusal:
            answer(site, question, "Another one.")
        assert "question" in refusal.value.message_dict


def test_a_channel_without_fixed_answers_asks_for_none(
    site: Site, provider: FakeProvider, django_assert_max_num_queries: Any
) -> None:
    with CaptureQueriesContext(connection) as captured:
        ApiClient(site.api_key).chat()
    assert sum("fixedanswer" in query["sql"] for query in captured) == 1


@pytest.mark.django_db(transaction=True)
def test_a_saved_reply_is_found_by_one_statement_and_stored_by_one(provider: FakeProvider) -> None:
    site = make_site()
    answer(site, "When are you open?", "9 to 5.", "Opening hours")
    api = ApiClient(site.api_key)
    api.chat("opening hours")
    with CaptureQueriesContext(connection) as captured:
        assert api.chat("opening hours").json()["reply"] == "9 to 5."
    statements = [query["sql"] for query in captured]
    assert sum("channels_wording" in sql for sql in statements) == 1
    assert sum("INSERT INTO conversations_message" in sql for sql in statements) == 1
    assert not any("UPDATE conversations_message" in sql for sql in statements)
    if connection.vendor == "postgresql":
        assert [sql.split()[0] for sql in statements[:3]] == ["WITH", "SELECT", "WITH"]
        # As many as before replies had wordings and hits, with BEGIN and COMMIT.
        assert len(statements) == 9


def test_hits_are_read_from_their_own_index(site: Site) -> None:
    saved = answer(site, "When are you open?")
    ApiClient(site.api_key).chat("when are you open")
    with CaptureQueriesContext(connection) as captured:
        assert list_hits([saved.id], now=timezone.now())[saved.id].count == 1
    (query,) = captured
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(f"EXPLAIN {query['sql']}")
        else:
            cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
        plan = "\n".join(str(row) for row in cursor.fetchall())
    assert plan.count("conversations_message_saved") == 2


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("¿Qué horario tienen?", "que horario tienen"),
        ("Straße", "strasse"),
        ("\uff21\uff22\u3000\uff11", "ab 1"),
        ("??", ""),
        ("a\n\tb", "a b"),
    ],
)
def test_normalizes(text: str, normalized: str) -> None:
    assert normalize_question(text) == normalized
