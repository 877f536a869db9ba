"""How the launcher shares threads out, supervises workers, and starts the real thing."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import need_command
from scripts import serve, write_env

ROOT = Path(__file__).resolve().parent.parent.parent


def test_refuses_settings_that_are_no_numbers(monkeypatch: Any) -> None:
    monkeypatch.setenv("THREADS", "many")
    with pytest.raises(SystemExit, match="THREADS must be a whole number above 0, not 'many'"):
        serve.Config(first_run=False)


def test_a_taken_port_is_named_with_a_way_out(monkeypatch: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("PORT", str(port))
        with pytest.raises(SystemExit, match=f"PORT={port + 1} make run"):
            serve.require_free_port(serve.Config(first_run=True))


# --- the real server ------------------------------------------------------------------------


class Running:
    def __init__(self, arguments: list[str], data_dir: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        own = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        settings = write_env.new_secrets() | {
            "PORT": str(self.port), "DATA_DIR": str(data_dir), "WORKERS": "2", "DATABASE_URL": "",
            "REDIS_URL": "", "PROVIDER_BASE_URL": "", "DJANGO_SETTINGS_MODULE": "gateway.settings",
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "scripts/serve.py", *arguments],
            cwd=ROOT,
            env=own | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output: list[str] = []
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.output.append(line)

    def wait_for(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if found := re.search(pattern, text := "".join(self.output)):
                return found
            if self.process.poll() is not None:
                pytest.fail(f"The server ended:\n{text}")
            time.sleep(0.02)
        pytest.fail("".join(self.output))

    def is_alive(self) -> bool:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}/healthz", timeout=2
            ) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def workers(self) -> list[int]:
        listing = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listing.split()]

    def wait_until_alive(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.is_alive():
            assert time.monotonic() < until, "".join(self.output)
            time.sleep(0.02)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def starter(*arguments: str) -> Running:
        started.append(Running(list(arguments), tmp_path))
        return started[-1]

    yield starter
    for running in started:
        running.process.kill()
        running.process.wait()


@pytest.mark.slow
def test_a_first_start_prints_a_command_that_works(start: Callable[..., Running]) -> None:
    need_command("curl")
    running = start("--first-run")
    command = shlex.split(running.wait_for(r"\n(curl .*)\n").group(1))
    answer = subprocess.run([*command, "-sS"], capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout)["reply"]
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(20) == 0


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers through /proc")
def test_serves_again_after_its_workers_are_killed(start: Callable[..., Running]) -> None:
    running = start("--first-run")
    running.wait_for("Ctrl.C")
    for _ in range(3):
        for pid in running.workers():
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
        running.wait_until_alive(5)
    assert running.process.poll() is None


@pytest.mark.slow
def test_no_worker_outlives_a_killed_parent(start: Callable[..., Running]) -> None:
    running = start("--first-run")
    running.wait_for("Ctrl.C")
    running.process.kill()
    running.process.wait()
    until = time.monotonic() + 10
    while running.is_alive():
        assert time.monotonic() < until
        time.sleep(0.1)
