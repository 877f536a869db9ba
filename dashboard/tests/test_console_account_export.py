"""The export of a whole account: what is in it, who gets it, and what it holds meanwhile."""

from __future__ import annotations

import csv
import io
import json
import random
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from channels.models import Account, AuditEntry, User
from channels.tests.factories import Site, make_site
from common import db
from conversations.models import Message
from dashboard.console import account_data, account_export
from dashboard.console.downloads import PIECE_BYTES, zip_pieces
from dashboard.tests.test_strangers import Tenant, make_tenant
from tests.support.clients import (
    ApiClient,
    account_page,
    log_in,
    member_client,
    owner_client,
    staff_guest,
)
from tests.support.fake_provider import FakeProvider, reply

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("forget_attempts")]


@pytest.fixture
def mine(provider: FakeProvider, db: None) -> Tenant:
    return make_tenant("mine", "own", provider)


def export(client: Client, tenant: Tenant | Site) -> Any:
    site = tenant.site if isinstance(tenant, Tenant) else tenant
    return client.post(account_page(site, "data/export/"))


def files_of(answer: Any) -> dict[str, str]:
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content)))
    assert archive.testzip() is None
    return {name: archive.read(name).decode() for name in archive.namelist()}


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_everything_of_the_account_is_in_it(mine: Tenant) -> None:
    test_call = ApiClient(mine.site.test_key).chat("a test question", "t1")
    assert test_call.status_code == 200
    files = files_of(export(log_in(mine.people["owner"]), mine))
    assert json.loads(files["account.json"])["name"] == mine.account.name
    assert [one["email"] for one in table(files["people.csv"])] == [
        "owner@mine.example",
        "editor@mine.example",
        "viewer@mine.example",
        "own@invited.example",
    ]
    (channel,) = objects(files["channels.jsonl"])
    assert (channel["name"], channel["system_prompt"]) == ("own shop", "own two")
    versions = objects(files["prompt_versions.jsonl"])
    assert [one["text"] for one in versions] == ["own", "own two"]
    (saved,) = objects(files["saved_replies.jsonl"])
    assert (saved["question"], saved["answer"]) == ("own", "own answer")
    assert [one["kind"] for one in table(files["keys.csv"])] in (
        ["live", "test", "account"],
        ["test", "live", "account"],
    )
    live, test = objects(files["conversations.jsonl"])
    assert [one["content"] for one in live["messages"]] == ["own question", "own reply"]
    assert live["messages"][1]["feedback"]["note"] == "own"
    assert (live["mode"], test["mode"]) == ("live", "test")
    outcomes = [one["outcome"] for one in table(files["requests-live.csv"])]
    assert sorted(outcomes) == ["answered", "failed", "replayed"]
    assert len(table(files["requests-test.csv"])) == 1
    kinds = [one["kind"] for one in table(files["ledger.csv"])]
    assert kinds == ["charge", "grant"]
    assert objects(files["credit_requests.jsonl"])[0]["note"] == "own"
    month = f"statements/{timezone.now():%Y-%m}.csv"
    assert table(files[month])[-1]["line"] == "closing balance"
    actions = [one["action"] for one in table(files["audit-log.csv"])]
    assert actions[0] == "account.exported", "the export is the newest entry"
    for name in files.keys() - {"README.txt"}:
        assert name.partition("/")[0] in files["README.txt"], name


def test_no_key_and_nothing_of_a_stranger_is_in_it(mine: Tenant, provider: FakeProvider) -> None:
    theirs = make_tenant("theirs", "zq-canary", provider)
    text = "".join(files_of(export(log_in(mine.people["owner"]), mine)).values())
    assert "canary" not in text
    assert "theirs.example" not in text
    for key in (mine.site.api_key, mine.site.test_key, theirs.site.api_key):
        assert key not in text
    assert mine.site.api_key[-4:] in text


@pytest.mark.parametrize("role", ["editor", "viewer"])
def test_only_owners_get_it(site: Site, role: str) -> None:
    client = member_client(site, role)
    assert client.get(account_page(site, "data/")).status_code == 403
    assert export(client, site).status_code == 403
    assert "Account data" not in client.get("/team/").content.decode()


def test_neither_staff_nor_strangers_get_it(site: Site, stranger: Site) -> None:
    assert export(staff_guest(site), site).status_code == 403
    assert export(log_in(User.objects.create_superuser("x@example.com")), site).status_code != 200
    their_owner = log_in(User.objects.get(email="stranger@example.com"))
    assert export(their_owner, site).status_code == 404
    assert export(Client(), site)["Location"].startswith("/accounts/login/")
    assert not AuditEntry.objects.filter(action="account.exported").exists()


def test_it_asks_for_a_fresh_log_in(site: Site) -> None:
    client = owner_client(site, seconds_ago=3600)
    page = client.get("/team/").content.decode()
    assert account_page(site, "data/") in page
    assert client.get(account_page(site, "data/")).status_code == 200
    answer = export(client, site)
    assert (answer.status_code, answer.streaming) == (302, False)
    assert not AuditEntry.objects.filter(action="account.exported").exists()


def test_there_are_so_many_a_day_and_each_is_audited(site: Site) -> None:
    client = owner_client(site)
    for _ in range(account_data.EXPORTS_A_DAY):
        assert files_of(export(client, site))
    answer = client.post(account_page(site, "data/export/"), follow=True)
    assert "Try again tomorrow" in answer.content.decode()
    found = AuditEntry.objects.filter(action="account.exported", account_id=site.account_id)
    assert found.count() == account_data.EXPORTS_A_DAY


def test_a_new_account_can_be_exported_too() -> None:
    user = User.objects.create_user("new@example.com")
    account = Account.objects.create(name="New\nname")
    account.memberships.create(user=user, role="owner")
    files = files_of(log_in(user).post(f"/a/{account.id}/data/export/"))
    assert table(files["people.csv"])[0]["email"] == "new@example.com"
    assert files["channels.jsonl"] == ""
    assert table(files["ledger.csv"]) == []


# --- What it holds meanwhile ----------------------------------------------------------------------


def test_the_archive_is_sent_in_pieces_while_it_is_read() -> None:
    """A gigabyte of text must neither be in memory nor wait for its end."""
    read, chance = 0, random.Random(7)  # text that hardly compresses

    def text() -> Iterator[str]:
        nonlocal read
        for _ in range(400):
            read += 1
            yield chance.randbytes(10_000).hex()

    pieces = zip_pieces([("one.txt", text()), ("two.txt", ["end"])])
    first = next(pieces)
    assert read < 400
    sizes = [len(first), *(len(piece) for piece in pieces)]
    assert len(sizes) > 2
    assert max(sizes) < 2 * PIECE_BYTES + 20_000


@pytest.mark.django_db(transaction=True)
def test_no_connection_is_held_while_the_client_reads(
    provider: FakeProvider, monkeypatch: Any
) -> None:
    site = make_site()
    for number in range(6):
        provider.script.append(reply(f"Reply {number}"))
        assert ApiClient(site.api_key).chat(f"Question {number}", f"s{number}").status_code == 200
    monkeypatch.setattr(account_export, "ROWS_A_READ", 2)
    released: list[bool] = []
    for _, pieces in account_export.iterate_files(Account.objects.get()):
        released += [connection.connection is None for _ in pieces]
    assert len(released) > 40
    if db.is_postgresql():
        assert all(released), released
    assert Message.objects.count() == 12
