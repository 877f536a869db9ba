"""The console's Credits page: the balance, the spending, codes, and warnings."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from billing import account_statement, grants, redemptions
from billing.models import CreditAccount, LedgerEntry, RedemptionCode
from channels import accounts
from channels.audit import COMMAND_LINE
from channels.models import AuditEntry, Plan, User
from channels.tests.factories import Site, set_prices
from common import heartbeat
from tests.support.clients import (
    ApiClient,
    account_page,
    log_in,
    member_client,
    owner_client,
    staff_guest,
    text_of,
)
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000


def make_code(**more: Any) -> RedemptionCode:
    (code,) = redemptions.make_codes(
        reference="a test", count=1, amount_microcredits=5 * CREDIT, actor=COMMAND_LINE, **more
    )
    return code


def test_the_page_shows_balance_entries_grants_and_prices(
    site: Site, provider: FakeProvider
) -> None:
    ApiClient(site.api_key).chat()
    plan = Plan.objects.create(name="Basic", requests_per_minute=10)
    site.channel.account.plan = plan
    site.channel.account.save()
    set_prices(
        price_per_1k_input_tokens_microcredits=400_000,
        price_per_1k_cached_input_tokens_microcredits=100_000,
    )
    response = member_client(site, "viewer").get("/credits/")
    assert response.status_code == 200
    text = text_of(response)
    for words in (
        "for a test",
        "Reply by",
        "-1<",
        "+100",
        "Basic",
        "Yours",
        "No limit",
        "0.4 (0.1 cached)",
    ):
        assert words in text
    assert response.context["figures"]["available"] == "99"
    assert response.context["figures"]["spent"] == "1"


def test_what_is_left_of_a_grant_counts_charges_not_yet_allocated(
    site: Site, provider: FakeProvider
) -> None:
    account = site.channel.account
    grants.grant_credits(
        account=account,
        amount_microcredits=3 * CREDIT,
        reason="ends soon",
        expires_at=timezone.now() + timedelta(days=1),
    )
    for _ in range(4):
        ApiClient(site.api_key).chat()
    shown = owner_client(site).get("/credits/").context["grants"]
    assert [(row["amount"], row["left"]) for row in shown] == [("100", "99"), ("3", "0")]


def test_an_account_without_credits_is_told_what_to_expect(site: Site) -> None:
    user = User.objects.create_user("new@example.com")
    accounts.ensure_account(owner_email=user.email)
    client = log_in(user)
    text = text_of(client.get("/credits/"))
    assert "The ledger is empty" in text
    assert "No credits have been granted yet" in text


def test_pages_of_the_ledger_go_on_where_the_last_one_ended(site: Site) -> None:
    for number in range(120):
        grants.grant_credits(
            account=site.channel.account, amount_microcredits=1, reason=f"number {number}"
        )
    client = owner_client(site)
    seen: list[int] = []
    url = "/credits/"
    while url:
        response = client.get(url)
        seen += [row["entry"].sequence for row in response.context["entries"]]
        url = response.context["older_url"] and "/credits/" + response.context["older_url"]
    assert seen == list(range(121, 0, -1))


def test_the_ledger_is_filtered_by_kind_and_days(
    clock: Any, site: Site, provider: FakeProvider
) -> None:
    client = owner_client(site)
    for days in range(3):
        clock.move_to(f"2026-04-{6 + days:02}T00:00:00Z")
        ApiClient(site.api_key).chat(session_id=str(days))
    first = {"first_day": "2026-04-07"}
    rows = client.get("/credits/", first | {"last_day": "2026-04-07"}).context["entries"]
    assert [row["entry"].sequence for row in rows] == [3]
    assert len(client.get("/credits/", first).context["entries"]) == 2
    assert len(client.get("/credits/", {"last_day": "2026-04-06"}).context["entries"]) == 2
    assert len(client.get("/credits/", {"first_day": "2027-01-01"}).context["entries"]) == 0
    kinds = {row["entry"].kind for row in client.get("/credits/?kind=grant").context["entries"]}
    assert kinds == {"grant"}
    assert len(client.get("/credits/?kind=charge").context["entries"]) == 3


@pytest.mark.parametrize(
    "query", ["kind=x", "first_day=x", "first_day=2026-02-02&last_day=2026-01-01", "before=x%00"]
)
def test_bad_filters_are_said_beside_the_field(site: Site, query: str) -> None:
    response = owner_client(site).get(f"/credits/?{query}")
    assert response.status_code == 200
    assert ("gw-field-bad" in text_of(response)) == ("before" not in query)


def test_the_csv_honours_filters_and_holds_no_formula(site: Site, provider: FakeProvider) -> None:
    ApiClient(site.api_key).chat()
    grants.grant_credits(
        account=site.channel.account,
        amount_microcredits=CREDIT // 2,
        reason='=HYPERLINK("http://x")',
        reference="@ref",
    )
    response = member_client(site, "viewer").get("/credits/export.csv?kind=grant")
    assert response["Content-Type"].startswith("text/csv")
    content = b"".join(response.streaming_content).decode()  # type: ignore[attr-defined]
    rows = list(csv.DictReader(io.StringIO(content)))
    assert [row["kind"] for row in rows] == ["grant", "grant"]
    assert rows[0]["reason"].startswith("'=")
    assert rows[0]["reference"] == "'@ref"
    assert rows[0]["change_credits"] == "0.500000"
    all_rows = b"".join(owner_client(site).get("/credits/export.csv").streaming_content)  # type: ignore[attr-defined]
    assert b",-1.000000," in all_rows


def test_nothing_of_strangers_is_shown(site: Site, stranger: Site) -> None:
    entry = LedgerEntry.objects.get(credit_account_id=stranger.account_id)
    rows = owner_client(site).get("/credits/").context["entries"]
    assert entry.pk not in {row["entry"].pk for row in rows}


def test_an_owner_redeems_a_code_once(site: Site) -> None:
    code = make_code(max_redemptions=2, credits_last_days=10)
    client = owner_client(site)
    typed = f" {code.code.lower().replace('-', ' ')} "
    response = client.post("/credits/redeem/", {"code": typed}, follow=True)
    assert "Added 5 credits." in text_of(response)
    assert response.context["figures"]["available"] == "105"
    again = client.post("/credits/redeem/", {"code": code.code})
    assert again.status_code == 422
    assert "has already redeemed this code" in text_of(again)
    code.refresh_from_db()
    assert code.redeemed_count == 1
    assert AuditEntry.objects.filter(action="credits.granted", actor_name="owner@example.com")


def test_a_wrong_code_is_said_beside_the_field(site: Site) -> None:
    response = owner_client(site).post("/credits/redeem/", {"code": "<b>nope</b>"})
    assert response.status_code == 422
    assert "There is no such code" in text_of(response)
    assert "<b>nope" not in text_of(response)
    assert owner_client(site).post("/credits/redeem/", {}).status_code == 422


@pytest.mark.parametrize("role", ["editor", "viewer"])
def test_only_owners_redeem_and_set_the_warning(site: Site, role: str) -> None:
    code = make_code()
    client = member_client(site, role)
    assert client.post("/credits/redeem/", {"code": code.code}).status_code == 403
    assert client.post("/credits/threshold/", {"threshold": "1"}).status_code == 403
    assert "Redeem code</button>" not in text_of(client.get("/credits/"))
    code.refresh_from_db()
    assert code.redeemed_count == 0


def test_an_owner_sets_the_low_balance_warning(site: Site) -> None:
    client = owner_client(site)
    response = client.post("/credits/threshold/", {"threshold": "100.5"}, follow=True)
    assert "Only 100 credits are available" in text_of(response)
    row = CreditAccount.objects.get(account_id=site.account_id)
    assert row.low_balance_microcredits == 100_500_000
    entry = AuditEntry.objects.get(action="credits.warning_changed")
    assert entry.changes == {"warn below": ["10", "100.5"]}


MAIL_SERVER = "django.core.mail.backends.smtp.EmailBackend"
NO_MAIL_SERVER = "django.core.mail.backends.console.EmailBackend"
PROMISE = "owners get one e-mail when the available credits fall"


@pytest.mark.parametrize(
    ("backend", "has_worker", "owners_read", "staff_read"),
    [
        (NO_MAIL_SERVER, True, "no mail server. Contact the operator.", "EMAIL_URL"),
        (MAIL_SERVER, False, "worker is not running. Contact the operator.", "make worker"),
    ],
)
def test_no_mail_is_promised_that_nobody_sends(
    site: Site, settings: Any, backend: str, has_worker: bool, owners_read: str, staff_read: str
) -> None:
    settings.EMAIL_BACKEND = backend
    if has_worker:
        heartbeat.beat()
    client = owner_client(site)
    text = text_of(client.get("/credits/"))
    assert PROMISE not in text
    assert owners_read in text
    assert staff_read not in text
    said = text_of(client.post("/credits/threshold/", {"threshold": "5"}, follow=True))
    assert "Owners are warned" not in said
    text = text_of(staff_guest(site).get("/credits/"))
    assert staff_read in text
    assert "Contact the operator" not in text


def test_mail_is_promised_where_it_is_sent(site: Site, settings: Any) -> None:
    settings.EMAIL_BACKEND = MAIL_SERVER
    heartbeat.beat()
    client = owner_client(site)
    text = text_of(client.get("/credits/"))
    assert PROMISE in text
    assert "not sent" not in text
    said = text_of(client.post("/credits/threshold/", {"threshold": "5"}, follow=True))
    assert "Owners are warned below 5 credits." in said


@pytest.mark.parametrize("text", ["", "x", "-1", "1,5", "1e99", "0.0000001", "NaN"])
def test_an_amount_that_is_none_is_refused(site: Site, text: str) -> None:
    response = owner_client(site).post("/credits/threshold/", {"threshold": text})
    assert response.status_code == 422
    assert "gw-field-bad" in text_of(response)


def test_pages_take_few_queries(
    site: Site, provider: FakeProvider, django_assert_max_num_queries: Any
) -> None:
    for number in range(60):
        grants.grant_credits(
            account=site.channel.account, amount_microcredits=1, reason=f"number {number}"
        )
    Plan.objects.create(name="A")
    Plan.objects.create(name="B")
    client = owner_client(site)
    with django_assert_max_num_queries(15):
        client.get(account_page(site, "credits/"))
    with django_assert_max_num_queries(15):
        query = "?first_day=2026-01-01&last_day=2030-01-01&before=20"
        client.get(account_page(site, f"credits/{query}"))


def test_the_ledger_is_exported_piece_by_piece(
    client: Client, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.force_login(site.channel.account.members.get())
    for number in range(5):
        grants.grant_credits(
            account=site.channel.account, amount_microcredits=number + 1, reason="x", actor="test"
        )
    whole = b"".join(client.get(account_page(site, "credits/export.csv"))).decode()
    monkeypatch.setattr(account_statement, "ENTRIES_A_READ", 2)
    assert b"".join(client.get(account_page(site, "credits/export.csv"))).decode() == whole
    numbers = [int(line.split(",")[0]) for line in whole.splitlines()[1:]]
    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) >= 5
