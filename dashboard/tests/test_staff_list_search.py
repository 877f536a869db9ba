"""The searches of the staff's long lists: whole ids, names, and words."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing.models import Hold, LedgerEntry
from channels.tests.factories import Site, make_site
from conversations.models import ChatSession, FailedRequest, Message
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db


def pks_in(client: Any, page: str, term: str) -> set[Any]:
    response = client.get(f"/admin/{page}/", {"q": term})
    assert response.status_code == 200
    return {row.pk for row in response.context["cl"].result_list}


@pytest.fixture
def other(site: Site, provider: FakeProvider) -> Site:
    """Another account, with a chat as the first one has."""
    other = make_site(name="Harbour lamps", owner="harbour@example.com")
    for one, ids in ((site, "first"), (other, "second")):
        headers = {"X-Request-ID": f"request-{ids}"}
        chat = ApiClient(one.api_key).chat(session_id=f"session-{ids}", headers=headers)
        assert chat.status_code == 200
    return other


def test_a_whole_request_id_finds_its_rows_alone(
    site: Site, other: Site, admin_client: Any
) -> None:
    reply = Message.objects.get(request_id="request-second", role="assistant")
    hold = Hold.objects.get(request_id="request-second")
    charge = LedgerEntry.objects.get(request_id="request-second")
    expected = {
        "conversations/message": reply.pk, "billing/hold": hold.pk, "billing/ledgerentry": charge.pk
    }  # fmt: skip
    for page, pk in expected.items():
        assert pks_in(admin_client, page, "request-second") == {pk}
        assert pks_in(admin_client, page, " request-second ") == {pk}
        assert pks_in(admin_client, page, "request-sec") == set()
        assert pks_in(admin_client, page, "second\N{SNOWMAN} %' OR 1=1") == set()
    assert pks_in(admin_client, "billing/hold", str(hold.pk)) == {hold.pk}
    assert pks_in(admin_client, "conversations/message", f"chatcmpl-{reply.pk}") == {reply.pk}


def test_a_session_id_finds_the_session_and_its_messages(other: Site, admin_client: Any) -> None:
    session = ChatSession.objects.get(session_id="session-second")
    assert pks_in(admin_client, "conversations/chatsession", "session-second") == {session.pk}
    messages = set(session.messages.values_list("pk", flat=True))
    assert len(messages) == 2
    assert pks_in(admin_client, "conversations/message", "session-second") == messages


def test_the_words_of_a_name_find_its_rows(other: Site, admin_client: Any) -> None:
    hold = Hold.objects.get(channel=other.channel)
    for term in ("harbour", "LAMPS harb"):
        assert pks_in(admin_client, "billing/hold", term) == {hold.pk}
    assert pks_in(admin_client, "billing/hold", "harbour shop") == set()
    entries = LedgerEntry.objects.filter(credit_account=other.account_id)
    name = other.channel.account.name
    assert pks_in(admin_client, "billing/ledgerentry", name) == set(
        entries.values_list("pk", flat=True)
    )


def test_the_ledger_is_searched_for_reasons_of_bookings(other: Site, admin_client: Any) -> None:
    grant = LedgerEntry.objects.filter(credit_account=other.account_id).exclude(kind="charge").get()
    word = grant.reason.split()[0].upper()
    assert grant.pk in pks_in(admin_client, "billing/ledgerentry", word)
    charge = LedgerEntry.objects.get(request_id="request-second")
    assert charge.reason
    assert charge.pk not in pks_in(admin_client, "billing/ledgerentry", charge.reason)


def test_a_failure_is_found_by_its_reason(
    site: Site, provider: FakeProvider, admin_client: Any
) -> None:
    provider.fail("timeout")
    assert ApiClient(site.api_key).chat().status_code == 500
    failure = FailedRequest.objects.get()
    assert pks_in(admin_client, "conversations/failedrequest", "timeout") == {failure.pk}


def test_no_search_looks_inside_the_ids_of_a_long_table(other: Site, admin_client: Any) -> None:
    for page in ("conversations/message", "conversations/chatsession", "billing/hold"):
        with CaptureQueriesContext(connection) as captured:
            pks_in(admin_client, page, "request-second")
        for one in captured:
            assert "request_id LIKE" not in one["sql"].replace('"', "")
            assert "UPPER(request_id" not in one["sql"].replace('"', "").replace("::text", "")
