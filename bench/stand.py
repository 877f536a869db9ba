"""The test stand: a private database with channels in it, and the cheap provider."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.load import Figures, Plan
from tests.harness import clients
from tests.harness.processes import HOST, Running, run_python
from tests.harness.rig import Rig, Wanted, Workshop

CHANNELS = 100
# From 1 to 10 kB, equally many of each.
PROMPT_CHARACTERS = (1_000, 2_500, 5_000, 10_000)
PROMPT_TEXT = "You answer for a shop that sells lamps. Be brief, be kind, never promise a date. "
CREDITS_MICRO = 10**15


def prompt_of(characters: int) -> str:
    return (PROMPT_TEXT * (characters // len(PROMPT_TEXT) + 1))[:characters]


class Stand:
    """Everything a benchmark needs besides the gateway itself. The end removes all of it."""

    def __init__(
        self,
        kind: str = "pg",
        settings: Mapping[str, str] | None = None,
        channels: int = CHANNELS,
    ) -> None:
        self._kind = kind
        self._channels = channels
        self._settings = dict(settings or {})
        self._ending = ExitStack()
        self.keys: list[str] = []

    def __enter__(self) -> Stand:
        with ExitStack() as ending:
            folder = ending.enter_context(tempfile.TemporaryDirectory(prefix="gateway-bench-"))
            self.logs = Path(folder)
            self.provider = Provider(self.logs / "provider.log")
            ending.callback(self.provider.running.kill)
            workshop = ending.enter_context(closing(Workshop()))
            settings = {"PROVIDER_BASE_URL": self.provider.url} | self._settings
            database = workshop.stock.new(self._kind)
            rig = Rig(workshop, database, self.logs, self.logs, settings)
            self.rig = ending.enter_context(closing(rig))
            self.keys = self._create_channels()
            self._ending = ending.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending.close()

    def _create_channels(self) -> list[str]:
        channels = [
            self.wanted(
                f"owner{number}@example.com",
                system_prompt=prompt_of(PROMPT_CHARACTERS[number % len(PROMPT_CHARACTERS)]),
            )
            for number in range(self._channels)
        ]
        return [made.api_key for made in self.rig.create_channels(channels)]

    @staticmethod
    def wanted(owner: str, *, microcredits: int = CREDITS_MICRO, system_prompt: str = "") -> Wanted:
        """Return a channel that only its credits limit."""
        return Wanted(owner=owner, microcredits=microcredits, system_prompt=system_prompt)

    def plan(self, *, connections: int, run: str, message: str, **more: Any) -> dict[str, Any]:
        """Return a load plan through the gateway. `port` is that of a server, if there is one."""
        port = self.rig.servers[0].port if self.rig.servers else 0
        plan = Plan(
            port=port,
            connections=connections,
            seconds=more.pop("seconds", 0.0),
            path="/api/chat",
            keys=self.keys,
            message=message,
            run=run,
            **more,
        )
        return self.as_dict(plan)

    @staticmethod
    def as_dict(plan: Plan) -> dict[str, Any]:
        return asdict(plan)


class Provider:
    """The cheap provider's process."""

    def __init__(self, log: Path) -> None:
        command = [sys.executable, "-m", "bench.mock"]
        self.running = Running(command, env=os.environ, log=log, stdout=subprocess.PIPE)
        assert self.running.process.stdout
        self.port = int(self.running.process.stdout.readline() or 0)
        self.url = f"http://{HOST}:{self.port}/v1"

    def set_latency(self, milliseconds: int) -> None:
        clients.request(self.port, "POST", f"/latency/{milliseconds}", body=b"-")

    def set_gap(self, milliseconds: int) -> None:
        """Set the wait between two pieces of a stream."""
        clients.request(self.port, "POST", f"/gap/{milliseconds}", body=b"-")


def run_load(plan: Mapping[str, Any]) -> Figures:
    """Run a load plan in a new process."""
    done = run_python(["-m", "bench.load"], env=os.environ, stdin=json.dumps(plan))
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return Figures(**json.loads(done.stdout))
