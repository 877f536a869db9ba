"""How the launcher reads its settings, supervises workers, and starts the real server."""

import json
import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings

from server.config import Config, require_free_port
from server.tests.running import Running, is_running, wait_until
from tests.support.programs import need_command


def test_refuses_settings_that_are_no_numbers(monkeypatch: Any) -> None:
    monkeypatch.setenv("THREADS", "many")
    with pytest.raises(
        SystemExit, match="THREADS must be a whole number from 1 to 4096, not 'many'"
    ):
        Config(first_run=False)


def test_a_taken_port_is_named_with_a_way_out(monkeypatch: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("PORT", str(port))
        with pytest.raises(SystemExit, match=f"PORT={port + 1} make run"):
            require_free_port(Config(first_run=True))


@pytest.mark.slow
def test_a_first_start_prints_a_command_that_works(start: Callable[..., Running]) -> None:
    need_command("curl")
    running = start("--first-run")
    command = shlex.split(running.wait_for(r"\n(curl .*)\n").group(1))
    answer = subprocess.run([*command, "-sS"], capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout)["reply"]
    assert running.output[0] == f"AI gateway {settings.VERSION}\n"
    running.process.send_signal(signal.SIGTERM)
    assert running.end()[0] == 0


@pytest.mark.slow
def test_serves_again_after_its_workers_are_killed(start: Callable[..., Running]) -> None:
    running = start().serving()
    for _ in range(3):
        killed = running.workers()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(is_running, killed)), "they are gone")  # noqa: B023
        running.wait_until_alive()
    assert running.process.poll() is None


@pytest.mark.slow
def test_no_worker_outlives_a_killed_parent(start: Callable[..., Running]) -> None:
    running = start().serving()
    running.process.kill()
    running.process.wait()
    wait_until(lambda: not running.is_alive(), "no orphan keeps the port")
