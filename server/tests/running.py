"""The real server for tests: start, watch, and query it."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts import write_env
from tests.harness.processes import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
# Generous, for a machine with nine busy processes. Nothing below waits for the clock alone.
SECONDS = 300.0


def wait_until(is_true: Callable[[], Any], what: str = "", seconds: float = SECONDS) -> None:
    until = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < until, what
        time.sleep(0.02)


@dataclass(frozen=True)
class Installation:
    """A database that was set up once, with its secrets and a live key."""

    data_dir: Path
    secrets: dict[str, str]
    api_key: str

    def copy_to(self, data_dir: Path) -> None:
        data_dir.mkdir(mode=0o700)
        for path in self.data_dir.glob("gateway.sqlite3*"):
            shutil.copy(path, data_dir)
        (data_dir / "static").symlink_to(self.data_dir / "static")


class Running:
    """One server, with a new installation unless `settings` say otherwise."""

    def __init__(
        self,
        arguments: Iterable[str],
        data_dir: Path,
        settings: dict[str, str] | None = None,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.STDOUT,
        preexec_fn: Callable[[], object] | None = None,
    ) -> None:
        self.port = free_port()
        own = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        values = write_env.new_secrets() | {
            "PORT": str(self.port), "DATA_DIR": str(data_dir), "WORKERS": "2", "DATABASE_URL": "",
            "REDIS_URL": "", "PROVIDER_BASE_URL": "", "DJANGO_SETTINGS_MODULE": "gateway.settings",
            "ENV_FILE": os.devnull,
            # A call in flight ends when the test says so.
            "PROVIDER_DEADLINE": "3600", "PROVIDER_STREAM_DEADLINE": "3600",
        }  # fmt: skip
        self.output: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "scripts/serve.py", *arguments],
            cwd=ROOT,
            env=own | values | (settings or {}),
            start_new_session=True,
            stdout=stdout,
            stderr=stderr,
            preexec_fn=preexec_fn,  # noqa: PLW1509  # no thread here matters after a fork
        )
        self._collecting = threading.Thread(target=self._collect, daemon=True)
        if self.process.stdout:
            self._collecting.start()

    def _collect(self) -> None:
        assert self.process.stdout
        with suppress(ValueError):  # a test closed the pipe
            for line in self.process.stdout:
                self.output.append(str(line, errors="replace"))

    def wait_for(self, pattern: str, seconds: float = SECONDS) -> re.Match[str]:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if found := re.search(pattern, text := "".join(self.output)):
                return found
            if self.process.poll() is not None:
                pytest.fail(f"The server ended:\n{text}")
            time.sleep(0.02)
        pytest.fail("".join(self.output))

    def end(self) -> tuple[int, str]:
        """Wait for the end. Returns status and output."""
        status = self.process.wait(SECONDS)
        if self.process.stdout:
            self._collecting.join(SECONDS)  # it reads the last lines
        return status, "".join(self.output)

    def is_alive(self) -> bool:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}/healthz", timeout=SECONDS
            ) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def is_listening(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def wait_until_alive(self, seconds: float = SECONDS) -> None:
        wait_until(self.is_alive, "".join(self.output), seconds)

    def workers(self) -> list[int]:
        listing = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listing.split()]

    def kill(self) -> None:
        """Kill parent and workers, whatever state they are in."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def serving(self) -> Running:
        """Wait until it prints that it serves."""
        self.wait_for("Serving on|gateway is running")
        return self


def is_running(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    return False


class Calls:
    """Chats sent at once, every third one streamed, and their answers."""

    def __init__(self, port: int, api_key: str, count: int) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self._port, self._key = port, api_key
        self._threads = [
            threading.Thread(target=self._send, args=(number,), daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def _send(self, number: int) -> None:
        body = {"message": "Hello", "session_id": f"s{number}", "stream": number % 3 == 0}
        headers = {"X-API-Key": self._key, "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2 * SECONDS)
        try:
            connection.request("POST", "/api/chat", json.dumps(body), headers)
            answer = connection.getresponse()
            self.answers.append((answer.status, answer.read()))
        except (OSError, http.client.HTTPException) as error:
            self.answers.append((0, repr(error).encode()))
        finally:
            connection.close()

    def wait(self) -> list[tuple[int, bytes]]:
        for thread in self._threads:
            thread.join(2 * SECONDS)
        return self.answers
