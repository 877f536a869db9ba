"""B8: the quota's day is that of admission, exact to the call: the UTC day, or the account's."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial

from acceptance.checks import Run
from acceptance.rig import Rig
from common.days import ONE_DAY, UTC_NAME, day_of, end_of, start_of
from tests.harness.clients import Answer, Client, by_threads, tally
from tests.harness.databases import Postgres
from tests.harness.rig import CREDIT, ChannelKeys

QUOTA = 100
CALLS = 400
CALLING_SECONDS = 8.0
CLIENTS = 16
# The time from the server's start to the first call, enough for a slow start.
LEAD_SECONDS = 12.0
FAILING = 10
# These calls are admitted within this time before midnight, even by a process that has just started
# on a busy machine, and fail this long after midnight.
BEFORE_SECONDS, AFTER_SECONDS = 3.0, 1.5
# How closely the two clocks agree. Within this time of midnight, either day may be right.
CLOCK_SKEW_SECONDS = 0.01
ZONES = {"TZ": "Pacific/Kiritimati", "TIME_ZONE": "America/Los_Angeles"}


# Its clocks change twice a year. West of it, the day ends later.
BERLIN, FURTHER_WEST = "Europe/Berlin", "America/Los_Angeles"


def check(run: Run) -> None:
    check_midnight(run)
    for number, midnight in enumerate(midnights_after_changes(BERLIN), 1):
        check_midnight(run, BERLIN, midnight, name=f"clock change {number}")
    check_change(run)


def check_midnight(
    run: Run, zone: str = UTC_NAME, midnight: datetime | None = None, name: str = "UTC"
) -> None:
    """Of calls around midnight, the quota is admitted on each side."""
    with run.rig() as rig:
        if isinstance(rig.database, Postgres):
            rig.database.alter("timezone", "Pacific/Auckland")
        quota = run.count(QUOTA)
        channel = rig.create_channel(
            owner="a@example.com", microcredits=1000 * CREDIT, daily_quota=quota
        )
        failing = rig.create_channel(
            owner="b@example.com", microcredits=1000 * CREDIT, model_id="failing"
        )
        midnight = midnight or end_of(day_of(datetime.now(UTC), zone), zone)
        for one in (channel, failing):
            set_time_zone(rig, one, zone, midnight - 9 * ONE_DAY)
        offset = clock_before(midnight)
        server = rig.start_server(clock_offset=offset, settings=ZONES)
        pace = Pace(offset, midnight)
        tasks = call_tasks(run, pace, server.client(channel))
        crossing = failing_tasks(pace, server.client(failing))
        answers = by_threads(CLIENTS + FAILING, [*crossing, *tasks])[FAILING:]
        expect_retry_after(run, pace, [a for a in answers if a.status == 429])
        run.report.figure(f"{name}: answers", tally(answers))
        expect_days(run, rig, channel, midnight, zone, quota)
        expect_given_back(run, rig, failing)


def check_change(run: Run) -> None:
    """A quota that is used up stays so past midnight, if the zone has become one further west."""
    with run.rig() as rig:
        quota = run.count(QUOTA)
        channel = rig.create_channel(
            owner="c@example.com", microcredits=1000 * CREDIT, daily_quota=quota
        )
        midnight = end_of(day_of(datetime.now(UTC), BERLIN), BERLIN)
        set_time_zone(rig, channel, BERLIN, midnight - 9 * ONE_DAY)
        set_time_zone(rig, channel, FURTHER_WEST, midnight - timedelta(seconds=LEAD_SECONDS))
        offset = clock_before(midnight)
        server = rig.start_server(clock_offset=offset, settings=ZONES)
        pace = Pace(offset, midnight)
        answers = by_threads(CLIENTS, call_tasks(run, pace, server.client(channel)))
        run.report.figure("change of zone: answers", tally(answers))
        admitted = rig.database.rows(
            "SELECT day, COUNT(*) FROM billing_hold WHERE state = 'captured' GROUP BY day"
        )
        expected = [(str(day_of(midnight - timedelta(minutes=1), BERLIN)), quota)]
        found = [(str(day), count) for day, count in admitted]
        run.report.expect_equal("admitted while the zone changes", found, expected)
        until = end_of(date.fromisoformat(expected[0][0]), FURTHER_WEST)
        refusals = [answer for answer in answers if answer.status == 429]
        expect_retry_after(run, Pace(offset, until), refusals)


def set_time_zone(rig: Rig, channel: ChannelKeys, zone: str, moment: datetime) -> None:
    order = {"account_id": channel.account_id, "zone": zone, "at": moment.isoformat()}
    rig.inside("acceptance.b11_worker.set_time_zone", order)


def midnights_after_changes(zone: str) -> list[datetime]:
    """Return when the next two days end in which the clocks of a zone change."""
    first = day_of(datetime.now(UTC), zone) + ONE_DAY
    days = [first + number * ONE_DAY for number in range(366)]
    is_long_or_short = [end_of(day, zone) - start_of(day, zone) != ONE_DAY for day in days]
    return [end_of(day, zone) for day, is_so in zip(days, is_long_or_short, strict=True) if is_so]


def clock_before(midnight: datetime) -> float:
    """Return the clock's offset that puts a midnight in the middle of the calls."""
    away = LEAD_SECONDS + CALLING_SECONDS / 2
    return (midnight - datetime.now(UTC)).total_seconds() - away


