"""Processes: started on free ports, watched, and ended by their ids."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

BASE_DIR = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_until(
    is_true: Callable[[], Any], *, seconds: float, what: str, pause: float = 0.02
) -> float:
    """Wait until `is_true` returns true. Returns the seconds it took. Raises TimeoutError."""
    started = time.monotonic()
    while not is_true():
        if time.monotonic() - started > seconds:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(pause)
    return time.monotonic() - started


# Processes that were started here and are not known to have ended.
_living: set[subprocess.Popen[Any]] = set()
_stopping = threading.Event()


def start(
    command: Sequence[str], *, folder: Path = BASE_DIR, **options: Any
) -> subprocess.Popen[Any]:
    """Start a program in the checkout, or another folder, in a new process group."""
    if _stopping.is_set():
        raise RuntimeError("the run is being stopped")
    process = subprocess.Popen(command, cwd=folder, start_new_session=True, **options)
    _living.add(process)
    return process


def end(process: subprocess.Popen[Any]) -> None:
    """kill -9 a program and everything it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _living.discard(process)


def end_all() -> None:
    """kill -9 all remaining processes and start no more, when a run is being stopped."""
    _stopping.set()
    for process in list(_living):
        end(process)


def run_python(
    arguments: Sequence[str], *, env: Mapping[str, str], stdin: str = "", seconds: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run this Python in the checkout, and wait for its end."""
    return run_program([sys.executable, *arguments], stdin=stdin, seconds=seconds, env=dict(env))


def run_program(
    command: Sequence[str], *, stdin: str = "", seconds: float = 300, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    options |= dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = start(command, text=True, **options)
    try:
        output, errors = process.communicate(stdin, timeout=seconds)
    finally:
        end(process)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def children_of(pid: int) -> list[int]:
    """Return the ids of a process's children."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


class Running:
    """A program in its own process group, with its output in a log file."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        stdout: IO[bytes] | int | None = None,
        **options: Any,
    ) -> None:
        with log.open("ab") as output:
            self.process = start(
                command,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output if stdout is None else stdout,
                stderr=output,
                **options,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        """End the program and everything it started, at once."""
        end(self.process)
        if self.process.stdout:
            self.process.stdout.close()


def signal_each(pids: Sequence[int], number: int) -> None:
    """Send a signal to each process, as close together as possible."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def start_redis(folder: Path) -> tuple[Running, str]:
    """Start a Redis that stores nothing on disk. Returns it and its address."""
    port = free_port()
    options = {"port": port, "bind": HOST, "save": "", "appendonly": "no", "dir": folder}
    command = ["redis-server"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    redis = Running(command, env=os.environ, log=folder / "redis.log")
    wait_until(lambda: is_listening(port), seconds=5, what="Redis listens")
    return redis, f"redis://{HOST}:{port}/0"


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def count_in_log(log: Path, text: str, expected: int, seconds: float = 5) -> int:
    """Return how many lines of a log contain a text, waiting for the expected number."""
    with_text: list[str] = []

    def is_there() -> bool:
        with_text[:] = [line for line in log.read_text().splitlines() if text in line]
        return len(with_text) >= expected

    with suppress(TimeoutError):
        wait_until(is_there, seconds=seconds, what=text)
    return len(with_text)
