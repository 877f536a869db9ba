"""B1: a balance is never oversold, however many connections charge it at once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial

from acceptance.checks import Run
from acceptance.rig import Rig
from tests.harness.clients import by_threads, tally
from tests.harness.databases import Database, value
from tests.harness.rig import CREDIT, ChannelKeys

PROCESSES = 8
ATTEMPTS = 10_000
ATTEMPTS_SHORT = 4_000
SAMPLES_A_SECOND = 100
MOST_SECONDS = 30
# Eight interpreters must import Django on two cores before the first charge.
START_UP_SECONDS = 5.0
HTTP_CLIENTS = 32


def check(run: Run) -> None:
    with run.rig() as rig:
        for round_number in range(5 if run.is_long else 1):
            charge_by_processes(run, rig, round_number)
        charge_by_http(run, rig)


def charge_by_processes(run: Run, rig: Rig, round_number: int) -> None:
    """8 processes charge 10,000 times. The balance pays for half of that."""
    attempts = run.count(ATTEMPTS, short=ATTEMPTS_SHORT)
    owner = f"owner-{round_number}@example.com"
    channel = rig.create_channel(owner=owner, microcredits=attempts // 2 * CREDIT)
    start_at = time.time() + START_UP_SECONDS
    orders = [
        {
            "api_key": channel.api_key,
            "attempts": attempts // PROCESSES,
            "seed": run.random.random(),
            "start_at": start_at,
        }
        for _ in range(PROCESSES)
    ]
    with sampled_lowest(rig.database, channel) as lowest, ThreadPoolExecutor(PROCESSES) as pool:
        outcomes = Counter[str]()
        for counted in pool.map(partial(rig.inside, "acceptance.b01_worker.charge"), orders):
            outcomes.update(counted)
        seconds = time.time() - start_at
    succeeded, total = attempts // 2, attempts // PROCESSES * PROCESSES
    expected = {"charged": succeeded, "refused": total - succeeded}
    run.report.expect_equal("charges by 8 processes", dict(outcomes), expected)
    run.report.expect(seconds < MOST_SECONDS, f"{attempts} charges took {seconds:.1f} s")
    run.report.figure(f"{attempts} charges_s", seconds)
    run.report.figure("samples", lowest())
    expect_spent(run, rig, channel)


@contextmanager
def sampled_lowest(database: Database, channel: ChannelKeys) -> Iterator[Callable[[], int]]:
    """Sample the balance 100 times a second. At the end, no sample may be below 0."""
    stop = threading.Event()
    samples: list[tuple[int, int]] = []

    def sample() -> None:
        statement = (
            "SELECT balance_microcredits, balance_microcredits - held_microcredits "
            f"FROM billing_creditaccount WHERE account_id = {channel.account_id}"
        )
        with closing(database.connect()) as connection:
            while not stop.wait(1 / SAMPLES_A_SECOND):
                samples.extend(connection.execute(statement).fetchall())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield lambda: len(samples)
    finally:
        stop.set()
        thread.join()
    if not samples or min(map(min, samples)) < 0:
        raise AssertionError(f"lowest of {len(samples)} samples: {min(samples, default=None)}")


def charge_by_http(run: Run, rig: Rig) -> None:
    """The same through the API, with twice as many messages as the balance can pay for."""
    messages = run.count(1_000, short=400)
    paid = messages // 2
    channel = rig.create_channel(owner="http@example.com", microcredits=paid * CREDIT)
    client = rig.start_server().client(channel)
    answers = by_threads(
        HTTP_CLIENTS, [partial(client.chat, f"message {n}", f"s{n}") for n in range(messages)]
    )
    expected = {"200": paid, "403 credits_exhausted": messages - paid}
    run.report.expect_equal("messages by HTTP", tally(answers), expected)
    run.report.expect_equal("remaining", client.remaining(), "0.000000")
    run.report.figure("http", tally(answers))
    run.report.expect_equal("provider calls", rig.mock.stats()["calls"], paid)
    expect_spent(run, rig, channel)


def expect_spent(run: Run, rig: Rig, channel: ChannelKeys) -> None:
    """Expect that nothing is left or held, and that the ledger agrees."""
    balance, held = rig.database.rows(
        "SELECT balance_microcredits, held_microcredits FROM billing_creditaccount "
        "WHERE account_id = %s",
        [channel.account_id],
    )[0]
    in_ledger = value(
        rig.database,
        "SELECT SUM(CASE WHEN credit = 'customer' THEN amount_microcredits "
        "ELSE -amount_microcredits END) FROM billing_ledgerentry WHERE credit_account_id = %s",
        [channel.account_id],
    )
    run.report.expect_equal("balance, held, ledger", (balance, held, int(in_ledger)), (0, 0, 0))
