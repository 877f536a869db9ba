"""How long until it is ready: commands, the server, and imports.

python -m bench.start [--print-only]
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial

from bench import figures, page, record, targets
from bench.record import Figure, Kept, middle
from tests.harness import clients
from tests.harness.processes import BASE_DIR, Running, free_port, run_python, wait_until
from tests.harness.rig import Workshop

ROUNDS = 5
SLOWEST = 10
OWNER = "owner@example.com"
METHOD = f"SQLite, set up before; {ROUNDS} runs, median (lowest to highest)."
# "import time:      self | cumulative |   nested.name", in microseconds; two blanks a level.
_LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")
# Real work of each kind: reading, all checks, verifying, cleaning up, changing.
COMMANDS = (
    ("listmodels",),
    ("check",),
    ("verifyledger",),
    ("expireholds",),
    ("expiresessions",),
    ("setprice", "--model", "gemma2-9b-it", "--per-reply", "1"),
    ("grantcredits", "--owner", OWNER, "--amount", "1", "--reason", "A measurement"),
)
_LOAD = "import gateway.wsgi; from django.urls import get_resolver; get_resolver().url_patterns"


def own_commands() -> list[str]:
    return sorted(
        file.stem for file in BASE_DIR.glob("*/management/commands/*.py") if file.stem != "__init__"
    )


def command_seconds(env: Mapping[str, str], *arguments: str) -> float:
    began = time.perf_counter()
    done = run_python(["manage.py", *arguments], env=env)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return time.perf_counter() - began


def server_seconds(env: Mapping[str, str], log: str) -> float:
    """Start as `make run` does after the setup. Returns the time to the first answer."""
    port = free_port()

    def is_up() -> bool:
        return clients.request(port, "GET", "/readyz", seconds=5).status == 200

    command = [sys.executable, "scripts/serve.py", "--first-run"]
    whole = dict(env) | {"PORT": str(port), "HOST": "127.0.0.1"}
    running = Running(command, env=whole, log=BASE_DIR / log)
    try:
        return wait_until(is_up, seconds=60, what="server ready")
    finally:
        running.kill()


def slowest_imports(env: Mapping[str, str]) -> list[tuple[str, float]]:
    """Return packages and the ms spent in their own modules, the slowest first."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", _LOAD],
        env=dict(env),
        cwd=BASE_DIR,
        capture_output=True,
        text=True,
        check=True,
    )
    spent: dict[str, float] = {}
    for micros, name in _LINE.findall(done.stderr):
        parts = name.split(".")
        package = ".".join(parts[:2]) if parts[0] == "django" else parts[0]
        spent[package] = spent.get(package, 0.0) + int(micros) / 1000
    return sorted(spent.items(), key=lambda one: -one[1])


def figures_of(env: Mapping[str, str]) -> Iterator[Figure]:
    for arguments in COMMANDS:
        seconds = times(partial(command_seconds, env, *arguments))
        yield middle(f"manage.py {arguments[0]}", "seconds", seconds)
    helps = {name: times(partial(command_seconds, env, name, "--help")) for name in own_commands()}
    slowest = max(helps, key=lambda name: statistics.median(helps[name]))
    case = f"--help of {slowest}, the slowest of {len(helps)}"
    yield middle(case, "seconds", helps[slowest])
    server = times(lambda: server_seconds(env, "var/bench/start.log"))
    yield middle("server ready", "seconds", server)
    imports = [slowest_imports(env) for _ in range(3)]
    total = [sum(ms for _, ms in one) / 1000 for one in imports]
    yield middle("all imports", "seconds", total)
    best = min(imports, key=lambda one: sum(ms for _, ms in one))
    for name, ms in best[:SLOWEST]:
        yield Figure(f"import {name}", "own_ms", round(ms))


def times(measure: Callable[[], float]) -> list[float]:
    measure()
    return [measure() for _ in range(ROUNDS)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.start")
    parser.add_argument("--print-only", action="store_true", help="do not append the result")
    told = parser.parse_args()
    run = replace(record.begin("start"), method=METHOD)
    figures.RESULTS_DIR.mkdir(parents=True, exist_ok=True)
    with closing(Workshop()) as workshop:
        data = workshop.folder / "data"
        data.mkdir(exist_ok=True)
        env = workshop.env | {"DATABASE_URL": "", "DATA_DIR": str(data)}
        env["PYTHONPATH"] = os.fspath(BASE_DIR)
        server_seconds(env, "var/bench/start.log")
        command_seconds(env, "createchannel", "--owner", OWNER, "--name", "A shop")
        kept = Kept(run, list(figures_of(env)))
    page.show(kept, is_kept=not told.print_only)
    return 1 if targets.missed(kept) else 0


if __name__ == "__main__":
    sys.exit(main())
