"""Runs the checks: see `python -m acceptance --help`."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import sys
import threading
import time
import traceback
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
    b11_caps,
    r02_database_restart,
    r03_slow_provider,
    r04_deadlines,
    r05_no_storms,
    r06_bodies,
    r07_one_session,
    r08_deploy,
    r10_isolation,
    s03_crypto,
    s04_rotation,
    s05_revocation,
    s06_key_path,
    s07_ssrf,
)
from acceptance.checks import Check, Run
from tests.harness import databases, own_postgres, processes
from tests.harness.processes import BASE_DIR
from tests.harness.rig import Workshop

B1 = Check("B1", "oversell", b01_oversell.check)
B2 = Check("B2", "state machine", b02_state_machine.check)
B3 = Check("B3", "slow-call race", b03_slow_race.check)
B4 = Check("B4", "provider faults", b04_faults.check)
B5 = Check("B5", "hang-ups", b05_hang_ups.check)
B6 = Check("B6", "kill -9", b06_kill.check)
B7 = Check("B7", "idempotency", b07_idempotency.check)
B8 = Check("B8", "quota day", b08_quota_day.check)
B9 = Check("B9", "rate limit", b09_rate.check)
B10 = Check("B10", "reconciliation", b10_books.check)
B11 = Check("B11", "spend caps", b11_caps.check)
R2 = Check("R2", "PostgreSQL restart", r02_database_restart.check, kinds=("pg",))
R3 = Check("R3", "slow provider", r03_slow_provider.check, kinds=("pg",))
R4 = Check("R4", "deadline, caps", r04_deadlines.check)
R5 = Check("R5", "no storms", r05_no_storms.check)
R6 = Check("R6", "bodies", r06_bodies.check, kinds=("pg",))
R7 = Check("R7", "one session", r07_one_session.check)
R8 = Check("R8", "deploy", r08_deploy.check, kinds=("pg",))
S3 = Check("S3", "crypto", s03_crypto.check)
S4 = Check("S4", "rotation", s04_rotation.check)
S5 = Check("S5", "revocation", s05_revocation.check)
S6 = Check("S6", "key path", s06_key_path.check)
S7 = Check("S7", "SSRF", s07_ssrf.check)
R10 = Check("R10", "isolation", r10_isolation.check)
# Stages run one after the other. The lanes of a stage run side by side: checks that use the
# processor beside checks that mostly wait, and checks judged by time beside light ones.
Stages = list[tuple[list[Check], ...]]
# These need the machine to themselves. B1 is judged by its seconds. In B3 and B11, 200 messages at
# once must be refused within the two seconds of a call. R3 and R4 are judged by milliseconds, R6 by
# milliseconds or memory.
ALONE: Stages = [
    ([B1],),
    ([B3],),
    ([B11],),
    ([R3],),
    ([R6, R4],),
]
SHARED: Stages = [
    # B4 is judged by a second, so it runs after the floods of B9 and the restarts of R2.
    ([B5, B7, B4, R7], [R2, B8], [B9]),
    ([B2, B10], [B6, R8], [R5, S7, R10]),
    ([S4, S3], [S5, S6]),
]
STAGES = {"all": [*ALONE, *SHARED], "alone": ALONE, "shared": SHARED}
CHECKS = {check.id: check for lanes in STAGES["all"] for lane in lanes for check in lane}
KINDS = {"pg": ["pg"], "sqlite": ["sqlite"], "both": ["pg", "sqlite"]}
LOGS = BASE_DIR / "var" / "acceptance"
_printing = threading.Lock()


def say(text: str) -> None:
    with _printing:
        print(text, flush=True)


def run_check(check: Check, kind: str, options: argparse.Namespace, workshop: Workshop) -> bool:
    """Run one check on one database and print its line. Returns whether it passed."""
    seed = Random(f"{options.seed} {check.id} {kind}").getrandbits(31)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = LOGS / f"{stamp}-{check.id}-{kind}"
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(kind, seed, options.long, workshop, folder)
    say(f"....  {check.id:4}{kind:7}{check.title}")
    started = time.monotonic()
    try:
        check.function(run)
    except Exception as error:  # noqa: BLE001  # any exception means that the check failed
        (folder / "traceback.log").write_text(traceback.format_exc())
        run.report.failures.append(f"{type(error).__name__}: {error}")
    say(describe(check, run, time.monotonic() - started))
    if run.report.failures:
        (folder / "failures.log").write_text("\n".join(run.report.failures))
    else:
        shutil.rmtree(folder)
    return not run.report.failures


def describe(check: Check, run: Run, seconds: float) -> str:
    """Return the line of a finished check, and a line for each failure."""
    verdict = "FAIL" if run.report.failures else "PASS"
    figures = ", ".join(f"{name} {figure}" for name, figure in run.report.figures.items())
    load = f"load {os.getloadavg()[0]:.1f}"
    head = f"{verdict}  {check.id:4}{run.kind:7}{seconds:6.1f} s  seed {run.seed}  {load}"
    lines = [f"{head}  {figures}"]
    lines += [f"      pending: {text}" for text in run.report.pending]
    lines += [f"      {text[:1500]}" for text in run.report.failures]
    if run.report.failures:
        lines.append(f"      logs: {run.folder.relative_to(BASE_DIR)}")
    return "\n".join(lines)


def run_all(options: argparse.Namespace, workshop: Workshop) -> list[str]:
    """Run the chosen checks, stage by stage. Returns the names of those that failed."""
    kinds = KINDS[options.database]
    for kind in kinds:
        workshop.stock.new(kind).drop()  # migrates the template before any timing starts

    def run_lane(lane: list[Check]) -> list[str]:
        return [
            f"{check.id} {kind}"
            for check in lane
            if not options.only or check.id in options.only
            for kind in kinds
            if kind in check.kinds
            if not run_check(check, kind, options, workshop)
        ]

    failed: list[str] = []
    for lanes in STAGES[options.stages]:
        with ThreadPoolExecutor(len(lanes)) as pool:
            failed += [name for names in pool.map(run_lane, lanes) for name in names]
    return failed


def known_ids(text: str) -> set[str]:
    """Parse a list of ids. Refuses unknown ones, because a check that never ran would pass."""
    wanted = {name.strip().upper() for name in text.split(",") if name.strip()}
    if unknown := wanted - set(CHECKS):
        known = sorted(CHECKS, key=lambda name: (name[0], int(name[1:])))
        words = f"no check {', '.join(sorted(unknown))}; there are {', '.join(known)}"
        raise argparse.ArgumentTypeError(words)
    return wanted


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m acceptance", description="Check the product's promises by their ids."
    )
    parser.add_argument("--database", choices=KINDS, default="both")
    parser.add_argument(
        "--only", type=known_ids, default="", metavar="B3,B9", help="run only these checks"
    )
    parser.add_argument(
        "--stages",
        choices=STAGES,
        default="all",
        help="only checks that need the machine to themselves, or only the others",
    )
    parser.add_argument("--long", action="store_true", help="the full counts, for `make soak`")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    options = parser.parse_args()
    chosen = {check.id for lanes in STAGES[options.stages] for lane in lanes for check in lane}
    for name in sorted(options.only):
        if name not in chosen:
            parser.error(f"{name} does not run with --stages {options.stages}")
        if not set(CHECKS[name].kinds) & set(KINDS[options.database]):
            parser.error(f"{name} does not apply to {options.database}")
    return options


def clean_up_when_stopped(workshop: Workshop) -> None:
    """On Ctrl+C or SIGTERM, end every process, drop every database, and exit."""

    def stop(number: int, _: object) -> NoReturn:
        # Ignore further signals: the first one holds locks that a second one would wait for.
        for other in (signal.SIGINT, signal.SIGTERM):
            signal.signal(other, signal.SIG_IGN)
        own_postgres.end_all()
        processes.end_all()
        databases.drop_all()
        processes.end_all()  # processes that a lane was just starting
        shutil.rmtree(workshop.folder, ignore_errors=True)
        # The lanes still wait for servers that are gone.
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def main() -> None:
    options = parse_options()
    say(f"seed {options.seed}: repeat with --seed {options.seed}{' --long' * options.long}")
    started = time.monotonic()
    with closing(Workshop()) as workshop:
        clean_up_when_stopped(workshop)
        failed = run_all(options, workshop)
    words = f"FAILED: {', '.join(failed)}" if failed else "All passed"
    say(f"{words} in {time.monotonic() - started:.0f} s.")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
