"""B11: spend caps of channels and keys are as exact as the balance, also across midnight."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial

from acceptance.b03_slow_race import ALLOWED, MESSAGES, race, warm_up
from acceptance.b08_quota_day import (
    BERLIN,
    CLIENTS,
    FURTHER_WEST,
    LEAD_SECONDS,
    Pace,
    call_tasks,
    clock_before,
    midnights_after_changes,
    set_time_zone,
    utc,
)
from acceptance.checks import Run
from acceptance.rig import Rig
from common.days import ONE_DAY, UTC_NAME, day_of, end_of
from tests.harness.clients import COMPLETIONS, by_threads, tally
from tests.harness.rig import CREDIT, ChannelKeys

REFUSAL = "403 spend_cap_reached"
# Spent on each side of midnight.
CAP = 100
MIDNIGHTS_AT_ONCE = 2
# How long before midnight a call that counts in the new day may have been stamped.
MOST_SECONDS_EARLY = 2.0


def check(run: Run) -> None:
    with run.rig() as rig:
        server = rig.start_server()
        warm_up(rig, server)
        allowed = run.count(ALLOWED)
        for period in ("day", "month"):
            for of_key in (False, True):
                name = f"{'key' if of_key else 'channel'}'s {period}"
                channel = create(run, rig, f"{period}-{of_key}@example.com")
                cap(rig, channel, of_key=of_key, **{period: allowed * CREDIT})
                client = server.client(channel)
                race(run, rig, client.chat, name, allowed, REFUSAL)
                used = rig.inside("acceptance.b11_worker.used", channel.channel_id)
                run.report.expect_equal(f"{name}: used", used, [[allowed * CREDIT] * 2])
        channel = create(run, rig, "v1@example.com")
        cap(rig, channel, of_key=False, day=allowed * CREDIT)
        ask = partial(server.client(channel).ask, COMPLETIONS)
        race(run, rig, ask, "/v1", allowed, REFUSAL)
        held = rig.database.rows("SELECT SUM(held_microcredits) FROM billing_creditaccount")
        run.report.expect_equal("held at the end", int(held[0][0]), 0)
    midnights = [
        partial(check_midnight, run, UTC_NAME, None),
        *(partial(check_midnight, run, BERLIN, one) for one in midnights_after_changes(BERLIN)),
        partial(check_midnight, run, BERLIN, None, changes=True),
    ]
    # Each mostly waits for its midnight.
    by_threads(MIDNIGHTS_AT_ONCE, midnights)


def check_midnight(run: Run, zone: str, chosen: datetime | None, *, changes: bool = False) -> None:
    """Of calls around midnight, exactly the cap is spent on each side.

    If the zone changes to one further west, nothing is spent on the second side.
    """
    with run.rig() as rig:
        limit = run.count(CAP)
        channel = create(run, rig, "midnight@example.com")
        cap(rig, channel, of_key=False, day=limit * CREDIT)
        cap(rig, channel, of_key=True, day=(limit + 1) * CREDIT)
        midnight = chosen or end_of(day_of(datetime.now(UTC), zone), zone)
        set_time_zone(rig, channel, zone, midnight - 9 * ONE_DAY)
        if changes:
            set_time_zone(rig, channel, FURTHER_WEST, midnight - timedelta(seconds=LEAD_SECONDS))
        offset = clock_before(midnight)
        server = rig.start_server(clock_offset=offset)
        pace = Pace(offset, midnight)
        tasks = call_tasks(run, pace, server.client(channel))
        answers = by_threads(CLIENTS, tasks)
        name = f"{zone} {midnight:%Y-%m-%d}{', changed' if changes else ''}"
        run.report.figure(f"around midnight, {name}", tally(answers))
        codes = {answer.code for answer in answers if answer.status != 200}
        run.report.expect_equal("codes of refusals", codes, {"spend_cap_reached"})
        charged = rig.database.rows(
            "SELECT cap_day, created_at FROM billing_hold"
            " WHERE account_id = %s AND state = 'captured'",
            [channel.account_id],
        )
        days = Counter(str(day) for day, _ in charged)
        run.report.expect_equal(
            f"charged in each day, {name}",
            sorted(days.values()),
            [limit] if changes else [limit, limit],
        )
        # A call that is admitted just before midnight, and takes its turn just after another call
        # has begun the new day, counts in the new day.
        wrong = [
            (day, at)
            for day, at in charged
            if not changes
            and (
                utc(at) >= midnight
                if str(day) == min(days)
                else utc(at) < midnight - timedelta(seconds=MOST_SECONDS_EARLY)
            )
        ]
        run.report.expect(not wrong, f"calls of a day they did not begin on: {wrong[:3]}")


def create(run: Run, rig: Rig, owner: str) -> ChannelKeys:
    return rig.create_channel(
        owner=owner, microcredits=10 * run.count(MESSAGES) * CREDIT, daily_quota=100_000
    )


def cap(rig: Rig, channel: ChannelKeys, *, of_key: bool, **limits: int) -> None:
    order = {"channel_id": channel.channel_id, "of_key": of_key} | limits
    rig.inside("acceptance.b11_worker.set_cap", order)
