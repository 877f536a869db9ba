"""Admission: both limits, and what is opened with the hold (all of it or nothing)."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F, Model
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing import admission
from billing.admission import Opening, Placement
from billing.errors import CreditsExhausted, DailyQuotaReached
from billing.models import CreditAccount, DailyUsage, Hold
from billing.tests.test_settlement import differences, place
from channels.callers import Caller
from channels.models import Plan
from channels.tests.factories import Site, make_site
from common.db import Step
from common.money import MICROCREDITS_PER_CREDIT

pytestmark = pytest.mark.django_db
CREDIT = MICROCREDITS_PER_CREDIT

# Stands for what goes with a call: a row that can be taken once.
OPENED = Opening(
    admission.placing(
        Step(
            "opened",
            ("id", "name"),
            """
UPDATE channels_plan SET name = 'opened'
 WHERE name = 'closed' AND EXISTS (SELECT 1 FROM looked WHERE has_quota AND has_credits)
RETURNING id, name
""",
        ),
        columns="opened.name",
        source="LEFT JOIN opened ON TRUE",
    )
)


def attempt(caller: Caller, amount: int = CREDIT, opening: Opening = OPENED) -> Placement:
    now = timezone.now()
    return admission.try_hold(
        caller=caller,
        amount_microcredits=amount,
        now=now,
        expires_at=now + timedelta(seconds=70),
        request_id="r1",
        opening=opening,
    )


def names() -> list[str]:
    return list(Plan.objects.values_list("name", flat=True))


def count_of_today() -> int:
    return sum(DailyUsage.objects.values_list("message_count", flat=True))


def test_opens_what_goes_with_the_hold(site: Site) -> None:
    Plan.objects.create(name="closed")
    placement = attempt(site.caller(), 5)
    assert placement.hold is not None
    assert placement.opened == [("opened",)]
    assert (placement.hold.amount_microcredits, placement.hold.messages_today) == (5, 1)
    assert names() == ["opened"]
    assert differences() == []


def test_holds_nothing_where_nothing_could_be_opened(site: Site) -> None:
    placement = attempt(site.caller())
    assert (placement.hold, placement.refusal, placement.opened) == (None, None, [])
    assert count_of_today() == 0
    assert not Hold.objects.exists()
    assert differences() == []


@pytest.mark.parametrize(
    ("fields", "amount", "error"),
    [
        ({"daily_quota": 1}, 1, DailyQuotaReached),
        ({"credit_amount": 2}, 2 * CREDIT, CreditsExhausted),
        # Both limits are reached: the daily quota is reported.
        ({"daily_quota": 1, "credit_amount": 1}, CREDIT, DailyQuotaReached),
    ],
)
def test_who_has_used_up_a_limit_writes_nothing(
    db: None, fields: dict[str, Any], amount: int, error: type[Exception]
) -> None:
    caller = make_site(**fields).caller()
    place(caller)
    Plan.objects.create(name="closed")
    with CaptureQueriesContext(connection) as captured:
        placement = attempt(caller, amount)
    assert (placement.hold, type(placement.refusal), placement.opened) == (None, error, [])
    assert names() == ["closed"]
    assert count_of_today() == 1
    assert Hold.objects.count() == 1
    if connection.vendor == "postgresql":
        assert len(captured) == 1
    assert differences() == []


def test_the_last_credits_of_an_ended_grant_are_not_held(site: Site) -> None:
    CreditAccount.objects.update(next_expiry_at=timezone.now() - timedelta(seconds=1))
    assert type(attempt(site.caller(), opening=Opening()).refusal) is CreditsExhausted


# --- Limits that are reached between the look and the guards --------------------------------------


def placed_while_changing(model: type[Model], caller: Caller, **change: Any) -> Placement:
    """Try to hold credits while another transaction locks and changes a row of `model`."""

    def attempt_and_close() -> Placement:
        try:
            return attempt(caller)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            model._default_manager.update(**change)
            asked = pool.submit(attempt_and_close)
            wait_for_a_waiting_backend()
        return asked.result(timeout=60)


def wait_for_a_waiting_backend() -> None:
    waiting = """
SELECT COUNT(*) FROM pg_stat_activity
 WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
    give_up_at = time.monotonic() + 60
    while time.monotonic() < give_up_at:
        with connection.cursor() as cursor:
            # A transaction caches the list of backends it saw first.
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(waiting)
            if cursor.fetchone() == (1,):
                return
        time.sleep(0.01)  # leaves the processor to the backend that should wait
    raise AssertionError("nobody waits for the row")


postgresql_alone = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="SQLite has one writer, so nothing comes between"
)


@postgresql_alone
@pytest.mark.django_db(transaction=True)
def test_credits_that_went_to_another_meanwhile_leave_neither_hold_nor_count() -> None:
    caller = make_site(credit_amount=1).caller()
    Plan.objects.create(name="closed")
    placement = placed_while_changing(
        CreditAccount, caller, balance_microcredits=F("balance_microcredits") - 1
    )
    CreditAccount.objects.update(balance_microcredits=F("balance_microcredits") + 1)
    assert type(placement.refusal) is CreditsExhausted
    # It was opened by then. The opener learns of it and closes it again.
    assert placement.opened == [("opened",)]
    assert count_of_today() == 0
    assert list(Hold.objects.values_list("state", "amount_microcredits")) == [("released", 0)]
    assert differences() == []


@postgresql_alone
@pytest.mark.django_db(transaction=True)
def test_a_place_in_the_day_that_went_to_another_meanwhile_holds_nothing() -> None:
    caller = make_site(daily_quota=2).caller()
    place(caller)
    Plan.objects.create(name="closed")
    placement = placed_while_changing(DailyUsage, caller, message_count=F("message_count") + 1)
    DailyUsage.objects.update(message_count=F("message_count") - 1)
    assert type(placement.refusal) is DailyQuotaReached
    assert placement.opened == [("opened",)]
    assert Hold.objects.count() == 1
    assert differences() == []
