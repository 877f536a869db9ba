"""/api/manage/channels/{id}/…: prompt versions, keys, saved replies, spend caps, and usage."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing import throttling
from channels.models import AuditEntry
from channels.tests.factories import Site
from conversations.tests.test_manage_access import BODY, OPERATIONS, ids_of
from tests.support.clients import UNKNOWN, ApiClient
from tests.support.fake_provider import FakeProvider
from tests.support.manage import ManageClient, manager_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def manager(site: Site) -> ManageClient:
    return manager_of(site)


@pytest.fixture
def path(site: Site) -> str:
    return f"channels/{site.channel.id}"


def actions() -> list[str]:
    return list(AuditEntry.objects.order_by("id").values_list("action", flat=True))


# --- Prompt versions ------------------------------------------------------------------------------


def test_a_published_prompt_is_the_next_version(
    site: Site, manager: ManageClient, path: str, provider: FakeProvider
) -> None:
    body = {"text": " You are kind.\n", "note": "kinder"}
    made = manager.post(f"{path}/prompt-versions", body)
    assert made.status_code == 201
    assert made.json() | body == made.json()
    assert (made.json()["number"], made.json()["author"]) == (2, None)
    assert manager.get(f"{path}/prompt-versions/2").json() == made.json()
    assert manager.get(path).json()["prompt_version"] == 2
    same = manager.post(f"{path}/prompt-versions", body)
    assert (same.status_code, same.json()["number"]) == (200, 2)
    ApiClient(site.api_key).chat()
    assert provider.prompts[-1][0]["content"] == " You are kind.\n"
    listed = manager.get(f"{path}/prompt-versions").json()["data"]
    assert [one["number"] for one in listed] == [2, 1]
    assert "text" not in listed[0]
    assert actions()[-1] == "channel.updated"


def test_an_empty_prompt_can_be_published_but_must_be_said(
    manager: ManageClient, path: str
) -> None:
    manager.post(f"{path}/prompt-versions", {"text": "x"})
    assert manager.post(f"{path}/prompt-versions", {"text": ""}).status_code == 201
    for body, field in (
        ({}, "text"),
        ({"text": None}, "text"),
        ({"text": "x" * 16_001}, "text"),
        ({"text": "x", "note": "x" * 201}, "note"),
    ):
        refused = manager.post(f"{path}/prompt-versions", body)
        assert list(refused.json()["fields"]) == [field]
    longest = manager.post(f"{path}/prompt-versions", {"text": "\U0001f600" * 16_000})
    assert longest.status_code == 201


def test_versions_are_paged(manager: ManageClient, path: str) -> None:
    for number in range(3):
        manager.post(f"{path}/prompt-versions", {"text": str(number)})
    page = manager.get(f"{path}/prompt-versions?limit=3").json()
    rest = manager.get(f"{path}/prompt-versions?cursor={page['next_cursor']}").json()
    assert [one["number"] for one in page["data"] + rest["data"]] == [4, 3, 2, 1]
    assert rest["next_cursor"] is None


# --- Keys -----------------------------------------------------------------------------------------


def test_a_key_is_created_rotated_and_revoked(
    site: Site, manager: ManageClient, path: str, clock: Any
) -> None:
    made = manager.post(f"{path}/keys", {"mode": "test"}).json()
    assert ApiClient(made["key"]).chat().status_code == 200
    shown = {name: value for name, value in made.items() if name != "key"}
    assert shown["masked"] == f"amgai_test_…{made['key'][-4:]}"
    assert manager.get(f"{path}/keys/{made['id']}").json() == shown
    new = manager.post(f"{path}/keys/{made['id']}/rotate", {"overlap_seconds": 60}).json()
    assert new["mode"] == "test"
    assert ApiClient(made["key"]).get("/api/key").status_code == 200
    clock.shift(61)
    assert ApiClient(made["key"]).get("/api/key").status_code == 401
    old = manager.get(f"{path}/keys/{made['id']}").json()
    assert (old["active"], old["expires_at"]) == (False, "2026-04-05T12:01:00Z")
    revoked = manager.post(f"{path}/keys/{new['id']}/revoke")
    assert (revoked.status_code, revoked.json()["active"]) == (200, False)
    assert revoked.json()["revoked_at"] == "2026-04-05T12:01:01Z"
    assert ApiClient(new["key"]).get("/api/key").status_code == 401
    assert manager.post(f"{path}/keys/{new['id']}/revoke").json() == revoked.json()
    assert actions()[-4:] == ["key.issued", "key.rotated", "key.issued", "key.revoked"]
    again = manager.post(f"{path}/keys/{new['id']}/rotate")
    assert (again.status_code, again.json()["fields"]) == (400, {})
    assert "Create a new one" in again.json()["error"]


def test_a_keys_terms_are_set_and_changed_member_by_member(
    site: Site, manager: ManageClient, path: str, clock: Any
) -> None:
    model = site.channel.model.model_id
    terms = {
        "name": "Checkout",
        "expires_at": "2026-04-06T12:00:00Z",
        "allowed_addresses": ["203.0.113.0/24"],
        "allowed_models": [model],
    }
    made = manager.post(f"{path}/keys", terms).json()
    assert {name: made[name] for name in terms} == terms
    assert ApiClient(made["key"]).chat().json()["code"] == "not_allowed"
    one = f"{path}/keys/{made['id']}"
    assert manager.patch(one, {"name": None}).json() == manager.get(one).json()
    open_again = manager.patch(one, {"allowed_addresses": [], "expires_at": ""}).json()
    assert open_again == manager.get(one).json()
    assert (open_again["name"], open_again["expires_at"]) == ("Checkout", None)
    assert (open_again["allowed_addresses"], open_again["allowed_models"]) == ([], [model])
    assert actions()[-1] == "key.updated"
    manager.post(f"{one}/revoke")
    assert manager.patch(one, {"name": "x"}).status_code == 400


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "x" * 81}, "name"),
        ({"expires_at": "2026-04-06"}, "expires_at"),
        ({"expires_at": "2026-04-04T12:00:00Z"}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59Z"}, "expires_at"),
        ({"expires_at": 1}, "expires_at"),
        ({"allowed_addresses": "203.0.113.0/24"}, "allowed_addresses"),
        ({"allowed_addresses": ["x"]}, "allowed_addresses"),
        ({"allowed_addresses": ["203.0.113.1\n::/0"]}, "allowed_addresses"),
        ({"allowed_addresses": [""]}, "allowed_addresses"),
        ({"allowed_models": ["nobody's"]}, "allowed_models"),
        ({"allowed_models": [1]}, "allowed_models"),
        ({"allowed_models": ["\ud800"]}, "allowed_models"),
        ({"allowed_models": ["x"] * 101}, "allowed_models"),
    ],
)
def test_what_is_wrong_with_a_keys_terms_is_named(
    site: Site, manager: ManageClient, path: str, clock: Any, body: Any, field: str
) -> None:
    key = site.channel.api_keys.all()[0]
    for refused in (
        manager.post(f"{path}/keys", body),
        manager.patch(f"{path}/keys/{key.id}", body),
    ):
        assert (refused.status_code, list(refused.json()["fields"])) == (400, [field])


def test_no_list_and_no_reading_shows_a_key(site: Site, manager: ManageClient, path: str) -> None:
    listed = manager.get(f"{path}/keys")
    assert len(listed.json()["data"]) == 2
    first = manager.get(f"{path}/keys?limit=1").json()
    rest = manager.get(f"{path}/keys?limit=1&cursor={first['next_cursor']}").json()
    assert first["data"] + rest["data"] == listed.json()["data"]
    assert rest["next_cursor"] is None
    for secret in (site.api_key, site.test_key):
        assert secret not in listed.content.decode()


@pytest.mark.parametrize(
    ("body", "field"), [({"mode": "free"}, "mode"), ({"mode": []}, "mode"), ("[]", "")]
)
def test_what_is_wrong_with_a_new_key_is_named(
    manager: ManageClient, path: str, body: Any, field: str
) -> None:
    refused = manager.post(f"{path}/keys", body)
    assert refused.status_code == 400
    assert list(refused.json()["fields"]) == [field] * bool(field)


@pytest.mark.parametrize("seconds", [-1, 604_801, "60", 1.5, True])
def test_a_wrong_overlap_is_named(
    site: Site, manager: ManageClient, path: str, seconds: Any
) -> None:
    key = site.channel.api_keys.all()[0]
    refused = manager.post(f"{path}/keys/{key.id}/rotate", {"overlap_seconds": seconds})
    assert list(refused.json()["fields"]) == ["overlap_seconds"]


# --- Saved replies --------------------------------------------------------------------------------


def test_saved_replies_are_added_changed_and_deleted(
    site: Site, manager: ManageClient, path: str, provider: FakeProvider
) -> None:
    body = {"question": "Where are you?", "answer": "Here."}
    made = manager.post(f"{path}/saved-replies", body)
    assert made.status_code == 201
    one = f"{path}/saved-replies/{made.json()['id']}"
    expected = body | {"id": made.json()["id"], "wordings": []}
    assert manager.get(one).json() == made.json() == expected
    assert manager.post(f"{path}/saved-replies", body).status_code == 200
    assert ApiClient(site.api_key).chat("where are you").json()["reply"] == "Here."
    changed = manager.patch(one, {"answer": "There."})
    assert changed.json() == made.json() | {"answer": "There."}
    assert manager.get(f"{path}/saved-replies").json()["data"] == [changed.json()]
    assert manager.delete(one).status_code == 204
    assert manager.delete(one).status_code == 404
    assert actions()[-3:] == [
        "fixed_answer.added", "fixed_answer.updated", "fixed_answer.deleted",
    ]  # fmt: skip


def test_a_saved_reply_has_other_wordings(
    site: Site, manager: ManageClient, path: str, provider: FakeProvider
) -> None:
    body = {"question": "Where?", "wordings": ["Your address", "where", "How to find you?"]}
    made = manager.post(f"{path}/saved-replies", body | {"answer": "Here."})
    # Of wordings that are compared alike, one is kept.
    assert made.json()["wordings"] == ["Your address", "How to find you?"]
    one = f"{path}/saved-replies/{made.json()['id']}"
    assert ApiClient(site.api_key).chat("your ADDRESS?").json()["reply"] == "Here."
    # A call that does not name wordings, as before there were any, leaves them.
    changed = manager.patch(one, {"question": "Where are you?"}).json()
    assert (changed["question"], changed["wordings"]) == (
        "Where are you?", ["Your address", "How to find you?"],
    )  # fmt: skip
    assert ApiClient(site.api_key).chat("where?").json()["reply"] == "Reply 1"
    assert manager.patch(one, {"wordings": ["Address"]}).json()["wordings"] == ["Address"]
    assert manager.get(f"{path}/saved-replies").json()["data"][0]["wordings"] == ["Address"]
    taken = manager.post(
        f"{path}/saved-replies", {"question": "x", "wordings": ["address!"], "answer": "x"}
    )
    assert taken.json()["fields"] == {
        "wordings": "The saved reply “Where are you?” already answers “address!”."
    }
    assert manager.patch(one, {"wordings": []}).json()["wordings"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"answer": "x"}, "question"),
        ({"question": "x"}, "answer"),
        ({"question": "?!", "answer": "x"}, "question"),
        ({"question": "Taken", "answer": "x"}, "question"),
        ({"question": "x" * 501, "answer": "x"}, "question"),
        ({"question": "x", "answer": "x" * 8_001}, "answer"),
        ({"question": "x", "answer": "\ud800"}, "answer"),
        ({"question": "x", "answer": "x", "wordings": "y"}, "wordings"),
        ({"question": "x", "answer": "x", "wordings": [1]}, "wordings"),
        ({"question": "x", "answer": "x", "wordings": [""]}, "wordings"),
        ({"question": "x", "answer": "x", "wordings": ["?!"]}, "wordings"),
        ({"question": "x", "answer": "x", "wordings": ["TAKEN"]}, "wordings"),
        ({"question": "x", "answer": "x", "wordings": ["y" * 501]}, "wordings"),
        ({"question": "x", "answer": "x", "wordings": ["\ud800"]}, "wordings"),
        ({"question": "x", "answer": "x", "wordings": [f"{n}" for n in range(20)]}, "wordings"),
    ],
)
def test_what_is_wrong_with_a_saved_reply_is_named(
    manager: ManageClient, path: str, body: Any, field: str
) -> None:
    manager.post(f"{path}/saved-replies", {"question": "taken?", "answer": "y"})
    refused = manager.post(f"{path}/saved-replies", body)
    assert (refused.status_code, list(refused.json()["fields"])) == (400, [field])


# --- Spend caps -----------------------------------------------------------------------------------


def test_a_cap_is_set_reached_and_lifted(
    site: Site, manager: ManageClient, path: str, provider: FakeProvider, clock: Any
) -> None:
    key = site.channel.api_keys.filter(mode="live")[0]
    api = ApiClient(site.api_key)
    for cap in (f"{path}/spend-cap", f"{path}/keys/{key.id}/spend-cap"):
        assert manager.get(cap).json() == {"day": None, "month": None}
        put = manager.put(cap, {"day": "1.5", "month": None})
        assert put.status_code == 200, put.content
        assert put.json()["day"]["limit"] == "1.500000"
        assert put.json()["day"]["resets_at"] == "2026-04-06T00:00:00Z"
        if cap == f"{path}/spend-cap":
            assert api.chat().status_code == 200
        assert api.chat().json()["code"] == "spend_cap_reached"
        assert manager.get(cap).json()["day"]["spent"] == "1.000000"
        too_low = manager.put(cap, {"day": "0.5"})
        assert list(too_low.json()["fields"]) == ["day"]
        assert manager.put(cap, {}).json() == {"day": None, "month": None}
    assert api.chat().status_code == 200
    assert actions()[-1] == "key.spend_cap_changed"


@pytest.mark.parametrize("value", [1.5, True, "much", "-1", "1e400", "0.0000001", [], "NaN"])
def test_a_wrong_cap_is_named(manager: ManageClient, path: str, value: Any) -> None:
    refused = manager.put(f"{path}/spend-cap", {"day": value, "month": 5})
    assert (refused.status_code, list(refused.json()["fields"])) == (400, ["day"])


def test_a_test_key_has_no_cap(site: Site, manager: ManageClient, path: str) -> None:
    key = site.channel.api_keys.filter(mode="test")[0]
    refused = manager.put(f"{path}/keys/{key.id}/spend-cap", {"day": "1"})
    assert refused.status_code == 400
    assert "Test keys" in refused.json()["error"]


# --- Usage ----------------------------------------------------------------------------------------


def test_usage_is_that_of_the_account_or_a_channel(
    site: Site, stranger: Site, manager: ManageClient, path: str, provider: FakeProvider
) -> None:
    for key in (site.api_key, site.api_key, site.test_key, stranger.api_key):
        ApiClient(key).chat(session_id=key[-4:])
    other = manager.post("channels", {"name": "b"}).json()["id"]
    second = manager.post(f"channels/{other}/keys").json()["key"]
    ApiClient(second).chat()
    today = f"{timezone.now():%Y-%m-%d}"
    by_day = manager.get("usage").json()
    assert by_day["total"]["requests"] == 3
    assert by_day["total"]["credits"] == "3.000000"
    assert [group["day"] for group in by_day["groups"]] == [today]
    by_channel = manager.get("usage?group_by=channel").json()["groups"]
    assert {one["channel"]: one["credits"] for one in by_channel} == {
        str(site.channel.id): "2.000000",
        other: "1.000000",
    }
    by_model = manager.get(f"{path}/usage?group_by=model&from={today}&to={today}").json()
    assert by_model["total"]["requests"] == 2
    assert [one["model"] for one in by_model["groups"]] == [site.channel.model.model_id]
    old = f"{timezone.now() - timedelta(days=40):%Y-%m-%d}"
    assert manager.get(f"usage?from={old}&to={old}").json()["groups"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [("group_by=hour", "group_by"), ("from=x", "from"), ("from=2026-01-02&to=2026-01-01", "from")],
)
def test_a_wrong_period_is_named(manager: ManageClient, path: str, query: str, field: str) -> None:
    for usage in ("usage", f"{path}/usage"):
        assert list(manager.get(f"{usage}?{query}").json()["fields"]) == [field]


# --- Every operation ------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=str)
def test_no_operation_takes_more_statements_than_it_should(
    site: Site, manager: ManageClient, method: str, path: str
) -> None:
    filled = path.format(**ids_of(site))
    manager.get("usage")
    once = {"Idempotency-Key": "k"} if method == "POST" else {}
    with CaptureQueriesContext(
        connection,
    ) as seen:
        answer = manager.call(method, filled, BODY, **once)
    assert answer.status_code < 400, answer.content
    # The key, the minute, the channel, and what is below it; changes also lock, check, and audit.
    most = {"GET": 5, "PATCH": 16, "PUT": 28, "DELETE": 35, "POST": 34}[method]
    assert len(seen) <= most, [query["sql"][:120] for query in seen.captured_queries]


STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 1e308, "", " ", "\0", "\ud800", "x" * 20_000, [], [None], [[]], {},
    {"": None}, {"overloaded": None}, "2026-02-30T00:00:00Z", "0001-01-01T00:00:00+23:59",
)  # fmt: skip
WITH_BODY = [one for one in OPERATIONS if one[0] in ("POST", "PATCH", "PUT")]


@cache
def schema() -> dict[str, Any]:
    document: dict[str, Any] = Client().get("/api/schema").json()
    return document


def members_of(method: str, path: str) -> list[str]:
    """Return the members that an operation's body may have, and one that it may not."""
    operation = schema()["paths"][f"/api/manage/{path}"][method.lower()]
    if "requestBody" not in operation:
        return ["unknown"]
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    return [
        *schema()["components"]["schemas"][reference.rpartition("/")[2]]["properties"],
        "unknown",
    ]


