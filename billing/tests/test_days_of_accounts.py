"""Quotas and spend caps by the days of the account's time zone, and while the zone changes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from billing import admission, holds, settlement, spend_caps
from billing.charges import get_messages_used
from billing.errors import DailyQuotaReached, SpendCapReached
from billing.holds import PlacedHold
from billing.models import DailyUsage, Hold, SpendCap
from billing.tests.test_settlement import CREDIT, differences
from channels import time_zones
from channels.audit import Actor
from channels.callers import Caller
from channels.models import Account, AuditEntry
from channels.tests.factories import Site, make_site
from tests.support.clients import ApiClient
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db
OWNER = Actor("owner@example.com")
BERLIN, LOS_ANGELES = "Europe/Berlin", "America/Los_Angeles"
NOON = datetime(2026, 8, 14, 12, tzinfo=UTC)
LONG_AGO = datetime(2026, 1, 5, 12, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def move(site: Site, zone: str, *, quota: bool = False, now: datetime = LONG_AGO) -> None:
    time_zones.set_time_zone(
        account=Account.objects.get(id=site.account_id),
        time_zone=zone,
        has_local_quota=quota,
        actor=OWNER,
        now=now,
    )


def cap(site: Site, now: datetime, *, day: int | None = None, month: int | None = None) -> None:
    spend_caps.set_cap(
        channel=site.channel,
        day_microcredits=day and day * CREDIT,
        month_microcredits=month and month * CREDIT,
        actor=OWNER,
        now=now,
    )


def place(caller: Caller, now: datetime, amount: int = CREDIT) -> PlacedHold:
    return admission.place_hold(
        caller=caller,
        amount_microcredits=amount,
        now=now,
        expires_at=now + timedelta(seconds=70),
        request_id="r1",
    )


def is_admitted(site: Site, now: datetime) -> bool:
    """Send a message that costs a credit, and say whether a limit let it pass."""
    try:
        hold = place(site.caller(), now)
    except (DailyQuotaReached, SpendCapReached):
        return False
    settlement.capture_hold(
        hold=hold, charge_microcredits=CREDIT, now=now, reason="a test", request_id="r1"
    )
    return True


# --- By the zone's days ---------------------------------------------------------------------------


# The moments around each midnight: the days of 23, 25 and 24 hours of Berlin, in UTC.
MIDNIGHTS = [
    ("2026-03-28T23:00", "2026-03-29T22:00"),
    ("2026-10-24T22:00", "2026-10-25T23:00"),
    ("2026-08-14T22:00", "2026-08-15T22:00"),
]


@pytest.mark.parametrize(("begins", "ends"), MIDNIGHTS)
def test_a_cap_of_the_day_counts_by_the_accounts_day(begins: str, ends: str) -> None:
    site = make_site(credit_amount=100)
    move(site, BERLIN)
    first, end = at(begins), at(ends)
    cap(site, first - timedelta(hours=1), day=1)
    assert is_admitted(site, first - timedelta(seconds=1))
    assert not is_admitted(site, first - timedelta(microseconds=1))
    assert is_admitted(site, first)
    with pytest.raises(SpendCapReached) as refused:
        place(site.caller(), end - timedelta(microseconds=1))
    assert refused.value.resets_at == f"{end:%Y-%m-%dT%H:%M:%SZ}"
    assert f"00:00 Europe/Berlin ({end:%H:%M} UTC) on" in refused.value.message
    assert is_admitted(site, end)
    assert differences() == []


def test_a_cap_of_the_month_counts_by_the_accounts_month() -> None:
    site = make_site(credit_amount=100)
    move(site, BERLIN)
    cap(site, NOON, month=1)
    assert is_admitted(site, NOON)
    assert not is_admitted(site, at("2026-08-31T21:59:59"))
    assert is_admitted(site, at("2026-08-31T22:00"))


@pytest.mark.parametrize(("begins", "ends"), MIDNIGHTS)
def test_a_quota_counts_by_the_accounts_day_if_its_owner_chose_so(begins: str, ends: str) -> None:
    site = make_site(daily_quota=1, credit_amount=100)
    move(site, BERLIN, quota=True)
    first, end = at(begins), at(ends)
    assert is_admitted(site, first - timedelta(seconds=1))
    assert not is_admitted(site, first - timedelta(microseconds=1))
    assert is_admitted(site, first)
    with pytest.raises(DailyQuotaReached) as refused:
        place(site.caller(), first)
    assert refused.value.retry_after == (end - first).total_seconds()
    assert f"resets at 00:00 Europe/Berlin ({end:%H:%M} UTC)." in refused.value.message
    assert not is_admitted(site, end - timedelta(microseconds=1))
    assert is_admitted(site, end)
    assert differences() == []


def test_a_quota_counts_by_utc_days_unless_its_owner_chose_otherwise() -> None:
    site = make_site(daily_quota=1, credit_amount=100)
    move(site, BERLIN)
    assert is_admitted(site, NOON)
    assert not is_admitted(site, at("2026-08-14T23:59:59"))
    with pytest.raises(DailyQuotaReached, match=r"resets at 00:00 UTC\.$"):
        place(site.caller(), NOON)
    assert is_admitted(site, at("2026-08-15T00:00"))


def test_the_key_tells_when_its_quota_resets(clock: Any) -> None:
    clock.move_to(NOON)
    site = make_site(daily_quota=5)
    move(site, BERLIN, quota=True)
    day = ApiClient(site.api_key).get("/api/key").json()["limits"]["day"]
    assert day == {"limit": 5, "used": 0, "remaining": 5, "resets_at": "2026-08-14T22:00:00Z"}


def test_a_released_message_gives_its_place_back_to_its_own_day() -> None:
    site = make_site(daily_quota=1)
    move(site, BERLIN, quota=True)
    before, after = at("2026-08-14T21:59:59"), at("2026-08-14T22:00:01")
    hold = place(site.caller(), before)
    place(site.caller(), after)
    holds.release_hold(hold=hold, now=after)
    assert get_messages_used(caller=site.caller(), now=before) == 0
    assert get_messages_used(caller=site.caller(), now=after) == 1


def test_a_first_cap_counts_what_the_accounts_day_and_month_have_spent() -> None:
    site = make_site(credit_amount=100)
    move(site, BERLIN)
    for moment in ("2026-07-31T21:59", "2026-07-31T22:00", "2026-08-13T21:59", "2026-08-13T22:00"):
        assert is_admitted(site, at(moment))
    in_flight = place(site.caller(), at("2026-08-14T11:59"))
    cap(site, NOON, day=10, month=10)
    row = SpendCap.objects.get()
    calendar = Account.objects.get(id=site.account_id).calendar
    used = [
        each.used_microcredits
        for each in spend_caps.list_spending(row, calendar=calendar, now=NOON)
    ]
    assert used == [2 * CREDIT, 4 * CREDIT]
    holds.release_hold(hold=in_flight, now=NOON)
    row.refresh_from_db()
    used = [
        each.used_microcredits
        for each in spend_caps.list_spending(row, calendar=calendar, now=NOON)
    ]
    assert used == [CREDIT, 3 * CREDIT]


# --- While the zone changes -----------------------------------------------------------------------


def by_quota(site: Site, now: datetime) -> None:
    site.channel.daily_quota = 1
    site.channel.save()


def by_cap_of_day(site: Site, now: datetime) -> None:
    cap(site, now, day=1)


def by_cap_of_month(site: Site, now: datetime) -> None:
    cap(site, now, month=1)


DAILY = pytest.mark.parametrize("limit", [by_quota, by_cap_of_day])
Limit = Callable[[Site, datetime], None]


@DAILY
def test_a_day_that_is_used_up_stays_so_until_it_has_ended_in_both_zones(limit: Limit) -> None:
    site = make_site(credit_amount=100)
    move(site, BERLIN, quota=True)
    limit(site, NOON)
    assert is_admitted(site, NOON)
    move(site, LOS_ANGELES, quota=True, now=NOON)
    for moment in ("2026-08-14T12:01", "2026-08-14T22:00", "2026-08-15T00:00", "2026-08-15T06:59"):
        assert not is_admitted(site, at(moment)), moment
    assert is_admitted(site, at("2026-08-15T07:00"))
    assert not is_admitted(site, at("2026-08-16T06:59"))
    assert is_admitted(site, at("2026-08-16T07:00"))


@DAILY
def test_going_back_early_gives_nothing_twice(limit: Limit) -> None:
    site = make_site(credit_amount=100)
    move(site, BERLIN, quota=True)
    limit(site, NOON)
    assert is_admitted(site, NOON)
    for minute in range(0, 500, 50):
        zone = LOS_ANGELES if minute % 100 == 0 else BERLIN
        move(site, zone, quota=True, now=NOON + timedelta(minutes=minute))
        assert not is_admitted(site, NOON + timedelta(minutes=minute + 2))
    # It is Berlin's midnight, and the last change was back to Berlin.
    assert not is_admitted(site, at("2026-08-14T21:59:59"))
    assert is_admitted(site, at("2026-08-14T22:00"))


@DAILY
def test_going_back_after_midnight_gives_nothing_twice(limit: Limit) -> None:
    site = make_site(credit_amount=100)
    move(site, BERLIN, quota=True)
    limit(site, NOON)
    assert is_admitted(site, NOON)
    move(site, LOS_ANGELES, quota=True, now=NOON)
    move(site, BERLIN, quota=True, now=at("2026-08-14T23:00"))
    assert not is_admitted(site, at("2026-08-14T23:02"))
    assert not is_admitted(site, at("2026-08-15T06:59"))
    assert is_admitted(site, at("2026-08-15T07:00"))
    assert not is_admitted(site, at("2026-08-15T21:59"))
    assert is_admitted(site, at("2026-08-15T22:00"))


def test_a_month_that_is_used_up_stays_so_until_it_has_ended_in_both_zones() -> None:
    site = make_site(credit_amount=100)
    move(site, LOS_ANGELES)
    by_cap_of_month(site, NOON)
    assert is_admitted(site, NOON)
    # The day changes in a day, the month at its end: seven hours into a day of Berlin's.
    move(site, BERLIN, now=NOON)
    assert not is_admitted(site, at("2026-08-31T22:00"))
    assert not is_admitted(site, at("2026-09-01T06:59"))
    assert is_admitted(site, at("2026-09-01T07:00"))
    assert not is_admitted(site, at("2026-09-30T21:59"))
    assert is_admitted(site, at("2026-09-30T22:00"))


def test_the_quotas_day_changes_with_the_same_care() -> None:
    site = make_site(credit_amount=100, daily_quota=1)
    move(site, LOS_ANGELES)
    assert is_admitted(site, NOON)
    move(site, LOS_ANGELES, quota=True, now=NOON)
    assert not is_admitted(site, at("2026-08-15T00:00"))
    with pytest.raises(DailyQuotaReached, match=r"00:00 America/Los_Angeles \(07:00 UTC\)\.$"):
        place(site.caller(), at("2026-08-15T06:59"))
    assert is_admitted(site, at("2026-08-15T07:00"))


# --- Setting it -----------------------------------------------------------------------------------


def test_a_change_is_in_the_audit_log_once(site: Site) -> None:
    move(site, BERLIN, quota=True)
    move(site, BERLIN, quota=True)
    entry = AuditEntry.objects.get(action="account.time_zone_changed")
    assert entry.changes == {
        "time zone": ["UTC", BERLIN],
        "quota's day": ["UTC", "the account's time zone"],
    }


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../../etc/passwd", "europe/berlin", "x\x00"])
def test_refuses_a_zone_that_does_not_exist(site: Site, zone: str) -> None:
    with pytest.raises(ValidationError, match="Choose one of the time zones"):
        move(site, zone)
    assert Account.objects.get(id=site.account_id).time_zone == "UTC"


# --- Many at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize("midnight", ["2026-08-14T22:00", "2026-03-29T22:00", "2026-10-25T23:00"])
@pytest.mark.django_db(transaction=True)
def test_of_many_calls_around_local_midnight_each_day_admits_its_limit(midnight: str) -> None:
    site = make_site(credit_amount=1_000, daily_quota=4)
    move(site, BERLIN, quota=True)
    moment = at(midnight)
    cap(site, moment - timedelta(minutes=1), day=3)

    def call(number: int) -> None:
        is_admitted(site, moment + timedelta(milliseconds=number - 12))

    run_in_threads(call, 24)
    charged = Hold.objects.filter(state="captured")
    # An earlier call may arrive after the next day has begun. Then that day's cap pays for it.
    assert charged.filter(created_at__lt=moment).count() <= 4
    assert charged.filter(created_at__gte=moment).count() <= 4
    new_day = moment.date() + timedelta(days=1)
    assert charged.filter(cap_day=moment.date()).count() <= 3
    assert charged.filter(cap_day=new_day).count() == 3
    assert charged.exclude(cap_day__in=[moment.date(), new_day]).count() == 0
    assert differences() == []


@pytest.mark.django_db(transaction=True)
def test_changes_of_zone_while_calls_race_admit_one_days_limit() -> None:
    site = make_site(credit_amount=1_000, daily_quota=5)
    move(site, BERLIN, quota=True)
    before = at("2026-08-14T21:59:57")
    cap(site, before, day=5)

    def work(number: int) -> None:
        if number % 4 == 0:
            move(site, LOS_ANGELES if number % 8 else "Asia/Kathmandu", quota=True, now=before)
        else:
            is_admitted(site, before + timedelta(milliseconds=number))

    run_in_threads(work, 24)
    assert Hold.objects.filter(state="captured").count() == 5
    assert list(DailyUsage.objects.filter(message_count__gt=0).values_list("message_count")) == [
        (5,)
    ]
    assert differences() == []
