"""S5: every process refuses what is revoked or switched off; overlaps end to the second."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from acceptance.checks import Run
from acceptance.rig import Rig
from tests.harness.clients import request
from tests.harness.rig import CREDIT, ChannelKeys, Server

WITHIN_SECONDS = 1.0
OVERLAP_SECONDS = 4
CLIENTS = 8
# The answer to a request after each action.
DEEDS = {"revoke": 401, "channel": 403, "account": 403, "rotate": 401}


@dataclass(slots=True)
class Asked:
    """One request, timed by the wall clock, because overlaps are counted by it."""

    started: float
    ended: float
    status: int


@dataclass(slots=True)
class Questions:
    """The same key, asked for again and again at all processes of two gateways."""

    servers: list[Server]
    channel: ChannelKeys
    asked: list[Asked] = field(default_factory=list)

    @contextmanager
    def flowing(self) -> Iterator[None]:
        stop = threading.Event()

        def ask(number: int) -> None:
            server = self.servers[number % len(self.servers)]
            while not stop.is_set():
                started = time.time()
                # A new connection each time, so that the kernel spreads them over the processes.
                headers = {"X-API-Key": self.channel.api_key}
                answer = request(server.port, "GET", "/api/key", headers=headers)
                self.asked.append(Asked(started, time.time(), answer.status))
                time.sleep(0.03)

        with ThreadPoolExecutor(CLIENTS) as pool:
            for number in range(CLIENTS):
                pool.submit(ask, number)
            try:
                yield
            finally:
                stop.set()


def check(run: Run) -> None:
    with run.rig({"DATABASE_POOL_SIZE": "4"}) as rig:
        servers = [rig.start_server(), rig.start_server()]
        for deed, status in DEEDS.items():
            channel = rig.create_channel(owner=f"{deed}@example.com", microcredits=CREDIT)
            questions = Questions(servers, channel)
            with questions.flowing():
                time.sleep(0.5)
                ended_at = shut(rig, channel, deed)
                time.sleep(max(0.0, ended_at - time.time()) + 2 * WITHIN_SECONDS)
            judge(run, deed, status, questions.asked, ended_at)


def shut(rig: Rig, channel: ChannelKeys, deed: str) -> float:
    wanted = {"deed": deed, "channel_id": channel.channel_id, "seconds": OVERLAP_SECONDS}
    return float(rig.inside("acceptance.secret_worker.shut", wanted))


def judge(run: Run, deed: str, status: int, asked: list[Asked], ended_at: float) -> None:
    """Expect no refusal before the action, and none accepted too long after it."""
    strange = {one.status for one in asked} - {200, status}
    run.report.expect(not strange, f"{deed}: answers {strange}")
    taken = [one.started for one in asked if one.status == 200]
    late = max(taken, default=0.0) - ended_at
    run.report.figure(f"{deed}: taken last at_s", late)
    # An overlap is judged at its very end: each request by its own moment.
    allowed = 0.0 if deed == "rotate" else WITHIN_SECONDS
    run.report.expect(late <= allowed, f"{deed}: taken {late:.3f} s after")
    if deed == "rotate":
        early = [one for one in asked if one.status == status and one.ended < ended_at]
        run.report.expect(not early, f"{len(early)} were refused before the overlap's end")
    refused = [one for one in asked if one.status == status]
    run.report.expect(refused, f"{deed}: never refused")
