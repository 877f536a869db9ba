"""B7: one key, one call, one charge. One reference, one grant."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import redis

from acceptance.checks import Run
from acceptance.rig import Rig
from tests.harness.clients import Answer, Client, at_once, by_threads, tally
from tests.harness.databases import value
from tests.harness.processes import start_redis
from tests.harness.rig import CREDIT, ChannelKeys, Server

PARALLEL = 100
GRANT_PROCESSES = 4
START_UP_SECONDS = 4.0
DAY = 24 * 3600


def check(run: Run) -> None:
    with run.rig() as rig:
        server_redis, redis_url = start_redis(rig.scratch)
        try:
            grant_in_parallel(run, rig)
            server = rig.start_server(settings={"REDIS_URL": redis_url})
            channels = [rig.create_channel(microcredits=1000 * CREDIT) for _ in range(2)]
            if not honours_keys(server.client(channels[0])):
                run.report.pending.append("Idempotency-Key is not honoured yet")
                return
            check_keys(run, rig, server, channels, redis_url)
        finally:
            server_redis.kill()


def grant_in_parallel(run: Run, rig: Rig) -> None:
    """Grant 100 times at once with one reference. Only one may grant."""
    channel = rig.create_channel(owner="grants@example.com")
    order = {
        "account_id": channel.account_id,
        "microcredits": 7 * CREDIT,
        "reference": "invoice-1",
        "threads": PARALLEL // GRANT_PROCESSES,
        "start_at": time.time() + START_UP_SECONDS,
    }
    with ThreadPoolExecutor(GRANT_PROCESSES) as pool:
        done = list(
            pool.map(
                partial(rig.inside, "acceptance.b07_worker.grant_at_once"),
                [order] * GRANT_PROCESSES,
            )
        )
    outcomes = [is_new for one in done for is_new in one]
    run.report.expect_equal("grants, new ones", (len(outcomes), sum(outcomes)), (PARALLEL, 1))
    balance = value(
        rig.database,
        "SELECT balance_microcredits FROM billing_creditaccount WHERE account_id = %s",
        [channel.account_id],
    )
    run.report.expect_equal("balance after the grants", balance, 7 * CREDIT)


def body(message: str, session_id: str) -> bytes:
    return json.dumps({"message": message, "session_id": session_id}).encode()


def send(client: Client, key: str, content: bytes) -> Answer:
    return client.post(content, headers={"Idempotency-Key": key})


def honours_keys(client: Client) -> bool:
    """Return whether the same key replays the answer."""
    answers = [send(client, "probe", body("probe", "probe")) for _ in range(2)]
    return answers[1].headers.get("idempotency-replayed") == "true"


def check_keys(
    run: Run, rig: Rig, server: Server, channels: list[ChannelKeys], redis_url: str
) -> None:
    client, other = map(server.client, channels)
    content = body("latency:1000 once", "once")
    first = parallel_sends(run, rig, client, content)
    replays = by_threads(16, [partial(send, client, "once", content) for _ in range(PARALLEL)])
    expect_replays(run, "later", replays, first)
    changed = send(client, "once", body("latency:1000 twice", "once"))
    run.report.expect_equal(
        "another body", (changed.status, changed.code), (422, "idempotency_key_reused")
    )
    expect_new(run, "another channel", send(other, "once", content))
    expect_freed(run, rig, client)
    survive(run, server, channels[0], content, first, redis_url)


def parallel_sends(run: Run, rig: Rig, client: Client, content: bytes) -> Answer:
    """Send 100 at once: one call, one charge, one turn. Returns the answer."""
    before = rig.mock.stats()["calls"], charges(rig)
    answers = at_once([partial(send, client, "once", content)] * PARALLEL)
    after = rig.mock.stats()["calls"], charges(rig)
    run.report.expect_equal("calls, charges", (after[0] - before[0], after[1] - before[1]), (1, 1))
    run.report.figure("100 at once", tally(answers))
    strange = [a for a in answers if a.status != 200 and a.code != "request_in_progress"]
    run.report.expect(not strange, f"100 at once: {tally(strange)}")
    waits = [a for a in answers if a.status == 409]
    run.report.expect(all("retry-after" in a.headers for a in waits), "a 409 has no Retry-After")
    run.report.expect_equal("turns", len(client.history("once")), 2)
    successes = [a for a in answers if a.status == 200]
    run.report.expect_equal("different answers", len({a.body for a in successes}), 1)
    new = [a for a in successes if "idempotency-replayed" not in a.headers]
    run.report.expect_equal("answers that are not replays", len(new), 1)
    return successes[0]


def charges(rig: Rig) -> int:
    return int(
        value(rig.database, "SELECT COUNT(*) FROM billing_ledgerentry WHERE kind = 'charge'")
    )


def expect_replays(run: Run, when: str, answers: list[Answer], first: Answer) -> None:
    """Expect that each is the first success, byte for byte, and marked as replayed."""
    alike = sum(
        a.status == 200
        and a.body == first.body
        and a.headers.get("idempotency-replayed") == "true"
        and a.headers.get("content-type") == first.headers.get("content-type")
        for a in answers
    )
    run.report.expect_equal(f"{when}: replays", alike, len(answers))


def expect_new(run: Run, when: str, answer: Answer) -> None:
    replayed = answer.headers.get("idempotency-replayed", "no")
    run.report.expect_equal(f"{when}: runs again", (answer.status, replayed), (200, "no"))


def expect_freed(run: Run, rig: Rig, client: Client) -> None:
    """Expect that a failure without a charge frees its key, so that the retry is a real call."""
    content = body("fails at first", "freed")
    rig.mock.set(fault="500")
    failed = send(client, "freed", content)
    rig.mock.set(fault="")
    run.report.expect_equal("a failed call", (failed.status, failed.code), (500, "provider_error"))
    again = send(client, "freed", content)
    expect_new(run, "after a failure", again)
    expect_replays(run, "after its retry", [send(client, "freed", content)], again)
    refused = send(client, "refused", b'{"message": "", "session_id": "x"}')
    run.report.expect_equal("an invalid body", refused.status, 400)
    expect_new(run, "after a refusal", send(client, "refused", body("good", "refused")))


def survive(
    run: Run, server: Server, channel: ChannelKeys, content: bytes, first: Answer, redis_url: str
) -> None:
    """Expect replays after a restart and an emptied Redis, for 24 hours and no longer."""
    redis.Redis.from_url(redis_url).flushall()
    expect_replays(run, "after FLUSHALL", [send(server.client(channel), "once", content)], first)
    for offset, when in ((DAY - 60, "after 23 h 59"), (DAY + 60, "after 24 h 01")):
        server.restart(server.clock(offset))
        answer = send(server.client(channel), "once", content)
        if offset < DAY:
            expect_replays(run, when, [answer], first)
        else:
            expect_new(run, when, answer)
