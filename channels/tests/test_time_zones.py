"""The names of time zones, and changes that come too close after one another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from channels import time_zones
from channels.audit import COMMAND_LINE
from channels.calendars import ChangeIsNear
from channels.models import Account
from channels.tests.factories import Site

NOON = datetime(2026, 8, 14, 12, tzinfo=UTC)


def test_offers_utc_and_the_zones_named_by_city() -> None:
    names = time_zones.list_names()
    assert names[0] == "UTC"
    assert {"Europe/Berlin", "America/Argentina/Ushuaia", "Asia/Kathmandu"} <= set(names)
    assert not {"Etc/GMT+5", "US/Eastern", "Factory", "localtime"} & set(names)


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("Europe/Berlin", "Europe/Berlin"),
        (" america/new york ", "America/New_York"),
        ("utc", "UTC"),
        ("Berlin", None),
        ("", None),
        ("x" * 65, None),
        ("../etc/passwd", None),
    ],
)
def test_finds_a_zone_by_its_name(typed: str, found: str | None) -> None:
    assert time_zones.find_name(typed) == found


@pytest.mark.django_db
def test_a_change_that_is_just_taking_effect_comes_first(site: Site) -> None:
    account = Account.objects.get(id=site.account_id)

    def move(zone: str, now: datetime) -> Account:
        return time_zones.set_time_zone(
            account=account, time_zone=zone, has_local_quota=True, actor=COMMAND_LINE, now=now
        )

    until = move("Europe/Berlin", NOON).calendar.day.span(NOON).ends_at
    with pytest.raises(ChangeIsNear, match="Save again in ten seconds"):
        move("Asia/Kathmandu", until - timedelta(seconds=3))
    account.refresh_from_db()
    assert account.time_zone == "Europe/Berlin"
    assert move("Asia/Kathmandu", until).time_zone == "Asia/Kathmandu"
