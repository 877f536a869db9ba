"""/api/manage/: who may call. Strangers, wrong keys, disabled accounts, and the limit."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from billing import throttling
from channels import account_keys, fixed_answers
from channels.audit import COMMAND_LINE
from channels.errors import PlanLimitReached
from channels.models import Account, AccountKey
from channels.tests.factories import Site
from conversations.api.manage.urls import ROUTES
from tests.support.clients import UNKNOWN, ApiClient
from tests.support.manage import ManageClient, manager_of
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# What a call may send. Each view takes what it knows.
BODY = {
    "name": "x",
    "text": "x",
    "temperature": 0.5,
    "question": "x?",
    "answer": "x",
    "day": "1",
    "time_zone": "Europe/Berlin",
}


OPERATIONS = [
    (method, path)
    for path, view in ROUTES.items()
    for method in METHODS
    if hasattr(view, method.lower())
]
WITH_IDS = [one for one in OPERATIONS if "{" in one[1]]
ids = pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=str)


def ids_of(site: Site) -> dict[str, Any]:
    """Return an id of each kind that is the site's."""
    reply = fixed_answers.find_match(channel=site.channel, text="Where?")
    if reply is None:
        reply, _ = fixed_answers.add_fixed_answer(
            channel=site.channel, question="Where?", answer="Here.", actor=COMMAND_LINE
        )
    key = site.channel.api_keys.filter(mode="live")[0]
    return {
        "channel_id": site.channel.id,
        "key_id": key.id,
        "reply_id": reply.id,
        "number": 1,
    }


def rows_of(site: Site) -> list[Any]:
    channel = site.channel
    channel.refresh_from_db()
    return [
        list(rows.order_by("pk").values())
        for rows in (
            channel.api_keys.all(),
            channel.fixed_answers.all(),
            channel.prompt_versions.all(),
            channel.spend_caps.all(),
            channel.account.channels.all(),
            channel.account.audit_entries.all(),
        )
    ]


def test_every_operation_is_tried() -> None:
    assert len(OPERATIONS) == 28


@pytest.mark.parametrize(("method", "path"), WITH_IDS, ids=str)
def test_a_strangers_id_is_answered_as_an_unknown_one(
    site: Site, stranger: Site, method: str, path: str
) -> None:
    client = manager_of(stranger)
    mine, theirs = ids_of(stranger), ids_of(site)
    unknown = dict.fromkeys(mine, UNKNOWN) | {"reply_id": 10**15, "number": 10**8}
    before = rows_of(site)
    same_id = {"X-Request-Id": "r"}
    last = re.findall(r"\{(\w+)\}", path)[-1]
    # The stranger's channel, and their key or reply below a channel of one's own.
    for name in {"channel_id", last} - {"number"}:
        answers = [
            client.call(method, path.format(**(mine | {name: one[name]})), BODY, **same_id)
            for one in (theirs, unknown)
        ]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].content == answers[1].content
    whole = client.call(method, path.format(**theirs), BODY, **same_id)
    assert whole.content == client.call(method, path.format(**unknown), BODY, **same_id).content
    assert rows_of(site) == before


@ids
def test_no_wrong_key_opens_anything(site: Site, method: str, path: str, settings: Any) -> None:
    settings.FAILED_KEYS_PER_MINUTE = 100
    good = manager_of(site)
    expired, revoked = manager_of(site), manager_of(site)
    AccountKey.objects.filter(key_last_four=expired.key[-4:]).update(expires_at=timezone.now())
    AccountKey.objects.filter(key_last_four=revoked.key[-4:]).update(revoked_at=timezone.now())
    before = rows_of(site)
    wrong = [site.api_key, site.test_key, expired.key, revoked.key, good.key[:-1] + "!", "x"]
    answers = [
        ManageClient(key).call(method, path.format(**ids_of(site)), BODY, **{"X-Request-Id": "r"})
        for key in wrong
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert answers[0].json()["code"] == "invalid_api_key"
    none = Client().generic(method, f"/api/manage/{path.format(**ids_of(site))}", "{}")
    assert none.json()["code"] == "missing_api_key"
    assert rows_of(site)[-1][: len(before[-1])] == before[-1]


@ids
def test_a_disabled_account_manages_nothing(site: Site, method: str, path: str) -> None:
    client = manager_of(site)
    filled = path.format(**ids_of(site))
    Account.objects.update(is_enabled=False)
    before = rows_of(site)
    answer = client.call(method, filled, BODY)
    assert (answer.status_code, answer.json()["code"]) == (403, "site_disabled")
    assert rows_of(site) == before


def test_an_account_key_cannot_chat(site: Site, django_assert_num_queries: Any) -> None:
    api = ApiClient(manager_of(site).key)
    with django_assert_num_queries(0):
        for answer in (
            api.chat(),
            api.get("/api/key"),
            api.get("/api/history?session_id=s"),
            api.post("/v1/chat/completions", {"messages": []}),
        ):
            assert answer.status_code == 401


def test_a_channels_key_is_refused_without_a_query(
    site: Site, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(0):
        for key in (site.api_key, site.test_key):
            assert ManageClient(key).get("channels").status_code == 401


def test_the_key_goes_into_either_header(site: Site) -> None:
    key = manager_of(site).key
    answer = Client().get("/api/manage/channels/", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200


def test_the_use_of_a_key_is_noted_once_a_minute(site: Site, clock: Any) -> None:
    client = manager_of(site)

    def used_at() -> Any:
        return AccountKey.objects.get().last_used_at

    assert used_at() is None
    client.get("channels")
    first = used_at()
    assert first == timezone.now()
    clock.shift(59)
    client.get("channels")
    assert used_at() == first
    clock.shift(1)
    client.get("channels")
    assert used_at() == first + timedelta(minutes=1)


# --- The limit ------------------------------------------------------------------------------------


def test_answers_say_what_is_left_of_the_minute(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttling, "MANAGE_REQUESTS_PER_MINUTE", 2)
    client, other = manager_of(site), manager_of(site)
    assert client.get("channels")["X-RateLimit-Remaining"] == "1"
    assert client.get(f"channels/{UNKNOWN}")["X-RateLimit-Remaining"] == "0"
    refused = client.post("channels", {"name": "x"})
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused.json()["error"].startswith("This key may make 2 such requests a minute.")
    assert refused["X-RateLimit-Limit"] == "2"
    assert int(refused["Retry-After"]) > 0
    assert other.get("channels").status_code == 200
    assert ApiClient(site.api_key).get("/api/key").status_code == 200
    Account.objects.update(is_enabled=False)
    throttling._refused.clear()
    assert client.get("channels")["X-RateLimit-Remaining"] == "0"


@pytest.mark.django_db(transaction=True)
def test_exactly_the_limit_is_admitted_of_many_at_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttling, "MANAGE_REQUESTS_PER_MINUTE", 5)
    client = manager_of(site)
    answers = run_in_threads(lambda _: ManageClient(client.key).get("channels").status_code, 12)
    assert sorted(answers) == [200] * 5 + [429] * 7


def test_an_account_has_twenty_working_keys_at_most(site: Site) -> None:
    clients = [manager_of(site) for _ in range(account_keys.MOST_KEYS)]
    with pytest.raises(PlanLimitReached):
        manager_of(site)
    key = AccountKey.objects.order_by("created_at")[0]
    account_keys.revoke_account_key(account_key=key, actor=COMMAND_LINE)
    manager_of(site)
    assert {one.get("channels").status_code for one in clients} == {200, 401}
