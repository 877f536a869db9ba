"""GET /api/history: whole, by pages, in pieces, and never at the cost of other requests."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from channels.tests.factories import Site, make_site
from conversations.chat import history
from conversations.models import ChatSession, Message
from server import answers
from tests.support.clients import ApiClient, account_page, owner_client

PIECE = history.MESSAGES_A_READ


def fill(site: Site, count: int, session_id: str = "s1", **fields: Any) -> list[Message]:
    """Store a live session of `count` messages, one second apart."""
    now = timezone.now()
    session = ChatSession.objects.create(
        channel=site.channel, is_test=False, session_id=session_id, message_count=count,
        created_at=now, last_message_at=now, **fields,
    )  # fmt: skip
    return Message.objects.bulk_create(
        Message(
            session=session, channel=site.channel, is_test=False, position=n,
            role="assistant" if n % 2 else "user", content=f"Text {n} “ä”",
            created_at=now - timedelta(seconds=count - n),
        )
        for n in range(count)
    )  # fmt: skip


def texts(response: Any) -> list[str]:
    body = b"".join(response) if response.streaming else response.content
    return [message["content"] for message in json.loads(body)["messages"]]


def ask(api: ApiClient, **query: Any) -> Any:
    return api.client.get("/api/history", {"session_id": "s1"} | query, headers=api.headers)


def wanted(messages: list[Message]) -> list[str]:
    return [message.content for message in messages]


def test_messages_have_ids_that_receipts_know(api: ApiClient, site: Site) -> None:
    reply = api.chat().json()
    user, assistant = ask(api).json()["messages"]
    assert set(user) == {"id", "role", "content", "created_at"}
    assert assistant["id"] == reply["message_id"]
    assert str(uuid.UUID(user["id"])) == user["id"] != assistant["id"]
    assert api.get(f"/api/usage/{assistant['id']}").status_code == 200


@pytest.mark.parametrize("count", [2, PIECE - 2, PIECE, PIECE + 2, 3 * PIECE])
def test_the_whole_session_comes_in_order(api: ApiClient, site: Site, count: int) -> None:
    messages = fill(site, count)
    response = ask(api)
    assert response["Content-Type"] == "application/json"
    assert texts(response) == wanted(messages)


def test_a_short_session_is_one_read_and_has_a_length(api: ApiClient, site: Site) -> None:
    fill(site, PIECE - 2)
    with CaptureQueriesContext(connection) as queries:
        response = ask(api)
    assert len([one for one in queries if "conversations_message" in one["sql"]]) == 1
    assert int(response["Content-Length"]) == len(response.content)


def test_a_long_session_is_read_piece_by_piece_as_it_is_taken(api: ApiClient, site: Site) -> None:
    fill(site, 3 * PIECE)
    response = ask(api)
    assert response.streaming
    pieces = iter(response)
    for _ in range(2):
        next(pieces)
    with CaptureQueriesContext(connection) as queries:
        next(pieces)
    assert len(queries) == 1
    assert f"LIMIT {PIECE}" in queries[0]["sql"]


def test_ends_at_the_last_message_there_was(api: ApiClient, site: Site) -> None:
    messages = fill(site, 2 * PIECE)
    response = ask(api)
    later = fill(site, 2, session_id="other")
    ChatSession.objects.filter(session_id="s1").update(message_count=2 * PIECE + 2)
    for n, one in enumerate(later):
        Message.objects.filter(pk=one.pk).update(
            session=messages[0].session, position=2 * PIECE + n
        )
    assert texts(response) == wanted(messages)


def test_a_session_erased_while_it_is_read_shows_no_more(api: ApiClient, site: Site) -> None:
    messages = fill(site, 3 * PIECE)
    pieces = iter(ask(api))
    body = next(pieces) + next(pieces)
    assert api.erase().status_code == 204
    body += b"".join(pieces)
    assert texts_of(body) == wanted(messages[:PIECE])


def texts_of(body: bytes) -> list[str]:
    return [message["content"] for message in json.loads(body)["messages"]]


def test_what_breaks_while_it_is_sent_never_ends_as_valid_json(api: ApiClient, site: Site) -> None:
    fill(site, 3 * PIECE)
    response = ask(api)

    pieces = iter(response)
    body = next(pieces) + next(pieces)

    def lost(*arguments: Any) -> None:
        raise OperationalError("the database went away")

    with connection.execute_wrapper(lost), pytest.raises(OperationalError):
        body += next(pieces)
    assert body.startswith(b'{"messages":[{')
    assert [*pieces] == []
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


# --- Pages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 5, 40, 500])
def test_limit_takes_the_latest_oldest_first(api: ApiClient, site: Site, limit: int) -> None:
    messages = fill(site, 40)
    assert texts(ask(api, limit=limit)) == wanted(messages[-limit:])


def test_pages_before_a_message_come_to_the_whole(api: ApiClient, site: Site) -> None:
    messages = fill(site, 4 * PIECE + 2)
    found: list[str] = []
    before: dict[str, Any] = {}
    while page := texts(ask(api, limit=PIECE + 1, **before)):
        found = page + found
        before = {"before": str(messages[-len(found)].pk)}
    assert found == wanted(messages)


def test_before_alone_means_500(api: ApiClient, site: Site) -> None:
    messages = fill(site, 600)
    assert texts(ask(api, before=str(messages[550].pk))) == wanted(messages[50:550])
    assert texts(ask(api, before=str(messages[3].pk))) == wanted(messages[:3])
    assert texts(ask(api, before=str(messages[0].pk))) == []


@pytest.mark.parametrize(
    "limit", ["0", "501", "-1", "ten", "1.5", "", "1e2", "٣", " 5", "9" * 5000]
)
def test_a_wrong_limit_is_named(api: ApiClient, site: Site, limit: str) -> None:
    response = ask(api, limit=limit)
    assert response.status_code == 400
    assert response.json()["fields"] == {"limit": "Must be a whole number from 1 to 500."}


def test_an_unknown_or_foreign_before_is_400_and_looks_alike(
    api: ApiClient, site: Site, stranger: Site, client_for: Callable[..., ApiClient]
) -> None:
    fill(site, 4)
    foreign = fill(stranger, 4)
    other_session = fill(site, 4, session_id="s2")
    stateless = Message.objects.create(
        channel=site.channel, is_test=False, position=0, role="assistant", created_at=timezone.now()
    )
    ids = [foreign[1].pk, other_session[1].pk, stateless.pk, uuid.uuid4(), "", "x", "0" * 4000]
    answers = [ask(api, before=before) for before in ids]
    assert {answer.status_code for answer in answers} == {400}
    rule = "Must be the id of a message of this session, as the history shows it."
    assert [answer.json()["fields"] for answer in answers] == [{"before": rule}] * len(answers)


def test_pages_of_a_session_that_ended_are_as_unknown_as_any(api: ApiClient, site: Site) -> None:
    messages = fill(site, 4, closed_at=timezone.now())
    assert texts(ask(api, limit=2)) == []
    assert ask(api, before=str(messages[2].pk)).status_code == 400


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no pool")
def test_no_connection_is_held_while_a_slow_client_reads() -> None:
    site = make_site()
    fill(site, 3 * PIECE)
    response = ask(ApiClient(site.api_key))
    taken = b""
    for piece in response.streaming_content:
        taken += piece
        assert connection.connection is None
    assert len(texts_of(taken)) == 3 * PIECE


def test_a_client_that_never_reads_leaves_room_for_others(
    api: ApiClient, site: Site, stranger: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download keeps a thread of the server for as long as its client likes."""
    monkeypatch.setattr(answers, "MOST_DOWNLOADS_OF_ONE", 2)
    for one in (site, stranger):
        fill(one, 2 * PIECE)
    unread = [ask(api) for _ in range(2)]
    refused = ask(api)
    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    assert refused["Retry-After"]
    assert len(texts(ask(ApiClient(stranger.api_key)))) == 2 * PIECE
    owner = owner_client(site)
    owner.raise_request_exception = False
    page = owner.get(account_page(site, "conversations/export.csv"))
    assert page.status_code == 503
    assert len(texts(unread[0])) == 2 * PIECE
    assert ask(api).status_code == 200
    monkeypatch.setattr(answers, "MOST_DOWNLOADS", 1)
    assert ask(ApiClient(stranger.api_key)).status_code == 503