@pytest.mark.parametrize(("method", "path"), WITH_BODY, ids=str)
def test_no_strange_value_is_a_fault(
    site: Site, manager: ManageClient, method: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttling, "MANAGE_REQUESTS_PER_MINUTE", 10_000)
    filled = path.format(**ids_of(site))
    for member in members_of(method, path):
        for value in STRANGE:
            answer = manager.call(method, filled, BODY | {member: value})
            assert answer.status_code in (200, 201, 400), (member, value, answer.content)
    for body in ("[]", "null", "{", '{"name": NaN}'):
        assert manager.call(method, filled, body).status_code in (200, 400), body


def test_a_list_takes_as_many_statements_for_many_rows_as_for_one(
    site: Site, manager: ManageClient, django_assert_num_queries: Any
) -> None:
    manager.get("usage")
    with CaptureQueriesContext(connection) as one:
        manager.get("channels")
        count = len(one)
    for number in range(5):
        manager.post("channels", {"name": str(number)})
    with django_assert_num_queries(count):
        assert len(manager.get("channels").json()["data"]) == 6


@pytest.mark.parametrize("path", ["channels/x", f"channels/{UNKNOWN}/x", "x", ""])
def test_what_does_not_exist_is_not_found(manager: ManageClient, path: str) -> None:
    answer = manager.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_the_wrong_method_is_told_the_right_ones(manager: ManageClient, path: str) -> None:
    answer = manager.put(path, {})
    assert (answer.status_code, answer["Allow"]) == (405, "GET, PATCH, DELETE, HEAD")
