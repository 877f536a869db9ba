"""Spend caps of channels and keys: exact at admission, settlement, expiry, and at any midnight."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q, Sum
from django.utils import timezone

from billing import admission, holds, settlement, spend_caps
from billing.errors import CreditsExhausted, DailyQuotaReached, HoldNotOpen, SpendCapReached
from billing.holds import PlacedHold
from billing.models import Hold, SpendCap
from billing.tests.test_settlement import CREDIT, differences
from channels.audit import Actor
from channels.callers import Caller
from channels.models import Account, ApiKey, AuditEntry
from channels.tests.factories import Site, make_site
from tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 8, 14, 12, tzinfo=UTC)
OWNER = Actor("owner@example.com")


def key_of(site: Site) -> ApiKey:
    return ApiKey.objects.get(channel=site.channel, mode="live")


def cap(
    site: Site,
    *,
    day: int | None = None,
    month: int | None = None,
    of_key: bool = False,
    now: datetime = NOON,
) -> None:
    """Set a cap in whole credits."""
    spend_caps.set_cap(
        channel=site.channel,
        key=key_of(site) if of_key else None,
        day_microcredits=None if day is None else day * CREDIT,
        month_microcredits=None if month is None else month * CREDIT,
        actor=OWNER,
        now=now,
    )


def cap_of(site: Site, period: str, limit: int, *, of_key: bool) -> None:
    cap(
        site,
        day=limit if period == "day" else None,
        month=limit if period == "month" else None,
        of_key=of_key,
    )


def place(caller: Caller, amount: int = CREDIT, *, now: datetime = NOON) -> PlacedHold:
    return admission.place_hold(
        caller=caller,
        amount_microcredits=amount,
        now=now,
        expires_at=now + timedelta(seconds=70),
        request_id="r1",
    )


def capture(hold: PlacedHold, charge: int = CREDIT, *, now: datetime = NOON) -> None:
    settlement.capture_hold(
        hold=hold, charge_microcredits=charge, now=now, reason="a test", request_id="r1"
    )


def used_of(site: Site, *, of_key: bool = False, now: datetime = NOON) -> tuple[int, int]:
    """Return the micro-credits used of the day and of the month."""
    row = SpendCap.objects.get(id=key_of(site).id if of_key else site.channel.id)
    calendar = Account.objects.get(id=site.account_id).calendar
    day, month = spend_caps.list_spending(row, calendar=calendar, now=now)
    return day.used_microcredits, month.used_microcredits


def counted(site: Site, *, now: datetime = NOON) -> tuple[int, int]:
    """Return what the holds say: open ones in full, charged ones with their charge."""
    of_channel = Hold.objects.filter(channel=site.channel)
    figures = []
    for day in (now.replace(hour=0), now.replace(hour=0, day=1)):
        recent = of_channel.filter(created_at__gte=day)
        sums = recent.aggregate(
            held=Sum("amount_microcredits", filter=Q(state="held"), default=0),
            charged=Sum("captured_microcredits", filter=Q(state="captured"), default=0),
        )
        figures.append(sums["held"] + sums["charged"])
    return figures[0], figures[1]


# --- One at a time --------------------------------------------------------------------------------


@pytest.mark.parametrize("of_key", [False, True])
@pytest.mark.parametrize("period", ["day", "month"])
def test_refuses_what_a_cap_leaves_no_room_for(site: Site, of_key: bool, period: str) -> None:
    cap_of(site, period, 2, of_key=of_key)
    caller = site.caller()
    capture(place(caller))
    place(caller)
    with pytest.raises(SpendCapReached) as refused:
        place(caller)
    resets_at = {"day": "2026-08-15T00:00:00Z", "month": "2026-09-01T00:00:00Z"}[period]
    assert refused.value.resets_at == resets_at
    assert f"2 credits a {period}" in refused.value.message
    assert Hold.objects.filter(state="held").count() == 1
    assert differences() == []


def test_what_a_call_did_not_spend_comes_back(site: Site) -> None:
    cap(site, day=10, month=10)
    cap(site, day=10, of_key=True)
    caller = site.caller()
    capture(place(caller, 4 * CREDIT), 1 * CREDIT)
    assert used_of(site) == used_of(site, of_key=True) == (CREDIT, CREDIT)
    hold = place(caller, 9 * CREDIT)
    assert used_of(site) == used_of(site, of_key=True) == (10 * CREDIT, 10 * CREDIT)
    holds.release_hold(hold=hold, now=NOON)
    assert used_of(site) == used_of(site, of_key=True) == (CREDIT, CREDIT)
    with pytest.raises(HoldNotOpen):
        capture(hold)
    assert used_of(site) == (CREDIT, CREDIT)


def test_a_hold_that_expires_gives_its_room_back(site: Site) -> None:
    cap(site, day=1)
    place(site.caller())
    later = NOON + timedelta(seconds=71)
    with pytest.raises(SpendCapReached):
        place(site.caller(), now=later)
    settlement.free_up(account_id=site.account_id, now=later)
    place(site.caller(), now=later)


def test_a_keys_cap_leaves_other_keys_alone(site: Site) -> None:
    cap(site, day=1, of_key=True)
    other = replace(site.caller(), key_id=None)  # as in the playground
    place(site.caller())
    with pytest.raises(SpendCapReached):
        place(site.caller())
    place(other)
    assert used_of(site, of_key=True) == (CREDIT, CREDIT)


def test_the_channels_cap_holds_for_all_keys_and_gives_the_keys_room_back(site: Site) -> None:
    cap(site, day=1)
    cap(site, day=5, of_key=True)
    place(replace(site.caller(), key_id=None))
    with pytest.raises(SpendCapReached):
        place(site.caller())
    assert used_of(site, of_key=True) == (0, 0)


def test_test_keys_and_free_models_do_not_count(site: Site) -> None:
    cap(site, day=0)
    place(site.caller(is_test=True))
    place(site.caller(), 0)
    with pytest.raises(SpendCapReached):
        place(site.caller(), 1)


def test_comes_after_the_days_quota_and_before_the_credits() -> None:
    site = make_site(credit_amount=0, daily_quota=1)
    cap(site, day=1)
    with pytest.raises(CreditsExhausted):
        place(site.caller())
    cap(site, day=0)
    with pytest.raises(SpendCapReached):
        place(site.caller())
    place(site.caller(), 0)
    with pytest.raises(DailyQuotaReached):
        place(site.caller())


# --- Days and months ------------------------------------------------------------------------------


def test_a_new_day_starts_afresh_and_a_new_month_too(site: Site) -> None:
    cap(site, day=1, month=3)
    place(site.caller())
    with pytest.raises(SpendCapReached):
        place(site.caller(), now=datetime(2026, 8, 14, 23, 59, 59, tzinfo=UTC))
    place(site.caller(), now=datetime(2026, 8, 15, tzinfo=UTC))
    place(site.caller(), now=datetime(2026, 8, 16, tzinfo=UTC))
    with pytest.raises(SpendCapReached) as refused:
        place(site.caller(), now=datetime(2026, 8, 31, 23, 59, 59, tzinfo=UTC))
    assert refused.value.resets_at == "2026-09-01T00:00:00Z"
    place(site.caller(), now=datetime(2026, 9, 1, tzinfo=UTC))
    assert used_of(site, now=datetime(2026, 9, 1, tzinfo=UTC)) == (CREDIT, CREDIT)


def test_a_call_across_midnight_gives_back_to_its_own_day_only(site: Site) -> None:
    cap(site, day=5, month=9)
    hold = place(site.caller(), 4 * CREDIT, now=datetime(2026, 8, 14, 23, 59, 59, tzinfo=UTC))
    midnight = datetime(2026, 8, 15, tzinfo=UTC)
    place(site.caller(), 5 * CREDIT, now=midnight)
    capture(hold, CREDIT, now=midnight)
    assert used_of(site, now=midnight) == (5 * CREDIT, 6 * CREDIT)


def test_a_day_written_by_a_clock_that_ran_ahead_is_not_believed(site: Site) -> None:
    cap(site, day=1)
    place(site.caller(), now=NOON + timedelta(days=400))
    place(site.caller())
    with pytest.raises(SpendCapReached):
        place(site.caller())


def test_a_clock_just_behind_counts_in_the_day_that_has_begun(site: Site) -> None:
    cap(site, day=1, now=datetime(2026, 8, 15, tzinfo=UTC))
    place(site.caller(), now=datetime(2026, 8, 15, tzinfo=UTC))
    with pytest.raises(SpendCapReached):
        place(site.caller(), now=datetime(2026, 8, 14, 23, 59, 59, tzinfo=UTC))


# --- Setting --------------------------------------------------------------------------------------


@pytest.mark.parametrize("of_key", [False, True])
def test_a_new_cap_counts_what_was_spent_and_what_is_in_flight(site: Site, of_key: bool) -> None:
    yesterday, last_month = NOON - timedelta(days=1), NOON - timedelta(days=14)
    for now in (last_month, yesterday, NOON):
        capture(place(site.caller(), 3 * CREDIT, now=now), 2 * CREDIT, now=now)
    running = place(site.caller(), 5 * CREDIT)
    cap(site, day=10, month=12, of_key=of_key)
    assert used_of(site, of_key=of_key) == (7 * CREDIT, 9 * CREDIT)
    capture(running, CREDIT)
    assert used_of(site, of_key=of_key) == (3 * CREDIT, 5 * CREDIT)


def test_a_call_of_last_month_that_still_runs_does_not_count(site: Site) -> None:
    month = datetime(2026, 8, 1, tzinfo=UTC)
    running = place(site.caller(), 5 * CREDIT, now=month - timedelta(seconds=1))
    cap(site, day=10, month=10, now=month)
    capture(running, CREDIT, now=month)
    assert used_of(site, now=month) == (0, 0)


def test_a_refusal_whose_room_has_come_back_names_the_next_reset(site: Site) -> None:
    cap(site, month=5)
    refusal = spend_caps.refusal_of(caller=site.caller(), amount_microcredits=CREDIT, now=NOON)
    assert refusal.resets_at == "2026-08-15T00:00:00Z"


def test_a_call_that_ends_without_a_charge_gives_back_to_a_cap_set_meanwhile(site: Site) -> None:
    running = place(site.caller(), 5 * CREDIT)
    cap(site, day=10)
    holds.release_hold(hold=running, now=NOON)
    assert used_of(site) == (0, 0)


def test_a_cap_that_was_removed_and_set_again_counts_calls_in_flight_once(site: Site) -> None:
    cap(site, day=10)
    running = place(site.caller(), 4 * CREDIT)
    cap(site)
    assert not spend_caps.list_caps(channel_ids=[site.channel.id])
    cap(site, day=10)
    assert used_of(site) == (4 * CREDIT, 4 * CREDIT)
    capture(running, CREDIT)
    assert used_of(site) == (CREDIT, CREDIT)
    running = place(site.caller(), 4 * CREDIT)
    cap(site)
    capture(running, CREDIT)
    cap(site, day=10)
    assert used_of(site) == (2 * CREDIT, 2 * CREDIT)


def test_refuses_a_cap_below_what_is_spent_and_changes_nothing(site: Site) -> None:
    capture(place(site.caller(), 3 * CREDIT), 3 * CREDIT)
    with pytest.raises(ValidationError) as refused:
        cap(site, day=2, month=1)
    assert refused.value.message_dict == {
        "spend_cap_day": [
            "Enter at least 3, which is spent today already. Or leave it empty for no limit."
        ],
        "spend_cap_month": [
            "Enter at least 3, which is spent this month already. Or leave it empty for no limit."
        ],
    }
    assert not SpendCap.objects.filter(day_limit_microcredits__isnull=False).exists()
    cap(site, day=3)
    with pytest.raises(SpendCapReached):
        place(site.caller())


def test_each_change_is_in_the_audit_log(site: Site) -> None:
    cap(site, day=3)
    cap(site, day=3)
    cap(site, day=4, month=40, of_key=True)
    cap(site)
    entries = AuditEntry.objects.filter(action__endswith="spend_cap_changed").order_by("id")
    assert [(entry.action, entry.changes) for entry in entries] == [
        ("channel.spend_cap_changed", {"credits a day": ["no limit", "3"]}),
        (
            "key.spend_cap_changed",
            {"credits a day": ["no limit", "4"], "credits a month": ["no limit", "40"]},
        ),
        ("channel.spend_cap_changed", {"credits a day": ["3", "no limit"]}),
    ]


def test_the_database_refuses_a_cap_that_is_overspent(site: Site) -> None:
    cap(site, day=1)
    with pytest.raises(IntegrityError), transaction.atomic():
        SpendCap.objects.update(day_left_microcredits=-1)


# --- Many at once ---------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("of_key", [False, True])
@pytest.mark.parametrize("period", ["day", "month"])
def test_of_many_calls_at_once_exactly_as_many_pass_as_fit(
    site: Site, of_key: bool, period: str
) -> None:
    cap_of(site, period, 5, of_key=of_key)
    caller = site.caller()

    def call(_: int) -> str:
        try:
            place(caller)
        except SpendCapReached:
            return "refused"
        return "held"

    results = run_in_threads(call, 16)
    assert sorted(results) == ["held"] * 5 + ["refused"] * 11
    assert used_of(site, of_key=of_key) == (5 * CREDIT, 5 * CREDIT)


@pytest.mark.django_db(transaction=True)
def test_of_many_first_calls_of_a_day_exactly_as_many_pass_as_fit(site: Site) -> None:
    cap(site, day=5, of_key=True)
    cap(site, day=6)
    tomorrow = NOON + timedelta(days=1)
    caller = site.caller()
    place(caller)

    def call(_: int) -> bool:
        for _attempt in range(3):  # a call that loses a race for the first place tries again
            try:
                place(caller, now=tomorrow)
            except SpendCapReached:
                continue
            return True
        return False

    assert sum(run_in_threads(call, 12)) == 5
    assert used_of(site, now=tomorrow) == (5 * CREDIT, 6 * CREDIT)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("seed", range(3))
def test_caps_set_lowered_and_removed_under_load_count_every_call_once(seed: int) -> None:
    site = make_site(credit_amount=10_000, daily_quota=100_000)
    caller = site.caller()
    now = timezone.now().replace(hour=12)

    def work(index: int) -> Any:
        chance = random.Random(seed * 100 + index)
        for _ in range(12):
            if index == 0:
                limit = chance.choice([None, 40, 60, 80])
                try:
                    cap(site, day=limit, month=limit, of_key=chance.random() < 0.5, now=now)
                except ValidationError:
                    pass
                continue
            try:
                hold = place(caller, chance.randint(1, 3) * CREDIT, now=now)
            except (SpendCapReached, DailyQuotaReached):  # the latter: a cap was set just now
                continue
            if chance.random() < 0.3:
                holds.release_hold(hold=hold, now=now)
            elif chance.random() < 0.9:
                capture(hold, chance.randint(0, 3) * CREDIT, now=now)

    run_in_threads(work, 6)
    cap(site, day=1_000, now=now)
    cap(site, day=1_000, of_key=True, now=now)
    expected = counted(site, now=now)
    assert used_of(site, now=now) == used_of(site, of_key=True, now=now) == expected
    assert differences() == []


# --- Rotated keys ---------------------------------------------------------------------------------


def test_a_rotated_key_hands_its_cap_on(site: Site) -> None:
    cap(site, day=3, of_key=True, now=timezone.now())
    issued = spend_caps.rotate_key(api_key=key_of(site), overlap=timedelta(hours=1), actor=OWNER)
    found = spend_caps.find_cap(channel=site.channel, key=issued.record)
    assert found is not None
    assert (found.day_limit_microcredits, found.month_limit_microcredits) == (3 * CREDIT, None)


def test_a_rotated_key_without_a_cap_has_none(site: Site) -> None:
    cap(site, day=3, now=timezone.now())
    issued = spend_caps.rotate_key(api_key=key_of(site), overlap=timedelta(hours=1), actor=OWNER)
    assert spend_caps.find_cap(channel=site.channel, key=issued.record) is None
