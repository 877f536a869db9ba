"""Compare this checkout with another commit, in turns of a hundred chats: which costs more?

    python -m bench.pair HEAD~1 [--rounds 40] [--endpoint v1] [--streams] [--keep]

The machine's speed drifts by half within minutes, so figures of two runs say little. Here each
version has its own process and database, and they take turns of a tenth of a second. Both see the
same drift, and the result is the ratio. Both use this checkout's tables.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import figures, micro, page, record
from bench.figures import progress
from bench.load import Plan, Requests
from bench.micro import API_PREFIXES, one_request
from bench.record import Figure, Kept
from bench.stand import Stand
from server.slots import Slots
from tests.harness.costs import backend_cpu_seconds
from tests.harness.processes import BASE_DIR
from tests.harness.rig import first_model

CHATS = 80
# Each takes as long as the pauses between its 50 pieces, whatever it costs.
STREAMS = 20
STREAM_GAP_MS = 1
WARMING = 100
ROUNDS = 40
PATHS = {"chat": "/api/chat", "v1": "/v1/chat/completions"}


class Version:
    """A process that answers chats with one checkout's code, on request."""

    def __init__(self, stand: Stand, root: Path, plan: Mapping[str, Any]) -> None:
        self._url = stand.rig.database.url
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, json.dumps(plan)],
            cwd=root,
            env=dict(stand.rig.env) | {"PYTHONPATH": str(root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.turn(WARMING)

    def turn(self, chats: int) -> tuple[float, float]:
        """Answer `chats` chats. Returns CPU ms of each: the gateway's and PostgreSQL's."""
        assert self._process.stdin
        assert self._process.stdout
        before = backend_cpu_seconds(self._url)
        self._process.stdin.write(f"{chats}\n")
        self._process.stdin.flush()
        told = self._process.stdout.readline()
        if not told:
            raise SystemExit(f"A chat failed in {self._process.args!r}.")
        database = backend_cpu_seconds(self._url) - before
        return 1000 * float(told) / chats, 1000 * database / chats

    def end(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(30)


# Runs in either checkout, with that one's product. The measuring code is this checkout's in both,
# so it may use only what an older product also has.
CHILD = f"""
import sys
from importlib.util import module_from_spec, spec_from_file_location
sys.path.insert(0, ".")
for name in ("bench", "tests"):
    path = {str(BASE_DIR)!r} + "/" + name
    spec = spec_from_file_location(name, path + "/__init__.py", submodule_search_locations=[path])
    sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
from bench import pair
pair.answer(sys.argv[1])
"""


def answer(plan: str) -> None:
    """Answer as many chats as each line of standard input says. Prints the seconds of CPU.

    Of all threads, because a stream's call runs on a separate one.
    """
    ask = asker(json.loads(plan))
    for number, line in enumerate(sys.stdin):
        started = time.process_time()
        for chat in range(int(line)):
            ask(number, chat)
        print(time.process_time() - started, flush=True)


def asker(plan: dict[str, Any]) -> Callable[[int, int], bytes]:
    """Set up the gateway in this process. Returns a function (caller, chat) that asks it."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
    django.setup()
    # It reads the settings, which only the process inside has.
    from gateway.wsgi import application

    slots = Slots(application, 64, quick=API_PREFIXES)

    def server(environ: dict[str, Any], start_response: Any) -> Any:
        return slots(environ | {"PATH_INFO": plan["path"]}, start_response)

    return functools.partial(one_request, server, Requests(Plan(**plan)))


def plan_of(stand: Stand, endpoint: str, *, is_stream: bool) -> dict[str, Any]:
    """Return what to ask: a chat in a session's turns, or a completion of a single message."""
    plan = stand.plan(connections=1, run="pair", message=micro.MESSAGE, is_stream=is_stream)
    plan["path"] = PATHS[endpoint]
    if endpoint == "v1":
        messages = [{"role": "user", "content": micro.MESSAGE}]
        asked = {"model": first_model(stand.rig), "messages": messages, "stream": is_stream}
        key = plan["keys"][0]
        plan |= {"keys": [], "direct_body": json.dumps(asked), "direct_headers": {"X-API-Key": key}}
    return plan


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """Check a commit out into a folder, for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="gateway-pair-") as folder:
        root = Path(folder) / "checkout"
        git = ["git", "-C", str(BASE_DIR), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(root), commit], check=True)
        try:
            yield root
        finally:
            subprocess.run([*git, "remove", "--force", str(root)], check=True)


def measure(
    commit: str, rounds: int, endpoint: str, *, is_stream: bool
) -> tuple[list[tuple[float, float]], ...]:
    """Return the figures of every turn, of the other commit and of this checkout."""
    turns: tuple[list[tuple[float, float]], ...] = ([], [])
    with ExitStack() as ending:
        roots = [ending.enter_context(checkout(commit)), BASE_DIR]
        stands = [ending.enter_context(Stand("pg")) for _ in roots]
        versions = []
        for stand, root in zip(stands, roots, strict=True):
            stand.provider.set_gap(STREAM_GAP_MS)
            versions.append(Version(stand, root, plan_of(stand, endpoint, is_stream=is_stream)))
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}")
            for which in (0, 1) if number % 2 else (1, 0):
                turns[which].append(versions[which].turn(STREAMS if is_stream else CHATS))
        for version in versions:
            version.end()
    progress("")
    return turns


def figures_of(
    case: str, before: Sequence[tuple[float, float]], now: Sequence[tuple[float, float]]
) -> Iterator[Figure]:
    """Yield what each version costs: means over all turns, and quartiles of the ratio by turn."""
    for at, name in enumerate(("gateway", "PostgreSQL")):
        old, new = ([turn[at] for turn in turns] for turns in (before, now))
        ratios = [n / o for o, n in zip(old, new, strict=True) if o]
        low, middle, high = (round(one, 3) for one in statistics.quantiles(ratios, n=4))
        means = statistics.mean(old), statistics.mean(new)
        yield Figure(case, f"{name} before_cpu_ms", round(means[0], 3))
        yield Figure(case, f"{name} now_cpu_ms", round(means[1], 3))
        yield Figure(case, f"{name} ratio", round(means[1] / means[0], 3))
        yield Figure(case, f"{name} ratio_by_turn", middle, low, high)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.pair")
    parser.add_argument("commit", help="the commit to compare this checkout with, such as HEAD~1")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--endpoint", choices=PATHS, default="chat")
    parser.add_argument("--streams", action="store_true", help="streams of 50 pieces")
    parser.add_argument("--keep", action="store_true", help="append the result to docs/data")
    told = parser.parse_args()
    what = f"{STREAMS} streams" if told.streams else f"{CHATS} plain answers"
    method = f"{told.rounds} turns of {what} of {PATHS[told.endpoint]}. Low and high are quartiles."
    begun = replace(record.begin("pair"), method=method)
    turns = measure(told.commit, told.rounds, told.endpoint, is_stream=told.streams)
    case = f"{figures.short(told.commit)}, {'streams' if told.streams else 'plain'}"
    page.show(Kept(begun, list(figures_of(case, *turns))), is_kept=told.keep)


if __name__ == "__main__":
    main()
