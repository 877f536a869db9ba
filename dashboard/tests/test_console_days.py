"""The console counts and shows days and times of the account's time zone."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client

from billing import admission, settlement
from billing.tests.test_settlement import CREDIT
from channels.models import Account
from channels.tests.factories import Site, make_site
from conversations.models import Message
from tests.support.clients import account_page, owner_client, text_of

pytestmark = pytest.mark.django_db
BERLIN = "Europe/Berlin"


@pytest.fixture
def berliners(site: Site) -> Site:
    Account.objects.filter(id=site.account_id).update(time_zone=BERLIN)
    return site


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def charge(site: Site, moment: datetime) -> None:
    """Store a reply and its charge of one credit, both at a moment."""
    hold = admission.place_hold(
        caller=site.caller(),
        amount_microcredits=CREDIT,
        now=moment,
        expires_at=moment + timedelta(seconds=70),
        request_id="r1",
    )
    settlement.capture_hold(
        hold=hold, charge_microcredits=CREDIT, now=moment, reason="reply", request_id="r1"
    )
    Message.objects.create(
        id=hold.id, channel=site.channel, is_test=False, position=0, role="assistant",
        created_at=moment, request_model="small", duration_ms=1, charged_microcredits=CREDIT,
    )  # fmt: skip


def rows_of(client: Client, address: str) -> list[dict[str, str]]:
    response: Any = client.get(address)
    return list(
        csv.DictReader(io.StringIO(b"".join(response.streaming_content).decode("utf-8-sig")))
    )


# The 25 hours of 25 October 2026 in Berlin, in UTC, and the moments beside them.
LONG_DAY = ("2026-10-24T21:59", "2026-10-24T22:00", "2026-10-25T22:59", "2026-10-25T23:00")


def test_usage_of_a_day_is_that_of_the_accounts_day(berliners: Site, clock: Any) -> None:
    for moment in LONG_DAY:
        clock.move_to(at(moment))
        charge(berliners, at(moment))
    client = owner_client(berliners)
    query = "?range=own&first=2026-10-25&last=2026-10-25"
    text = text_of(client.get(account_page(berliners, f"usage/{query}")))
    assert "25 Oct 2026, 00:00 to 25 Oct 2026, 23:59, all times Europe/Berlin" in text
    assert "These totals equal the ledger: 2 credits charged." in text
    rows = rows_of(client, account_page(berliners, f"usage/days.csv{query}"))
    assert [(row["begins_at_utc"], row["begins_at_local"], row["answered"]) for row in rows] == [
        ("2026-10-24 22:00", "2026-10-25 00:00", "2")
    ]
    week = "?range=own&first=2026-10-24&last=2026-10-26"
    rows = rows_of(client, account_page(berliners, f"usage/days.csv{week}"))
    assert [row["answered"] for row in rows] == ["1", "2", "1"]
    assert "These totals equal the ledger: 4 credits" in text_of(
        client.get(account_page(berliners, f"usage/{week}"))
    )


def test_links_of_a_repeated_hour_lead_to_its_own_requests(berliners: Site, clock: Any) -> None:
    clock.move_to(at("2026-10-25T01:30"))
    charge(berliners, at("2026-10-25T00:10"))  # 02:10, the first time
    charge(berliners, at("2026-10-25T01:10"))  # 02:10, the second time
    client = owner_client(berliners)
    response: Any = client.get(account_page(berliners, "usage/?range=24h"))
    links = [one["links"]["all"] for one in response.context["lines"][-2:]]
    assert [parse_qs(urlsplit(link).query)["since"] for link in links] == [
        ["2026-10-25T02:00"],
        ["2026-10-25T02:00+0100"],
    ]
    for link, moment in zip(links, ("2026-10-25T00:10", "2026-10-25T01:10"), strict=True):
        found: Any = client.get(link)
        assert [one["row"].created_at for one in found.context["rows"]] == [at(moment)], link
        assert 'value="2026-10-25T02:00"' in found.content.decode()


def test_the_log_reads_times_as_those_of_the_account(berliners: Site, clock: Any) -> None:
    clock.move_to(at("2026-08-14T12:00"))
    charge(berliners, at("2026-08-14T09:30"))
    client = owner_client(berliners)
    base = account_page(berliners, "requests/")
    inside = client.get(f"{base}?since=2026-08-14T11:00&until=2026-08-14T12:00")
    assert len(inside.context["rows"]) == 1
    assert "From (Europe/Berlin)" in text_of(inside)
    assert not client.get(f"{base}?since=2026-08-14T09:00&until=2026-08-14T10:00").context["rows"]
    for wrong in ("2026-08-14T99:99+02:00", "\x00", "x+0100"):
        assert client.get(base, {"since": wrong}).status_code == 200


def test_statements_are_those_of_the_accounts_months(clock: Any) -> None:
    clock.move_to(at("2026-07-01T12:00"))
    berliners = make_site()
    Account.objects.filter(id=berliners.account_id).update(time_zone=BERLIN)
    for moment in ("2026-07-31T21:59", "2026-07-31T22:00"):
        clock.move_to(at(moment))
        charge(berliners, at(moment))
    client = owner_client(berliners)
    text = text_of(client.get(account_page(berliners, "statements/2026-08/")))
    assert "1 Aug 2026, 00:00 to" in text
    assert "all times Europe/Berlin" in text
    response: Any = client.get(account_page(berliners, "statements/2026-08/"))
    assert [one["replies"] for one in response.context["charges"]] == [1]
    assert response.context["other"] == ""


def test_the_ledger_is_filtered_by_the_accounts_days(berliners: Site, clock: Any) -> None:
    for moment in LONG_DAY:
        clock.move_to(at(moment))
        charge(berliners, at(moment))
    client = owner_client(berliners)
    query = "?kind=charge&first_day=2026-10-25&last_day=2026-10-25"
    response: Any = client.get(account_page(berliners, f"credits/{query}"))
    assert len(response.context["entries"]) == 2
    assert "Time (Europe/Berlin)" in text_of(response)
    assert "25 Oct 2026, 00:00:00" in text_of(response)


def test_the_overview_shows_the_accounts_days(berliners: Site, clock: Any) -> None:
    for moment in ("2026-08-14T21:59", "2026-08-14T22:00"):
        clock.move_to(at(moment))
        charge(berliners, at(moment))
    response: Any = owner_client(berliners).get(account_page(berliners))
    (card,) = response.context["cards"]
    assert card.activity.requests_by_day[-2:] == (1, 1)
    assert "Last 7 days, Europe/Berlin" in text_of(response)
    assert "since=2026-08-15T00%3A00" in card.links_of_today["all"]


def test_times_are_shown_in_the_zone_only_on_pages_of_the_account(berliners: Site) -> None:
    text = text_of(owner_client(berliners).get(account_page(berliners, "team/")))
    assert "spend caps count by days in <strong>Europe/Berlin</strong>" in text
    assert "Messages of the day reset at midnight UTC" in text
