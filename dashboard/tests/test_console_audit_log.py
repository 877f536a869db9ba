"""The audit log: the account's own entries, newest first, filtered, page by page."""

from __future__ import annotations

import csv
import io
import re
from datetime import datetime
from typing import Any

import pytest

from channels import audit, channel_changes
from channels.audit import Actor
from channels.models import Account, AuditEntry, User
from channels.tests.factories import Site
from dashboard.console import audit_log as console_log
from tests.support.clients import (
    log_in,
    member_client,
    owner_client,
    owner_of,
    staff_guest,
)

pytestmark = pytest.mark.django_db


def text_of(client: Any, query: str = "") -> str:
    response = client.get("/audit-log/" + query)
    assert response.status_code == 200
    return re.sub(r"\s+", " ", response.content.decode())


def write(site: Site, number: int = 1, *, actor: str = "anna@example.com") -> None:
    for index in range(number):
        audit.record(
            "team.invited",
            actor=Actor(actor, None, "192.0.2.7"),
            account_id=site.account_id,
            target=f"colleague {index}",
            changes={"role": (None, "editor")},
        )


def test_entries_say_who_did_what_before_and_after(site: Site) -> None:
    owner = owner_of(site)
    channel_changes.update_channel(
        channel_id=str(site.channel.id),
        actor=Actor(owner.email, owner, "192.0.2.1"),
        name="<b>New</b>",
        is_enabled=False,
    )
    page = text_of(owner_client(site))
    for words in ("owner@example.com", "192.0.2.1", "Channel updated", "&lt;b&gt;New&lt;/b&gt;"):
        assert words in page
    assert re.search(r"<dt>name</dt><dd>.*?<del[^>]*>Shop</del>", page)
    assert re.search(r"<dt>is enabled</dt><dd>.*?<del[^>]*>yes</del>.*?<span>no</span>", page)
    assert page.index("Channel updated") < page.index("Channel created", page.index("<tbody>"))


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("fixed_answer.added", "Saved reply added"),
        ("fixedanswer.deleted", "Saved reply deleted"),
        ("staff.viewed_account", "Staff viewed account"),
    ],
)
def test_entries_use_the_words_of_the_pages(site: Site, action: str, words: str) -> None:
    audit.record(action, actor=Actor("anna@example.com"), account_id=site.account_id, target="it")
    page = text_of(owner_client(site))
    assert page.count(words) == 2, "in the list, and among the actions to filter by"


def test_times_before_and_after_are_readable(site: Site) -> None:
    changes = {"ends_at": (None, "2026-11-24 00:49:45.802504+00:00"), "name": ("2026-11-24", "12")}
    audit.record(
        "key.rotated", actor=Actor("a@example.com"), account_id=site.account_id, changes=changes
    )
    page = text_of(owner_client(site))
    assert "24 Nov 2026, 00:49:45 UTC" in page
    assert re.search(r"<del[^>]*>2026-11-24</del>.*?<span>12</span>", page)


def test_times_in_an_entry_are_those_of_the_accounts_zone(site: Site) -> None:
    Account.objects.filter(id=site.account_id).update(time_zone="Europe/Berlin")
    changes = {"ends_at": (None, "2026-11-24 00:49:45.802504+00:00")}
    audit.record(
        "key.rotated", actor=Actor("a@example.com"), account_id=site.account_id, changes=changes
    )
    page = text_of(owner_client(site))
    assert "24 Nov 2026, 01:49:45 Europe/Berlin" in page
    assert "UTC" not in page[page.index("<tbody>") :]


def test_a_log_in_says_with_what(site: Site) -> None:
    audit.record(
        "login.succeeded",
        actor=Actor("a@example.com"),
        account_id=site.account_id,
        changes={"by": (None, "password, totp")},
    )
    page = text_of(owner_client(site))
    assert "Logged in" in page
    assert re.search(r"<dt>with</dt><dd>\s*<span>Password, Authenticator app</span>", page)
    assert '<th scope="col">Details</th>' in page


def test_people_and_channels_are_suggested_from_the_latest_entries(
    site: Site, stranger: Site
) -> None:
    write(site, actor='"><b>anna')
    write(stranger, actor="secret@example.com")
    page = text_of(owner_client(site))
    people = page[page.index('<datalist id="person-') : page.index('<datalist id="channel-')]
    assert '<option value="&quot;&gt;&lt;b&gt;anna">' in people
    assert "secret@" not in people
    assert '<datalist id="channel-suggestions"><option value="Shop"></datalist>' in page


@pytest.mark.parametrize("role", ["viewer", "editor", "guest"])
def test_every_member_reads_it(site: Site, role: str) -> None:
    client = staff_guest(site) if role == "guest" else member_client(site, role)
    assert "Key issued" in text_of(client)


def test_filters_narrow_it_down(site: Site, stranger: Site) -> None:
    write(site)
    client = owner_client(site)

    def rows(query: str) -> int:
        return text_of(client, query).count("<tr>") - 1

    everything = rows("")
    assert everything == AuditEntry.objects.filter(account_id=site.account_id).count()
    assert rows("?action=team.invited") == 1
    assert rows("?person=ANNA") == 1
    assert rows("?person=command") == everything - 1
    assert rows("?channel=sho") == 3
    assert rows(f"?channel={site.channel.id}&action=key.issued") == 2
    assert rows("?channel=&person=&action=") == everything
    assert rows("?channel=%00&person=%00&action=%00") == everything
    for nothing in (
        "?action=x",
        "?person=%25",
        "?channel=nobody",
        f"?channel={stranger.channel.id}",
    ):
        page = text_of(client, nothing)
        assert "No entry matches these filters" in page


