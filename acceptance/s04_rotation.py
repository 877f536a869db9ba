"""S4: all three secrets rotate under load without a failure; an interrupted rotation resumes."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from acceptance.checks import Run
from acceptance.rig import Rig
from tests.harness.clients import Answer, Client, request, tally
from tests.harness.databases import value
from tests.harness.processes import Running, run_python, wait_until
from tests.harness.rig import CREDIT, Server, new_secrets

CHANNELS = 10_000
RATE = 50
CLIENTS = 16
RING, PEPPER, SECRET_KEY = "ENCRYPTION_KEYS", "KEY_DIGEST_PEPPER", "SECRET_KEY"


@dataclass(slots=True)
class Traffic:
    """Calls at a steady rate to the running gateways, with the keys of all channels."""

    keys: list[str]
    targets: list[Server]
    answers: list[Answer] = field(default_factory=list)

    @contextmanager
    def flowing(self) -> Iterator[None]:
        stop = threading.Event()
        turns = itertools.count()

        def call() -> None:
            while not stop.is_set():
                turn = next(turns)
                time.sleep(max(0.0, began + turn / RATE - time.monotonic()))
                key, targets = self.keys[turn * 7919 % len(self.keys)], self.targets
                client = Client(targets[turn % len(targets)].port, key)
                self.answers.append(client.chat("hello", f"s{turn}"))

        began = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as pool:
            for _ in range(CLIENTS):
                pool.submit(call)
            try:
                yield
            finally:
                stop.set()


def check(run: Run) -> None:
    with run.rig() as rig:
        first = rig.start_server(workers=1)
        like = rig.create_channel(microcredits=10**6 * CREDIT)
        count = run.count(CHANNELS, short=2_000)
        keys = rig.inside(
            "acceptance.secret_worker.fill", {"like": like.channel_id, "count": count}
        )
        cookie = rig.inside("acceptance.secret_worker.log_in", None)
        new = {**new_secrets(), "old": rig.env[RING].partition(":")[0]}
        new[RING] = new[RING].replace("k1:", "k2:")
        traffic = Traffic([*keys, like.api_key], [first])
        rounds = [[RING], [PEPPER], [SECRET_KEY]] if run.is_long else [[RING, PEPPER, SECRET_KEY]]
        began = time.monotonic()
        with traffic.flowing():
            for settings in rounds:
                rotate(run, rig, traffic, settings, new, cookie)
        run.report.figure("calls", tally(traffic.answers))
        run.report.figure("a second", len(traffic.answers) / (time.monotonic() - began))
        strange = [answer for answer in traffic.answers if answer.status != 200]
        run.report.expect(not strange, f"while rotating: {tally(strange)} {strange[:1]}")
        needed = rig.inside("acceptance.secret_worker.secrets_in_use", None)
        run.report.figure("rows", {setting: sum(needed[setting].values()) for setting in needed})
        run.report.expect_equal("keys of the ring in use", list(needed[RING]), ["k2"])
        run.report.expect_equal("peppers in use", len(needed[PEPPER]), 1)


def rotate(
    run: Run, rig: Rig, traffic: Traffic, settings: list[str], new: dict[str, str], cookie: str
) -> None:
    """Add the new secrets, swap, rewrite, drop the old ones. Gateways come and go meanwhile."""
    old = {name: rig.env[name] for name in settings}
    added = replace(rig, traffic, {k: v for s in settings for k, v in behind(s, old[s], new[s])})
    swapped = {k: v for s in settings for k, v in behind(s, new[s], old[s])}
    # Old and new gateways serve side by side while everything is rewritten.
    rig.env |= swapped
    traffic.targets = [added, rig.start_server(workers=1)]
    for server in traffic.targets:
        expect_logged_in(run, server, cookie, is_so=True)
    if RING in settings or PEPPER in settings:
        expect_refused_without_the_old(run, rig, settings, new)
        kill_in_the_middle(run, rig)
        began = time.monotonic()
        rig.manage("rotatekeys", "--json")
        run.report.figure("rotated after the kill in_s", time.monotonic() - began)
    alone = {k: v for s in settings for k, v in behind(s, new[s], "")}
    last = replace(rig, traffic, alone)
    drain(added)
    if SECRET_KEY in settings:
        expect_logged_in(run, last, cookie, is_so=False)


def behind(setting: str, first: str, second: str) -> list[tuple[str, str]]:
    """Return the settings that write with one value, and read the other too."""
    if setting == RING:
        return [(RING, ",".join(filter(None, (first, second))))]
    return [(setting, first), (f"{setting}_FALLBACKS", second)]


def replace(rig: Rig, traffic: Traffic, changes: dict[str, str]) -> Server:
    """Start a gateway with changed settings, send the calls there, and stop the last one."""
    rig.env |= changes
    server, last = rig.start_server(workers=1), traffic.targets[-1]
    traffic.targets = [server]
    drain(last)
    return server


def drain(server: Server) -> None:
    """Stop a gateway that gets no more calls. It answers the calls in flight first."""
    time.sleep(0.5)  # a caller may have chosen it a moment ago
    os.kill(server.running.pid, signal.SIGTERM)
    server.running.process.wait(60)
    server.kill()


def expect_refused_without_the_old(
    run: Run, rig: Rig, settings: list[str], new: dict[str, str]
) -> None:
    """Expect that a start without a secret that rows need refuses, and names the secret."""
    for setting in settings:
        if setting == SECRET_KEY:
            continue
        lacking = rig.env | dict(behind(setting, new[setting], ""))
        done = run_python(["manage.py", "check", "--database", "default"], env=lacking)
        words = f"'{new['old']}', which is not in {RING}" if setting == RING else f"{PEPPER} is not"
        run.report.expect(done.returncode, f"started without the old {setting}")
        run.report.expect(words in done.stderr, f"without {setting}: {done.stderr[-300:]}")


def kill_in_the_middle(run: Run, rig: Rig) -> None:
    """kill -9 a rotation once it has rewritten something."""
    changed = f"SELECT COUNT(*) FROM channels_apikey WHERE {_UNDER_THE_NEWEST}"
    command = [sys.executable, "manage.py", "rotatekeys"]
    asked = [rig.env[RING].partition(":")[0], _pepper_id(rig)]
    before = value(rig.database, changed, asked)
    rotation = Running(command, env=rig.env, log=rig.logs / "rotation.log")
    wait_until(
        lambda: value(rig.database, changed, asked) > before or rotation.process.poll() is not None,
        seconds=60,
        what="a rotation rewrites",
        pause=0.005,
    )
    rotation.kill()
    run.report.figure("rewritten before the kill", value(rig.database, changed, asked) - before)


_UNDER_THE_NEWEST = "encryption_key_id = %s AND pepper_id = %s"


def _pepper_id(rig: Rig) -> str:
    return str(rig.inside("acceptance.secret_worker.pepper_id", None))


def expect_logged_in(run: Run, server: Server, cookie: str, *, is_so: bool) -> None:
    """Expect earlier log-ins to last while the old SECRET_KEY is a fallback, and no longer."""
    answer = request(server.port, "GET", "/", headers={"Cookie": f"sessionid={cookie}"})
    is_sent_to_log_in = answer.headers.get("location", "").startswith("/accounts/login/")
    run.report.expect_equal("sent to the log-in page", is_sent_to_log_in, not is_so)
