"""What a check runs against: database, provider, and gateway, each a real process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tests.harness import clients, rig
from tests.harness.databases import Database
from tests.harness.processes import HOST, Running
from tests.harness.rig import Workshop

# The gateway's probe of a route, as the mock sees it.
PROBE = "Reply with the single word: pong"


@dataclass(frozen=True, slots=True)
class Called:
    """A call that reached the mock provider, at a time.monotonic() of this machine."""

    at: float
    message: str


class Mock:
    """The mock provider's process, and its control calls."""

    def __init__(self, log: Path) -> None:
        command = [sys.executable, "-m", "acceptance.mock_provider"]
        self.running = Running(command, env=os.environ, log=log, stdout=subprocess.PIPE)
        assert self.running.process.stdout
        self.port = int(self.running.process.stdout.readline() or 0)
        self.url = f"http://{HOST}:{self.port}/v1"

    def stats(self) -> dict[str, int]:
        return cast(dict[str, int], self._ask("GET", "stats"))

    def completions(self) -> list[dict[str, Any]]:
        """Return what callers were answered, without the gateway's own probes."""
        completed = cast(list[dict[str, Any]], self._ask("GET", "completions"))
        return [one for one in completed if one["message"] != PROBE]

    def prompts(self) -> list[list[dict[str, str]]]:
        return cast(list[list[dict[str, str]]], self._ask("GET", "prompts"))

    def calls(self) -> list[Called]:
        return [Called(**one) for one in self._ask("GET", "calls")]

    def set(self, **settings: Any) -> None:
        """Set the fault and latency_ms for calls that name none."""
        self._ask("POST", "settings", settings)

    def _ask(self, method: str, what: str, settings: Any = None) -> Any:
        body = None if settings is None else json.dumps(settings).encode()
        return clients.request(self.port, method, f"/control/{what}", body=body).json


class Rig(rig.Rig):
    """A new database, a mock provider, and as many gateways as a check starts."""

    def __init__(
        self,
        workshop: Workshop,
        database: Database,
        logs: Path,
        scratch: Path,
        settings: Mapping[str, str],
    ) -> None:
        self.mock = Mock(logs / "mock.log")
        self._mocks = [self.mock]
        settings = {"PROVIDER_BASE_URL": self.mock.url, **settings}
        super().__init__(workshop, database, logs, scratch, settings)

    def add_route(self, name: str, model_id: str) -> Mock:
        """Start another provider, and let it serve a model if the first one fails."""
        mock = Mock(self.logs / f"mock-{name}.log")
        self._mocks.append(mock)
        self.inside(
            "tests.harness.channels.routes",
            [{"name": name, "base_url": mock.url, "model_id": model_id}],
        )
        return mock

    def close(self) -> None:
        super().close()
        for mock in self._mocks:
            mock.running.kill()