def test_nothing_of_a_strangers_log_is_there(site: Site, stranger: Site) -> None:
    write(stranger, actor="secret@example.com")
    page = text_of(owner_client(site))
    for words in ("secret@example.com", "Team invited", "Stranger", str(stranger.channel.id)):
        assert words not in page
    latest = AuditEntry.objects.latest("id").id
    assert "secret@" not in text_of(owner_client(site), f"?before={latest + 1}")


def test_older_entries_follow_without_gap_or_repetition(site: Site) -> None:
    write(site, 120)
    client = owner_client(site)
    seen: list[int] = []
    query = "?action=team.invited"
    while query:
        response = client.get("/audit-log/" + query)
        seen += [one["entry"].id for one in response.context["entries"]]
        older = response.context["older_query"]
        query = f"?{older}" if older else ""
    assert len(seen) == 120
    assert seen == sorted(set(seen), reverse=True)


@pytest.mark.parametrize("before", ["x", "-1", "9" * 30, "", "0", "²"])
def test_odd_addresses_are_answered(site: Site, before: str) -> None:
    assert owner_client(site).get("/audit-log/", {"before": before}).status_code == 200


def test_a_deed_outlives_its_channel_and_its_person(site: Site) -> None:
    gone = User.objects.create_user("gone@example.com")
    actor = Actor("gone@example.com", gone)
    channel_changes.update_channel(channel_id=str(site.channel.id), actor=actor, name="Old")
    site.channel.refresh_from_db()
    channel_changes.delete_channel(channel=site.channel, actor=actor)
    gone.delete()
    page = text_of(owner_client(site))
    assert "gone@example.com" in page
    assert "Old (" in page
    assert "Channel deleted" in page


def test_an_empty_log_says_what_will_be_there() -> None:
    user = User.objects.create_user("new@example.com")
    Account.objects.create(name="New").memberships.create(user=user, role="owner")
    page = text_of(log_in(user))
    assert "No entries yet" in page


def test_the_page_takes_few_queries_and_counts_nothing(
    site: Site, django_assert_max_num_queries: Any
) -> None:
    write(site, 200)
    client = owner_client(site)
    client.get("/audit-log/")
    with django_assert_max_num_queries(11) as captured:
        client.get("/audit-log/?person=anna")
    assert not [one for one in captured.captured_queries if "COUNT(" in one["sql"]]


# --- Days and CSV ---------------------------------------------------------------------------------


def at(site: Site, moment: str, target: str) -> None:
    entry = audit.record(
        "team.invited", actor=Actor("anna@example.com"), account_id=site.account_id, target=target
    )
    AuditEntry.objects.filter(id=entry.id).update(created_at=datetime.fromisoformat(moment))


def targets(client: Any, query: str) -> list[str]:
    shown = client.get(f"/audit-log/?action=team.invited{query}").context["entries"]
    return [one["entry"].target for one in shown]


def test_the_days_are_those_of_the_account(site: Site) -> None:
    Account.objects.filter(id=site.account_id).update(time_zone="Asia/Tokyo")
    at(site, "2026-03-01T14:59:59Z", "1 March in Tokyo")
    at(site, "2026-03-01T15:00:00Z", "2 March in Tokyo")
    at(site, "2026-03-02T15:00:00Z", "3 March in Tokyo")
    client = owner_client(site)
    assert targets(client, "&first=2026-03-02&last=2026-03-02") == ["2 March in Tokyo"]
    assert targets(client, "&last=2026-03-01") == ["1 March in Tokyo"]
    assert targets(client, "&first=2026-03-03") == ["3 March in Tokyo"]
    assert "From (Asia/Tokyo)" in text_of(client)


@pytest.mark.parametrize("query", ["&first=never", "&first=2026-03-02&last=2026-03-01"])
def test_a_wrong_day_is_explained(site: Site, query: str) -> None:
    client = owner_client(site)
    assert client.get(f"/audit-log/?{query}").context["form"].errors
    assert client.get(f"/audit-log/export.csv?{query}").status_code == 404


def rows_of(response: Any) -> list[dict[str, str]]:
    body = b"".join(response.streaming_content).decode().removeprefix("\ufeff")
    return list(csv.DictReader(io.StringIO(body)))


def test_the_file_has_what_the_filters_find_and_starts_no_formula(
    site: Site, stranger: Site
) -> None:
    at(site, "2026-03-01T10:00:00Z", "=HYPERLINK(1)")
    write(stranger, actor="secret@example.com")
    client = owner_client(site)
    (row,) = rows_of(client.get("/audit-log/export.csv?first=2026-03-01&last=2026-03-01"))
    assert row["created_at_utc"] == "2026-03-01 10:00:00"
    assert (row["target"], row["person"]) == ("'=HYPERLINK(1)", "anna@example.com")
    everything = rows_of(client.get("/audit-log/export.csv"))
    assert len(everything) == AuditEntry.objects.filter(account_id=site.account_id).count()
    assert "secret@example.com" not in str(everything)
    issued = next(one for one in everything if one["action"] == "key.issued")
    assert (issued["channel"], issued["channel_id"]) == ("Shop", str(site.channel.id))


def test_a_long_log_is_read_in_pieces(
    site: Site, monkeypatch: Any, django_assert_max_num_queries: Any
) -> None:
    write(site, 25)
    monkeypatch.setattr(console_log, "ENTRIES_A_READ", 10)
    client = member_client(site, "viewer")
    with django_assert_max_num_queries(12):
        found = rows_of(client.get("/audit-log/export.csv"))
    invited = [one["target"] for one in found if one["action"] == "team.invited"]
    assert invited == [f"colleague {number}" for number in reversed(range(25))]
