"""Verification finds a single wrong micro-credit, wherever it is."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.utils import timezone

from billing.models import CreditAccount, DailyUsage, Hold, LedgerEntry, VerificationRun
from channels.models import Account, Channel, User
from channels.tests.factories import Site
from conversations.models import ChatSession, Message
from gateway import tasks, verification
from tests.support.clients import ApiClient
from tests.support.fake_provider import FakeProvider

pytestmark = pytest.mark.django_db

FAULTS = [
    "UPDATE billing_creditaccount SET balance_microcredits = balance_microcredits + 1",
    "UPDATE billing_creditaccount SET held_microcredits = held_microcredits + 1",
    "UPDATE billing_creditaccount SET entry_count = entry_count + 1",
    "UPDATE billing_creditaccount SET spent_microcredits = spent_microcredits + 1",
    "UPDATE billing_creditgrant SET remaining_microcredits = remaining_microcredits - 1",
    "UPDATE billing_hold SET captured_microcredits = captured_microcredits - 1",
    "UPDATE billing_hold SET state = 'released' WHERE state = 'captured'",
    "UPDATE billing_dailyusage SET message_count = message_count + 1",
    "DELETE FROM billing_dailyusage",
    "UPDATE conversations_message SET charged_microcredits = charged_microcredits + 1"
    " WHERE role = 'assistant'",
    "UPDATE conversations_chatsession SET message_count = message_count + 1",
    "UPDATE conversations_chatsession SET message_count = message_count - 1",
    "UPDATE conversations_message SET role = 'user' WHERE role = 'assistant'",
    "UPDATE conversations_message SET is_test = NOT is_test WHERE position = 1",
    "UPDATE billing_creditgrant SET category = 'adjustment'",
    "UPDATE billing_creditgrant SET expires_at = '2999-01-01 00:00:00'",
    "DELETE FROM conversations_message WHERE role = 'assistant'",
]


@pytest.mark.parametrize("fault", FAULTS)
def test_finds_one_fault_of_one_micro_credit(
    api: ApiClient, provider: FakeProvider, fault: str
) -> None:
    for _ in range(3):
        assert api.chat().status_code == 200
    assert verification.verify().difference_count == 0
    with connection.cursor() as cursor:
        cursor.execute(fault)
        assert cursor.rowcount >= 1
    assert verification.verify().difference_count >= 1


def add_entry(site: Site, **more: Any) -> None:
    """Append an entry that the database accepts, though none of our services would write it."""
    LedgerEntry.objects.create(
        **{
            "credit_account_id": site.account_id,
            "sequence": 2,
            "kind": "adjustment",
            "debit": "issuance",
            "credit": "customer",
            "amount_microcredits": 5,
            "balance_after_microcredits": 100_000_005,
            "created_at": timezone.now(),
        }
        | more
    )


def test_finds_what_does_not_follow_in_the_ledger(site: Site) -> None:
    add_entry(site, sequence=4, balance_after_microcredits=100_000_006)
    CreditAccount.objects.update(balance_microcredits=100_000_006, entry_count=4)
    found = verification.verify().details
    account = f"account {site.account_id}"
    assert f"{account}: entry 4 where 2 was expected" in found
    assert f"{account}: entry 4 says balance 100000006, the entries add up to 100000005" in found


def test_finds_a_balance_that_no_entry_explains(site: Site) -> None:
    account = Account.objects.create(name="From nowhere")
    CreditAccount.objects.create(account=account, balance_microcredits=7, entry_count=0)
    CreditAccount.objects.create(account=Account.objects.create(name="Empty"))
    found = verification.verify().details
    assert f"account {account.id}: balance 7 after 0 entries, its ledger is empty" in found
    assert not any("balance 0" in difference for difference in found)


# What PostgreSQL does not refuse (docs/decisions/0023).
STRAYS = [
    "UPDATE billing_hold SET channel_id = '00000000-0000-7000-8000-000000000000'",
    "UPDATE billing_hold SET account_id = account_id + 1",
    "UPDATE conversations_message SET channel_id = '00000000-0000-7000-8000-000000000000'",
    "UPDATE conversations_message SET session_id = session_id + 1",
    "UPDATE conversations_message SET channel_id = '00000000-0000-7000-8000-000000000000'"
    " WHERE session_id IS NULL",
]


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite refuses them")
@pytest.mark.parametrize("stray", STRAYS)
def test_finds_what_belongs_nowhere(api: ApiClient, provider: FakeProvider, stray: str) -> None:
    assert api.chat().status_code == 200
    completion = {
        "model": "llama-3.3-70b-versatile",
        "messages": [{"role": "user", "content": "Hi"}],
    }
    assert api.post("/v1/chat/completions", completion).status_code == 200
    assert verification.verify().difference_count == 0
    with connection.cursor() as cursor:
        cursor.execute(stray)
        assert cursor.rowcount >= 1
    assert verification.verify().difference_count >= 1


def test_a_hold_keeps_its_channel_whoever_deletes_all_else(
    site: Site, api: ApiClient, provider: FakeProvider
) -> None:
    assert api.chat().status_code == 200
    kept = {DailyUsage, Hold}
    others = {link.related_model for link in Channel._meta.related_objects} - kept
    assert Message in others
    with connection.cursor() as cursor:
        for model in sorted(others, key=lambda model: model is ChatSession):
            cursor.execute(f"DELETE FROM {model._meta.db_table}")  # noqa: S608  # our own
    with pytest.raises(IntegrityError):
        _delete_channels()


@transaction.atomic
def _delete_channels() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM channels_channel")
    connection.check_constraints()


def test_the_nightly_task_raises_an_alert_for_the_staff(
    site: Site, caplog: Any, api: ApiClient, provider: FakeProvider
) -> None:
    User.objects.create_superuser("staff@example.com", "secret-of-staff")
    staff = Client()
    assert staff.login(username="staff@example.com", password="secret-of-staff")
    assert tasks.verify_ledger() == 0
    assert "Verified on" in staff.get("/admin/").content.decode()
    CreditAccount.objects.update(balance_microcredits=1)
    assert tasks.verify_ledger() > 0
    assert "billing.ledger.differs" in caplog.text
    page = staff.get("/admin/").content.decode()
    assert "Ledger verification found" in page
    run = VerificationRun.objects.latest()
    details = staff.get(f"/admin/billing/verificationrun/{run.pk}/change/")
    assert details.status_code == 200
