"""B9: a limit per minute holds in any minute, over all processes, with or without Redis."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from acceptance.b08_quota_day import utc
from acceptance.checks import Run
from acceptance.rig import Rig
from tests.harness.clients import Answer, Client, at_moments, tally
from tests.harness.processes import start_redis
from tests.harness.rig import CREDIT, ChannelKeys

LIMIT = 60
REQUESTS = 1_000
CLIENTS = 32
WINDOW_SECONDS = 60.0
# The limiter counts whole seconds, and a hold is written a moment after its admission.
RESOLUTION_SECONDS = 1.0
LASTING_SECONDS = 66.0
# Two gateways share the database's connections.
POOL_SIZE = "4"


@dataclass(slots=True)
class Scene:
    """One channel that gets more requests than it may make."""

    name: str
    client: Client
    channel: ChannelKeys
    at_half: Callable[[], None]
    answers: list[Answer] = field(default_factory=list)


def check(run: Run) -> None:
    with run.rig({"DATABASE_POOL_SIZE": POOL_SIZE}) as rig:
        redis, redis_url = start_redis(rig.scratch)
        try:
            plain, cached = rig.start_server(), rig.start_server(settings={"REDIS_URL": redis_url})
            wanted = [
                rig.create_channel(
                    owner=f"{name}@example.com",
                    microcredits=10_000 * CREDIT,
                    requests_per_minute=LIMIT,
                )
                for name in ("plain", "cached")
            ]
            scenes = [
                Scene("no Redis", plain.client(wanted[0]), wanted[0], lambda: None),
                Scene("Redis lost", cached.client(wanted[1]), wanted[1], redis.kill),
            ]
            with ThreadPoolExecutor(len(scenes)) as pool:
                list(pool.map(partial(flood, run), scenes))
            for scene in scenes:
                expect_limited(run, rig, scene)
        finally:
            redis.kill()


def flood(run: Run, scene: Scene) -> None:
    """Send bursts and a steady flow for just over a minute. Half-way something breaks."""
    requests = run.count(REQUESTS)
    burst = requests // 4
    half = threading.Timer(LASTING_SECONDS / 2, scene.at_half)
    half.start()
    moments = [0.0] * burst + [LASTING_SECONDS / 2 + 0.2] * burst
    moments += [run.random.uniform(0, LASTING_SECONDS) for _ in range(requests - 2 * burst)]

    def call(number: int) -> Answer:
        return scene.client.chat("hello", f"{scene.name} {number}")

    scene.answers = at_moments(CLIENTS, moments, call)
    half.join()


def expect_limited(run: Run, rig: Rig, scene: Scene) -> None:
    """Expect exactly the limit in the first minute, and never more in any minute."""
    run.report.figure(scene.name, tally(scene.answers))
    strange = [a for a in scene.answers if a.status != 200 and a.code != "rate_limited"]
    run.report.expect(not strange, f"{scene.name}: {tally(strange)}")
    admitted = sorted(
        utc(created_at).timestamp()
        for (created_at,) in rig.database.rows(
            "SELECT created_at FROM billing_hold WHERE account_id = %s", [scene.channel.account_id]
        )
    )
    first_minute = [at for at in admitted if at < admitted[0] + WINDOW_SECONDS - RESOLUTION_SECONDS]
    run.report.expect_equal(f"{scene.name}: in the first minute", len(first_minute), LIMIT)
    spans = [later - at for at, later in zip(admitted, admitted[LIMIT:], strict=False)]
    shortest = min(spans, default=float("inf"))
    run.report.figure(f"{scene.name}: shortest span of {LIMIT + 1}_s", shortest)
    run.report.expect(
        shortest >= WINDOW_SECONDS - RESOLUTION_SECONDS,
        f"{scene.name}: {LIMIT + 1} requests were admitted within {shortest:.2f} s",
    )
    run.report.expect(len(admitted) > LIMIT, f"{scene.name}: nobody was admitted after a minute")
    expect_honest_waits(run, scene)


def expect_honest_waits(run: Run, scene: Scene) -> None:
    """Expect each refusal to say when to try again, within the minute."""
    waits = [int(a.headers.get("retry-after", -1)) for a in scene.answers if a.status == 429]
    run.report.expect(
        all(1 <= wait <= WINDOW_SECONDS + 1 for wait in waits),
        f"{scene.name}: Retry-After from {min(waits, default=0)} to {max(waits, default=0)}",
    )
