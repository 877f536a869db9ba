"""Monthly statements as pages and CSV: every line adds up to the closing balance."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone
from django.utils.html import escape

from billing import grants
from billing.models import CreditAccount
from channels.models import AuditEntry, Channel
from channels.tests.factories import Site, make_site
from conversations.models import Message
from dashboard.console import statements as pages
from tests.support.clients import (
    ApiClient,
    account_page,
    assert_same_404,
    member_client,
    owner_client,
    staff_guest,
    text_of,
)
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000


@pytest.fixture
def spring(clock: Any, site: Site, provider: FakeProvider) -> Site:
    """An account with a grant and two replies in April, and a grant and a reply in May."""
    for _ in range(2):
        assert ApiClient(site.api_key).chat().status_code == 200
    clock.move_to("2026-05-02T00:00:00Z")
    grants.grant_credits(
        account=site.channel.account, amount_microcredits=CREDIT // 2, reason="=1+1", reference="r"
    )
    assert ApiClient(site.api_key).chat(session_id="may").status_code == 200
    return site


def read_csv(client: Any, site: Site, month: str) -> list[dict[str, str]]:
    response = client.get(account_page(site, f"statements/{month}/statement.csv"))
    assert response["Content-Type"].startswith("text/csv")
    assert f"statement-{month}.csv" in response["Content-Disposition"]
    text = b"".join(response.streaming_content).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


def test_the_list_shows_each_month_newest_first(spring: Site) -> None:
    response = member_client(spring, "viewer").get(account_page(spring, "statements/"))
    rows = response.context["rows"]
    shown = [(str(row["month"]), row["opening"], row["granted"], row["charged"], row["closing"])
             for row in rows]  # fmt: skip
    assert shown == [
        ("2026-05", "98", "+0.5", "-1", "97.5"),
        ("2026-04", "0", "+100", "-2", "98"),
    ]
    assert [row["is_open"] for row in rows] == [True, False]
    assert "April 2026" in text_of(response)


def test_a_month_shows_sums_charges_and_grants(spring: Site, settings: Any) -> None:
    settings.OPERATOR_CONTACT = "help@example.com"
    response = owner_client(spring).get(account_page(spring, "statements/2026-04/"))
    text = text_of(response)
    (charge,) = response.context["charges"]
    assert (charge["channel"], charge["replies"], charge["credits"]) == ("Shop", 2, "2")
    assert charge["model"] == spring.channel.model.name
    for words in ("Statement of April 2026", "1 Apr 2026, 00:00 to 1 May 2026, 00:00", "for a test",
                  "help@example.com", "+100"):  # fmt: skip
        assert words in text
    assert "so far" not in text
    assert "so far" in text_of(
        owner_client(spring).get(account_page(spring, "statements/2026-05/"))
    )


@pytest.mark.parametrize("month", ["2026-04", "2026-05"])
def test_the_csv_adds_up_and_holds_no_formula(spring: Site, month: str) -> None:
    rows = read_csv(member_client(spring, "viewer"), spring, month)
    opening, *lines, closing = rows
    assert (opening["line"], closing["line"]) == ("opening balance", "closing balance")
    total = sum(
        (Decimal(row["change_credits"]) for row in lines), Decimal(opening["change_credits"])
    )
    assert total == Decimal(closing["change_credits"])
    assert {row["line"] for row in lines} == {"grant", "charges"}
    if month == "2026-05":
        assert [row["reason"] for row in lines] == ["'=1+1", ""]
        balance = CreditAccount.objects.get(account_id=spring.account_id).balance_microcredits
        assert Decimal(closing["change_credits"]) * CREDIT == balance


def test_charges_of_a_channel_that_has_left_are_a_line_of_their_own(spring: Site) -> None:
    other = make_site(owner="other@example.com")
    Channel.objects.filter(id=spring.channel.id).update(account_id=other.account_id)
    client = owner_client(spring)
    text = text_of(client.get(account_page(spring, "statements/2026-04/")))
    assert "Channels moved to or from another account" in text
    rows = read_csv(client, spring, "2026-04")
    assert [(row["line"], row["change_credits"]) for row in rows] == [
        ("opening balance", "0.000000"),
        ("grant", "100.000000"),
        ("other charges", "-2.000000"),
        ("closing balance", "98.000000"),
    ]
    # What came along was charged to the other account.
    rows = read_csv(owner_client(other), other, "2026-05")
    assert sum(Decimal(row["change_credits"]) for row in rows[:-1]) == 100


def test_many_grants_are_cut_on_the_page_and_whole_in_the_csv(
    spring: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MOVEMENTS_SHOWN", 3)
    for number in range(5):
        grants.grant_credits(
            account=spring.channel.account, amount_microcredits=1, reason=f"number {number}"
        )
    client = owner_client(spring)
    text = text_of(client.get(account_page(spring, "statements/2026-05/")))
    assert "Only the first 3 are shown. The CSV has all of them." in text
    assert len(read_csv(client, spring, "2026-05")) == 9


@pytest.mark.parametrize("month", ["2026-03", "2026-06", "2026-13", "x", "2999-12", "2026-4"])
def test_a_month_without_a_statement_is_not_found(spring: Site, month: str) -> None:
    for rest in ("", "statement.csv"):
        path = account_page(spring, f"statements/{month}/{rest}")
        assert owner_client(spring).get(path).status_code == 404


def test_earlier_months_are_on_pages_of_their_own(spring: Site, monkeypatch: Any) -> None:
    monkeypatch.setattr("billing.statements.MONTHS_A_PAGE", 1)
    client = owner_client(spring)
    response = client.get(account_page(spring, "statements/"))
    assert 'href="?until=2026-04">Earlier months</a>' in text_of(response)
    response = client.get(account_page(spring, "statements/?until=2026-04"))
    assert [str(row["month"]) for row in response.context["rows"]] == ["2026-04"]
    assert client.get(account_page(spring, "statements/?until=x%00")).status_code == 200
    text = text_of(client.get(account_page(spring, "statements/?until=2001-01")))
    assert "There is no earlier statement." in text


def test_an_account_without_credits_is_told_what_to_expect(db: None) -> None:
    site = make_site(credit_amount=0)
    client = owner_client(site)
    assert "There is no statement yet." in text_of(client.get(account_page(site, "statements/")))
    month = f"{timezone.now():%Y-%m}"
    assert client.get(account_page(site, f"statements/{month}/")).status_code == 404


def test_strangers_find_nothing(spring: Site, stranger: Site) -> None:
    client = owner_client(stranger)
    for rest in ("statements/", "statements/2026-04/", "statements/2026-04/statement.csv"):
        mine, unknown = account_page(spring, rest), f"/a/987654/{rest}"
        assert_same_404(client, rest, mine, unknown)


def test_each_line_leads_to_its_replies_and_the_total_is_what_was_charged(spring: Site) -> None:
    client = owner_client(spring)
    ApiClient(spring.api_key).chat(session_id="other")
    Message.objects.filter(session__session_id="other").update(
        request_model="gone", created_at="2026-04-20T00:00:00Z"
    )
    page = client.get(account_page(spring, "statements/2026-04/"))
    lines, total = page.context["charges"], page.context["total"]
    assert [line["model"] for line in lines] == [spring.channel.model.name, "gone"]
    assert total["replies"] == sum(line["replies"] for line in lines) == 3
    # The third was booked in May, and the ledger is what counts.
    assert total["credits"] == page.context["row"]["charged"].lstrip("-") == "2"
    for line in (*lines, total):
        assert f'href="{escape(line["url"])}">{line["replies"]}</a>' in page.content.decode()
        log = client.get(line["url"])
        assert not log.context["form"].errors
        assert log.context["tally"].total.reply_count == line["replies"]


def test_staff_guests_read_it(spring: Site) -> None:
    client = staff_guest(spring)
    assert "April 2026" in text_of(client.get(account_page(spring, "statements/")))
    assert len(read_csv(client, spring, "2026-04")) == 4
    assert not AuditEntry.objects.filter(action__contains="statement").exists()


def test_the_credits_page_leads_there(spring: Site) -> None:
    text = text_of(owner_client(spring).get(account_page(spring, "credits/")))
    assert f'href="{account_page(spring, "statements/")}">Monthly statements</a>' in text


@pytest.mark.django_db(transaction=True)  # as for a real page, those of transactions count
def test_pages_take_few_queries(spring: Site, django_assert_max_num_queries: Any) -> None:
    client = owner_client(spring)
    for page, most in (("", 12), ("2026-04/", 15), ("2026-04/statement.csv", 15)):
        client.get(account_page(spring, f"statements/{page}"))
        with django_assert_max_num_queries(most):
            client.get(account_page(spring, f"statements/{page}"))
