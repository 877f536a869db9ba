"""B10: `verifyledger` verifies a million entries in a minute, and finds every fault."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from acceptance.checks import Run
from acceptance.rig import Rig
from tests.harness.clients import Client, by_threads, tally
from tests.harness.databases import value
from tests.harness.processes import end, start, wait_until
from tests.harness.rig import CREDIT, ChannelKeys, Server, Wanted, first_model

ENTRIES = 1_000_000
ENTRIES_SHORT = 100_000
MOST_SECONDS = 60.0
MOST_BYTES = 200 * 1024 * 1024
ACCOUNTS = 100
FAULTS_AT_LEAST = 50
TURNS = 12
PRICES = ("--per-reply", "0.3", "--per-1k-input", "0.007", "--per-1k-output", "0.011")
# The same in micro-credits: for a reply, and for 1,000 input and output tokens.
PER_REPLY, PER_1K_INPUT, PER_1K_OUTPUT = 300_000, 7_000, 11_000


def check(run: Run) -> None:
    with run.rig() as rig:
        verify_many(run, rig)
    with run.rig() as rig:
        find_each_fault(run, rig)


@dataclass(frozen=True, slots=True)
class Proof:
    """One run of verifyledger."""

    status: int
    output: str
    seconds: float
    most_bytes: int


def verify_measured(rig: Rig) -> Proof:
    """Run verifyledger in a separate process, and measure its time and memory."""
    command = [sys.executable, "manage.py", "verifyledger", "--json"]
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = start(command, env=rig.env, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        end(process)
        output.seek(0)
        seconds = time.monotonic() - started
        return Proof(process.returncode, output.read(), seconds, usage.ru_maxrss * 1024)


def verify_many(run: Run, rig: Rig) -> None:
    """Multiply 100 correct accounts to a million entries, and verify them."""
    wanted = [Wanted(owner=f"{n}@example.com", microcredits=10**12) for n in range(ACCOUNTS)]
    channels = rig.create_channels(wanted)
    server = rig.start_server()
    answers = by_threads(8, [partial(server.client(c).chat, "hello", "one") for c in channels])
    run.report.expect_equal("first turns", tally(answers), {"200": ACCOUNTS})
    server.kill()
    started = time.monotonic()
    loaded = rig.inside(
        "acceptance.b10_worker.load",
        {"entries": run.count(ENTRIES, short=ENTRIES_SHORT)},
        seconds=3600,
    )
    run.report.figure("entries", loaded["entries"])
    run.report.figure("loaded in_s", time.monotonic() - started)
    proof = verify_measured(rig)
    run.report.figure("verified in_s", proof.seconds)
    run.report.figure("memory_MiB", proof.most_bytes / 1024 / 1024)
    run.report.expect_equal("status of verifyledger", proof.status, 0)
    run.report.expect(proof.seconds <= MOST_SECONDS, f"verifyledger took {proof.seconds:.0f} s")
    run.report.expect(proof.most_bytes <= MOST_BYTES, f"verifyledger took {proof.most_bytes} bytes")


def find_each_fault(run: Run, rig: Rig) -> None:
    """After real traffic, inject each fault alone. Then charges must match the provider's log."""
    rig.manage("setprice", "--model", first_model(rig), *PRICES)
    channels = {
        name: rig.create_channel(owner=owner_of(name)) for name in ("mine", "other", "poor")
    }
    for name in ("mine", "other"):
        give = ("grantcredits", "--owner", owner_of(name), "--amount", "50", "--reason", "Paid")
        rig.manage(*give)
        rig.manage(*give, "--expires-at", "2099-01-01T00:00:00Z")
    server = rig.start_server()
    for name in ("mine", "other"):
        traffic(run, server.client(channels[name]))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(server.client(channels["mine"]).chat, "latency:60000 open", "open")
        wait_until(lambda: rig.mock.stats()["in_flight"], seconds=10, what="a call in flight")
        expect_faults_found(run, rig, channels)
        expect_usage(run, rig, server, channels)
        server.kill()
    expect_charges_of_log(run, rig)


def owner_of(name: str) -> str:
    return f"{name}@example.com"


def traffic(run: Run, client: Client) -> None:
    """Make turns in two sessions, and a failure, which releases a hold."""
    turns = [client.chat(f"hello {n}", f"session {n % 2}") for n in range(TURNS)]
    failed = client.chat("fault:500", "failing")
    run.report.expect_equal("traffic", tally(turns), {"200": TURNS})
    run.report.expect_equal("failed call", failed.status, 500)


def expect_faults_found(run: Run, rig: Rig, channels: dict[str, ChannelKeys]) -> None:
    run.report.expect_equal("differences before any fault", rig.verify_ledger(), [])
    order = {
        "account_id": channels["mine"].account_id,
        "channel_id": channels["mine"].channel_id,
        "other_account_id": channels["other"].account_id,
        "other_channel_id": channels["other"].channel_id,
        "poor_account_id": channels["poor"].account_id,
    }
    result = rig.inside("acceptance.b10_worker.inject", order)
    injected = len(result["found"]) + len(result["missed"])
    run.report.figure("faults found", f"{len(result['found'])} of {injected}")
    run.report.expect(injected >= FAULTS_AT_LEAST, f"only {injected} faults were injected")
    run.report.expect_equal("faults not found", result["missed"], [])
    run.report.expect_equal("faults without an effect", result["without_effect"], [])


def expect_usage(run: Run, rig: Rig, server: Server, channels: dict[str, ChannelKeys]) -> None:
    """Expect a channel's usage page and receipts to match its charges in the ledger."""
    for name in ("mine", "other"):
        client = server.client(channels[name])
        charged = [
            (str(hold_id).replace("-", ""), amount)
            for hold_id, amount in rig.database.rows(
                "SELECT hold_id, amount_microcredits FROM billing_ledgerentry "
                "WHERE kind = 'charge' AND credit_account_id = %s",
                [channels[name].account_id],
            )
        ]
        total = client.get("/api/usage").json["total"]
        expected = (len(charged), sum(amount for _, amount in charged))
        told = (total["requests"], round(float(total["credits"]) * CREDIT))
        run.report.expect_equal(f"usage of {name}", told, expected)
        for hold_id, amount in charged:
            receipt = client.get(f"/api/usage/{hold_id}").json["credits"]["charged"]
            run.report.expect_equal("receipt", receipt, f"{amount / CREDIT:.6f}")


def expect_charges_of_log(run: Run, rig: Rig) -> None:
    """Expect one charge for each completion in the provider's log, at its price, none missing."""
    expected = Counter((line["reply"], price(line)) for line in rig.mock.completions())
    charged = Counter(
        (reply, amount)
        for reply, amount in rig.database.rows(
            "SELECT m.content, e.amount_microcredits FROM billing_ledgerentry e "
            "JOIN conversations_message m ON m.id = e.hold_id WHERE e.kind = 'charge'"
        )
    )
    run.report.expect_equal("charges against the provider's log", charged - expected, Counter())
    run.report.expect_equal("the provider's log against charges", expected - charged, Counter())
    total = value(rig.database, "SELECT SUM(captured_microcredits) FROM billing_hold")
    run.report.expect_equal("captured in all", int(total), sum(cost for _, cost in expected))
    run.report.figure("charges equal to the log", sum(charged.values()))


def price(line: dict[str, int]) -> int:
    """Return the price of a completion in micro-credits, rounded up once."""
    thousandths = PER_1K_INPUT * line["prompt_tokens"] + PER_1K_OUTPUT * line["completion_tokens"]
    return PER_REPLY - (-thousandths // 1000)
