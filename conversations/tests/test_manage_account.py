"""/api/manage/account and usage by its days: the console's time zone, for programs."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from channels.models import Account, AuditEntry
from channels.tests.factories import Site
from common.days import end_of, start_of
from conversations.tests.test_rollups import add_failure, add_reply
from conversations.usage import reports, rollup
from conversations.usage.reports import Scope
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider
from tests.support.manage import ManageClient, manager_of

pytestmark = pytest.mark.django_db
BERLIN = "Europe/Berlin"
# The clock of these tests stands at noon, UTC, which is 14:00 in Berlin.
TODAY = date(2026, 4, 5)
IN_UTC = {"time_zone": "UTC", "until": None}


@pytest.fixture
def manager(site: Site, clock: Any) -> ManageClient:
    return manager_of(site)


# --- The time zone --------------------------------------------------------------------------------


def test_the_time_zone_is_read_and_changed_as_in_the_console(
    site: Site, manager: ManageClient
) -> None:
    before = manager.get("account").json()
    assert before == {
        "name": site.channel.account.name,
        "time_zone": "UTC",
        "quota_in_time_zone": False,
        "limits": {"daily_quota": IN_UTC, "spend_cap_day": IN_UTC, "spend_cap_month": IN_UTC},
    }
    changed = manager.patch("account", {"time_zone": " europe/berlin "})
    assert changed.status_code == 200, changed.content
    # The day of UTC that began goes on until the day ends in both zones.
    until = "2026-04-06T00:00:00Z"
    assert changed.json() == before | {
        "time_zone": BERLIN,
        "limits": {
            "daily_quota": IN_UTC,
            "spend_cap_day": {"time_zone": "UTC", "until": until},
            "spend_cap_month": {"time_zone": "UTC", "until": "2026-05-01T00:00:00Z"},
        },
    }
    assert manager.get("account").json() == changed.json()
    entry = AuditEntry.objects.get(action="account.time_zone_changed")
    assert entry.actor_name.startswith("API key amgai_admin_…")
    assert entry.changes == {"time zone": ["UTC", BERLIN]}


def test_a_cap_counts_by_the_new_zone_once_the_running_day_is_over(
    site: Site, manager: ManageClient, clock: Any
) -> None:
    cap = f"channels/{site.channel.id}/spend-cap"
    assert manager.put(cap, {"day": "5"}).json()["day"]["resets_at"] == "2026-04-06T00:00:00Z"
    manager.patch("account", {"time_zone": "America/New_York"})
    # Going west, the running day is longer.
    assert manager.get(cap).json()["day"]["resets_at"] == "2026-04-06T04:00:00Z"
    clock.move_to("2026-04-06T04:00:00Z")
    limit = manager.get("account").json()["limits"]["spend_cap_day"]
    assert limit == {"time_zone": "America/New_York", "until": None}
    assert manager.get(cap).json()["day"]["resets_at"] == "2026-04-07T04:00:00Z"


def test_the_quota_follows_only_if_asked(site: Site, manager: ManageClient) -> None:
    manager.patch("account", {"time_zone": "America/New_York"})
    key = ApiClient(site.api_key)

    def resets_at() -> Any:
        return key.get("/api/key").json()["limits"]["day"]["resets_at"]

    assert resets_at() == "2026-04-06T00:00:00Z"
    changed = manager.patch("account", {"quota_in_time_zone": True}).json()
    assert (changed["time_zone"], changed["quota_in_time_zone"]) == ("America/New_York", True)
    assert changed["limits"]["daily_quota"]["until"] == resets_at() == "2026-04-06T04:00:00Z"
    assert manager.patch("account", {"quota_in_time_zone": None}).json() == changed
    assert manager.patch("account", {}).json() == changed
    assert AuditEntry.objects.filter(action="account.time_zone_changed").count() == 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"time_zone": ""}, "time_zone"),
        ({"time_zone": 1}, "time_zone"),
        ({"time_zone": "x" * 65}, "time_zone"),
        ({"quota_in_time_zone": "yes"}, "quota_in_time_zone"),
    ],
)
def test_what_is_wrong_is_named(manager: ManageClient, body: Any, field: str) -> None:
    refused = manager.patch("account", body)
    assert (refused.status_code, list(refused.json()["fields"])) == (400, [field])


def test_while_a_change_takes_effect_another_is_told_to_wait(
    site: Site, manager: ManageClient, clock: Any
) -> None:
    manager.patch("account", {"time_zone": BERLIN})
    clock.move_to("2026-04-05T23:59:57Z")
    refused = manager.patch("account", {"time_zone": "Asia/Kathmandu"})
    assert (refused.status_code, refused.json()["code"]) == (409, "change_in_progress")
    assert refused["Retry-After"] == "3"
    assert "just taking effect" in refused.json()["error"]
    assert Account.objects.get(id=site.account_id).time_zone == BERLIN
    clock.shift(3)
    assert manager.patch("account", {"time_zone": "Asia/Kathmandu"}).status_code == 200


def test_an_accounts_time_zone_is_its_own(
    site: Site, stranger: Site, manager: ManageClient
) -> None:
    manager_of(stranger).patch("account", {"time_zone": BERLIN, "id": site.account_id})
    assert manager.get("account").json()["time_zone"] == "UTC"


# --- Usage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", [BERLIN, "Asia/Kathmandu", "America/Los_Angeles", "UTC"])
@pytest.mark.parametrize("is_rolled_up", [False, True])
def test_days_are_those_of_the_accounts_zone_and_of_the_consoles_page(
    site: Site, manager: ManageClient, zone: str, is_rolled_up: bool
) -> None:
    Account.objects.filter(id=site.account_id).update(time_zone=zone)
    moment = datetime(2026, 4, 1, tzinfo=UTC)
    while moment < datetime(2026, 4, 5, 11, tzinfo=UTC):
        add_reply(site, moment, charged_microcredits=1_000_000, input_tokens=3)
        moment += timedelta(minutes=45)
    add_failure(site, moment)
    if is_rolled_up:
        rollup.roll_up(now=moment)
    first, last = date(2026, 4, 2), date(2026, 4, 4)
    scope = Scope(site.account_id, start_of(first, zone), end_of(last, zone), zone=zone)
    report = reports.get_report(scope)
    body = manager.get(f"usage?from={first}&to={last}").json()
    assert (body["time_zone"], body["from"], body["to"]) == (zone, "2026-04-02", "2026-04-04")
    assert [one["day"] for one in body["groups"]] == ["2026-04-02", "2026-04-03", "2026-04-04"]
    assert [one["requests"] for one in body["groups"]] == [one.reply_count for one in report.times]
    assert body["total"]["requests"] == report.total.reply_count == 96
    assert body["total"]["credits"] == "96.000000"
    assert body["total"]["prompt_tokens"] == 288
    for path in ("usage", f"channels/{site.channel.id}/usage"):
        for group in ("model", "channel"):
            grouped = manager.get(f"{path}?from={first}&to={last}&group_by={group}").json()
            assert grouped["total"] == body["total"]


def test_today_is_the_zones_and_another_zone_can_be_asked_for(
    site: Site, manager: ManageClient, provider: FakeProvider, clock: Any
) -> None:
    clock.move_to("2026-04-05T23:00:00Z")  # 6 April, 01:00, in Berlin
    api = ApiClient(site.api_key)
    api.chat()
    Account.objects.filter(id=site.account_id).update(time_zone=BERLIN)
    by_default = manager.get("usage").json()
    assert (by_default["to"], by_default["time_zone"]) == ("2026-04-06", BERLIN)
    assert [one["day"] for one in by_default["groups"]] == ["2026-04-06"]
    in_utc = manager.get("usage?time_zone=utc").json()
    assert (in_utc["to"], in_utc["time_zone"]) == ("2026-04-05", "UTC")
    assert [one["day"] for one in in_utc["groups"]] == ["2026-04-05"]
    # A caller's own usage stays with UTC.
    own = api.get("/api/usage").json()
    assert {name: own[name] for name in own} == in_utc
    wrong = manager.get("usage?time_zone=Mars")
    assert list(wrong.json()["fields"]) == ["time_zone"]
