"""B2: after any sequence of movements the books match a plain model. Run by pytest."""

from __future__ import annotations

import re

from acceptance.checks import Run
from tests.harness.databases import Postgres
from tests.harness.processes import run_python

RUNS = 10_000
RUNS_SHORT = 500
RUNS_AT_LEAST = 200
STEPS = 50
MUST_BE_REACHED = (
    "capture",
    "partial_capture",
    "late_capture_refused",
    "expired_holds",
    "grants_taken_back",
    "grant_replayed",
    "second_resolution_refused",
    "ledger_change_refused",
)


def check(run: Run) -> None:
    workshop = run.workshop
    database = workshop.stock.new(run.kind)
    try:
        if isinstance(database, Postgres):
            # This check does not test whether a commit survives a power cut.
            database.alter("synchronous_commit", "off")
        runs = max(run.count(RUNS, short=RUNS_SHORT), RUNS_AT_LEAST)
        env = workshop.env | {
            "DATABASE_URL": database.url,
            "ACCEPTANCE_SEED": str(run.seed),
            "ACCEPTANCE_RUNS": str(runs),
            "ACCEPTANCE_STEPS": str(STEPS),
        }
        arguments = [
            "-m",
            "pytest",
            "acceptance/test_b2.py",
            "-p",
            "no:randomly",
            "-p",
            "no:logging",
        ]
        done = run_python([*arguments, "-rA", "--show-capture=stdout"], env=env, seconds=7200)
        (run.folder / "pytest.log").write_text(done.stdout + done.stderr)
        run.report.expect(not done.returncode, f"pytest: {done.stdout[-3000:]}")
        run.report.figure("runs", f"{runs} of at most {STEPS} steps")
        expect_all_reached(run, done.stdout, is_expected=runs >= RUNS_SHORT)
    finally:
        database.drop()


def expect_all_reached(run: Run, output: str, *, is_expected: bool) -> None:
    """Expect every case to be reached: a machine that skips a case has proved nothing about it."""
    counts = {name: int(n) for name, n in re.findall(r"^FIGURE (\w+) (\d+)$", output, re.MULTILINE)}
    run.report.figure("movements", sum(counts.values()))
    for name in MUST_BE_REACHED:
        run.report.figure(name, counts.get(name, 0))
        run.report.expect(counts.get(name) or not is_expected, f"no run reached: {name}")
