"""Runs the checks: see `python -m acceptance --help`."""

from __future__ import annotations

import argparse
import secrets
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from random import Random
from typing import NoReturn

from acceptance import (
    b01_oversell,
    b02_state_machine,
    b03_slow_race,
    b04_faults,
    b05_hang_ups,
    b06_kill,
    b07_idempotency,
    b08_quota_day,
    b09_rate,
    b10_books,
    r07_one_session,
)
from acceptance.checks import Check, Run
from acceptance.processes import BASE_DIR
from acceptance.rig import Workshop

CHECKS = [
    Check("B1", "oversell", b01_oversell.check),
    Check("B2", "state machine", b02_state_machine.check),
    Check("B3", "slow-call race", b03_slow_race.check),
    Check("B4", "provider faults", b04_faults.check),
    Check("B5", "hang-ups", b05_hang_ups.check),
    Check("B6", "kill -9", b06_kill.check, is_calm=True),
    Check("B7", "idempotency", b07_idempotency.check),
    Check("B8", "quota day", b08_quota_day.check, is_calm=True),
    Check("B9", "rate limit", b09_rate.check, is_calm=True),
    Check("B10", "reconciliation", b10_books.check),
    Check("R7", "one session", r07_one_session.check),
]
LOGS = BASE_DIR / "var" / "acceptance"
_printing = threading.Lock()


def say(text: str) -> None:
    with _printing:
        print(text, flush=True)


def run_check(check: Check, kind: str, options: argparse.Namespace, workshop: Workshop) -> bool:
    """Run one check on one database and print its line; return whether it passed."""
    seed = Random(f"{options.seed} {check.id} {kind}").getrandbits(31)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = LOGS / f"{stamp}-{check.id}-{kind}"
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(kind, seed, options.long, workshop, folder)
    say(f"....  {check.id:4}{kind:7}{check.title}")
    started = time.monotonic()
    try:
        check.function(run)
    except Exception as error:  # noqa: BLE001  # whatever ends a check is its failure
        (folder / "traceback.log").write_text(traceback.format_exc())
        run.report.failures.append(f"{type(error).__name__}: {error}")
    say(describe(check, run, time.monotonic() - started))
    if run.report.failures:
        (folder / "failures.log").write_text("\n".join(run.report.failures))
    else:
        shutil.rmtree(folder)
    return not run.report.failures


def describe(check: Check, run: Run, seconds: float) -> str:
    """Return the line of a check that has ended, and a line for each thing that was wrong."""
    verdict = "FAIL" if run.report.failures else "PASS"
    figures = ", ".join(f"{name} {figure}" for name, figure in run.report.figures.items())
    lines = [f"{verdict}  {check.id:4}{run.kind:7}{seconds:6.1f} s  seed {run.seed}  {figures}"]
    lines += [f"      pending: {text}" for text in run.report.pending]
    lines += [f"      {text[:1500]}" for text in run.report.failures]
    if run.report.failures:
        lines.append(f"      logs: {run.folder.relative_to(BASE_DIR)}")
    return "\n".join(lines)


def run_all(options: argparse.Namespace, workshop: Workshop) -> list[str]:
    """Run the chosen checks, the calm ones beside the others; return the names of the failed."""
    kinds = ["pg", "sqlite"] if options.database == "both" else [options.database]
    wanted = {name.strip().upper() for name in options.only.split(",") if name.strip()}
    chosen = [
        (check, kind) for check in CHECKS if not wanted or check.id in wanted for kind in kinds
    ]
    for kind in kinds:
        workshop.stock.new(kind).drop()  # migrates the template before anything is timed
    lanes = [[pair for pair in chosen if pair[0].is_calm is is_calm] for is_calm in (False, True)]

    def run_lane(lane: Iterable[tuple[Check, str]]) -> list[str]:
        return [
            f"{check.id} {kind}"
            for check, kind in lane
            if not run_check(check, kind, options, workshop)
        ]

    with ThreadPoolExecutor(len(lanes)) as pool:
        return [name for failed in pool.map(run_lane, lanes) for name in failed]


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m acceptance", description="Check the product's promises by their ids."
    )
    parser.add_argument("--database", choices=["pg", "sqlite", "both"], default="both")
    parser.add_argument("--only", default="", metavar="B3,B9", help="these checks alone")
    parser.add_argument("--long", action="store_true", help="the full counts, for `make soak`")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    return parser.parse_args()


def stop(number: int, _: object) -> NoReturn:
    """End as an exception, so that every process and database is cleaned up."""
    raise SystemExit(128 + number)


def main() -> None:
    options = parse_options()
    signal.signal(signal.SIGTERM, stop)
    say(f"seed {options.seed}: repeat with --seed {options.seed}{' --long' * options.long}")
    started = time.monotonic()
    with closing(Workshop()) as workshop:
        failed = run_all(options, workshop)
    words = f"FAILED: {', '.join(failed)}" if failed else "All passed"
    say(f"{words} in {time.monotonic() - started:.0f} s.")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
