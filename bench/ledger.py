"""One hot account: how many holds a second it can place and capture.

    python -m bench.ledger [--quick]

Eight processes charge one channel of one account. Each charge is two transactions, as in the chat:
hold and count, then capture and entry. All of them wait for the same row locks, so this is the
upper bound for one customer. Other customers do not queue behind it. At the end the account is
empty. Then the measure is how fast it refuses, and that it was not overcharged by a single credit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, cast

from django.db import transaction
from django.utils import timezone

from bench import page, record
from bench.figures import RoundLog, progress
from bench.record import Figure, Kept, middle
from bench.stand import Stand
from billing.errors import CreditsExhausted
from tests.harness.costs import backend_cpu_seconds
from tests.harness.databases import value
from tests.harness.processes import BASE_DIR
from tests.harness.rig import CREDIT, ChannelKeys

PROCESSES = 8
NAMES = {"pg": "PostgreSQL", "sqlite": "SQLite"}
# What the account can still pay for, when it should run empty.
LAST_CREDITS = 200


@dataclass(frozen=True, slots=True)
class Length:
    rounds: int
    seconds: float


FULL = Length(rounds=5, seconds=3.0)
QUICK = Length(rounds=3, seconds=1.0)

Round = dict[str, Any]


# --- One of the eight processes -----------------------------------------------------------------


def work() -> None:
    """Charge in a loop whenever a line on standard input gives a key and a duration."""
    import django

    django.setup()
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(charge_until(order["key"], order["starts_at"], order["ends_at"])))
        sys.stdout.flush()


def charge_until(key: str, starts_at: float, ends_at: float) -> dict[str, int]:
    """Charge one credit after the other between two moments. Counts charges and refusals."""
    # Models need Django set up, which only the processes that charge do.
    from channels.callers import find_caller

    caller = find_caller(key)
    assert caller is not None
    charged = refused = 0
    time.sleep(max(0.0, starts_at - time.time()))
    while time.time() < ends_at:
        try:
            charge(caller)
            charged += 1
        except CreditsExhausted:
            refused += 1
    return {"charged": charged, "refused": refused}


def charge(caller: Any) -> None:
    """Hold a credit and capture it, as conversations.chat.answer does around a provider's call."""
    # As above.
    from billing import admission
    from billing import settlement as billing

    now = timezone.now()
    with transaction.atomic():
        hold = admission.place_hold(
            caller=caller,
            amount_microcredits=CREDIT,
            now=now,
            expires_at=now + timedelta(seconds=70),
            request_id="bench",
        )
    with transaction.atomic():
        billing.capture_hold(
            hold=hold,
            charge_microcredits=CREDIT,
            now=timezone.now(),
            reason="Benchmark",
            request_id="bench",
        )


# --- The eight together -------------------------------------------------------------------------


class Crew:
    """The processes, kept over all rounds."""

    def __init__(self, stand: Stand) -> None:
        self._log = (stand.logs / "ledger.log").open("ab")
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "bench.ledger", "--worker"],
                cwd=BASE_DIR,
                env=stand.rig.env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
            )
            for _ in range(PROCESSES)
        ]
        for process in self._processes:
            self._read(process)

    def charge(self, key: str, seconds: float) -> dict[str, int]:
        """Let all of them charge at once. Returns the sums."""
        starts_at = time.time() + 0.3
        order = {"key": key, "starts_at": starts_at, "ends_at": starts_at + seconds}
        for process in self._processes:
            assert process.stdin
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        told = [json.loads(self._read(process)) for process in self._processes]
        return {name: sum(one[name] for one in told) for name in ("charged", "refused")}

    @staticmethod
    def _read(process: subprocess.Popen[str]) -> str:
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("a process of bench.ledger ended early")
        return line

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self._log.close()


def measure(kind: str, length: Length, log: RoundLog) -> list[Round]:
    """Return all rounds on one kind of database. The last round empties an account."""
    with Stand(kind) as stand, ExitStack() as ending:
        rich, poor = stand.rig.create_channels(
            [
                stand.wanted("rich@example.com", microcredits=10**9 * CREDIT),
                stand.wanted("poor@example.com", microcredits=LAST_CREDITS * CREDIT),
            ]
        )
        crew = Crew(stand)
        ending.callback(crew.close)
        crew.charge(rich.api_key, 0.5)
        rounds = []
        for number in range(length.rounds):
            progress(f"{kind}: round {number + 1} of {length.rounds}")
            rounds.append(one_round(stand, crew, rich, length.seconds))
            log.write({"kind": kind, "round": number} | rounds[-1])
        progress(f"{kind}: the account runs empty")
        crew.charge(poor.api_key, 2.0)
        empty = crew.charge(poor.api_key, length.seconds)
        taken = charged_microcredits(stand, poor)
        if taken != LAST_CREDITS * CREDIT:
            raise RuntimeError(f"{taken} micro-credits charged of {LAST_CREDITS * CREDIT}")
        rounds.append({"refusals_a_second": empty["refused"] / length.seconds})
        log.write({"kind": kind} | rounds[-1])
        progress("")
        return rounds


def one_round(stand: Stand, crew: Crew, channel: ChannelKeys, seconds: float) -> Round:
    url = stand.rig.database.url
    cpu, taken = backend_cpu_seconds(url), charged_microcredits(stand, channel)
    told = crew.charge(channel.api_key, seconds)
    cpu = backend_cpu_seconds(url) - cpu
    if charged_microcredits(stand, channel) - taken != told["charged"] * CREDIT:
        raise RuntimeError("the books and the processes do not agree")
    return {
        "charges_a_second": told["charged"] / seconds,
        "database_cpu_ms": 1000 * cpu / max(1, told["charged"]),
        "refused": told["refused"],
    }


def charged_microcredits(stand: Stand, channel: ChannelKeys) -> int:
    statement = "SELECT spent_microcredits FROM billing_creditaccount WHERE account_id = %s"
    return cast(int, value(stand.rig.database, statement, [channel.account_id]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ledger", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="half a minute; printed only")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.worker:
        work()
        return
    length = QUICK if told.quick else FULL
    method = (
        f"{length.rounds} rounds of {length.seconds:g} s, {PROCESSES} processes. "
        f"Median (lowest to highest)."
    )
    run, log = replace(record.begin("ledger"), method=method), RoundLog("ledger")
    kept = Kept(
        run, [one for kind in NAMES for one in figures_of(kind, measure(kind, length, log))]
    )
    page.show(kept, is_kept=not told.quick)


def figures_of(kind: str, rounds: list[Round]) -> Iterator[Figure]:
    *charging, empty = rounds
    name = NAMES[kind]
    yield middle(name, "charges_a_second", [one["charges_a_second"] for one in charging], 0)
    yield Figure(name, "refusals_a_second", round(empty["refusals_a_second"]))
    if kind == "pg":
        yield middle(name, "database_cpu_ms", [one["database_cpu_ms"] for one in charging])


if __name__ == "__main__":
    main()