class Pace:
    """The server's clock as seen from here."""

    def __init__(self, offset: float, midnight: datetime) -> None:
        self.offset = offset
        self.midnight = midnight.timestamp()

    def now(self) -> float:
        return time.time() + self.offset

    def wait_for(self, seconds_after_midnight: float) -> None:
        time.sleep(max(0.0, self.midnight + seconds_after_midnight - self.now()))


def call_tasks(run: Run, pace: Pace, client: Client) -> list[Callable[[], Answer]]:
    """Return calls spread over the seconds around midnight, a fifth of them in a burst at it."""
    calls = run.count(CALLS)
    half = CALLING_SECONDS / 2
    moments = [run.random.uniform(-half, half) for _ in range(calls - calls // 5)]
    moments += [run.random.uniform(-0.05, 0.05) for _ in range(calls // 5)]

    def call(number: int, moment: float) -> Answer:
        pace.wait_for(moment)
        return client.chat(f"n{number}", f"s{number}")

    return [partial(call, number, moment) for number, moment in enumerate(sorted(moments))]


def failing_tasks(pace: Pace, client: Client) -> list[Callable[[], Answer]]:
    """Return calls that are admitted before midnight and fail after it."""

    def call(number: int) -> Answer:
        pace.wait_for(-BEFORE_SECONDS)
        milliseconds = int(1000 * (BEFORE_SECONDS + AFTER_SECONDS))
        return client.chat(f"latency:{milliseconds} fault:500", f"failing {number}")

    return [partial(call, number) for number in range(FAILING)]


def expect_retry_after(run: Run, pace: Pace, refusals: list[Answer]) -> None:
    """Expect each refusal to name the true reset, to the second."""
    # Converts time.monotonic() of the answers to the server's clock.
    shift = pace.now() - time.monotonic()
    worst = max(
        (seconds_off(pace, answer.started + shift, answer.ended + shift, answer))
        for answer in refusals
    )
    run.report.figure("Retry-After off by at most_s", worst)
    run.report.expect(worst <= 1, f"Retry-After is off by {worst:.2f} s")
    codes = {answer.code for answer in refusals}
    run.report.expect_equal("codes of refusals", codes, {"daily_quota_reached"})


def seconds_off(pace: Pace, earliest: float, latest: float, refusal: Answer) -> float:
    """Return how far Retry-After is from the next midnight, at the request's best moment."""
    told = float(refusal.headers.get("retry-after", "-1000000"))
    return min(
        abs(told - left)
        for moment in (earliest - CLOCK_SKEW_SECONDS, latest + CLOCK_SKEW_SECONDS)
        for left in [(pace.midnight - moment) % 86_400]
    )


def expect_days(
    run: Run, rig: Rig, channel: ChannelKeys, midnight: datetime, zone: str, quota: int
) -> None:
    """Expect exactly the quota on each side, and each hold on the day it began."""
    holds = rig.database.rows(
        "SELECT day, created_at FROM billing_hold WHERE account_id = %s AND state = 'captured'",
        [channel.account_id],
    )
    days = Counter(str(day) for day, _ in holds)
    before, after = (str(day_of(midnight + timedelta(hours=n), zone)) for n in (-1, 0))
    run.report.figure("admitted", dict(days))
    run.report.expect_equal("admitted by day", dict(days), {before: quota, after: quota})
    wrong = [hold for hold in holds if str(day_of(utc(hold[1]), zone)) != str(hold[0])]
    run.report.expect(not wrong, f"holds of a day they did not begin on: {wrong[:3]}")


def utc(stored: object) -> datetime:
    """Return a stored time in UTC. PostgreSQL returns a time zone, SQLite text in UTC."""
    if isinstance(stored, datetime):
        return stored.astimezone(UTC)
    return datetime.fromisoformat(str(stored)).replace(tzinfo=UTC)


def expect_given_back(run: Run, rig: Rig, channel: ChannelKeys) -> None:
    """Expect failures after midnight to give their count back to the old day, not the new one."""
    states = rig.database.rows(
        "SELECT state, COUNT(*) FROM billing_hold WHERE account_id = %s GROUP BY state",
        [channel.account_id],
    )
    channel_id = channel.channel_id.replace("-", "")
    counts = [
        (str(day), count)
        for found, day, count in rig.database.rows(
            "SELECT channel_id, day, message_count FROM billing_dailyusage"
        )
        if str(found).replace("-", "") == channel_id
    ]
    run.report.expect_equal("failing calls", states, [("released", FAILING)])
    run.report.expect_equal("their counts by day", [count for _, count in counts], [0])
