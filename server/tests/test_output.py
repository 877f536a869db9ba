"""Output that cannot be written is dropped: nothing waits for it or fails because of it."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import pytest

from server import output
from server.output import Output
from server.tests.running import ROOT, Calls, Installation, Running, wait_until
from tests.support.provider import HttpProvider

LINE = "x" * 99 + "\n"


@pytest.fixture(autouse=True)
def impatience(monkeypatch: Any) -> None:
    monkeypatch.setattr(output, "PATIENCE_SECONDS", 0.01)


@pytest.fixture(params=["pipe", "socket", "terminal"])
def ends(request: Any) -> Iterator[tuple[int, int]]:
    """A writing and a reading end."""
    made: dict[str, Callable[[], Any]] = {
        "pipe": lambda: os.pipe()[::-1],
        "socket": lambda: [end.detach() for end in socket.socketpair()],
        "terminal": lambda: pty.openpty()[::-1],
    }
    writing, reading = made[request.param]()
    yield writing, reading
    for end in (writing, reading):
        with suppress(OSError):
            os.close(end)


def read_all(reading: int) -> str:
    flags = fcntl.fcntl(reading, fcntl.F_GETFL)
    fcntl.fcntl(reading, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    found = b""
    try:
        while piece := os.read(reading, 65536):
            found += piece
    except BlockingIOError:
        pass
    return found.decode().replace("\r", "")


def test_what_is_written_is_there_at_once(ends: tuple[int, int]) -> None:
    stream = Output(ends[0])
    assert stream.write("“quoted” \ud800\n") == 11
    stream.flush()
    assert read_all(ends[1]) == "“quoted” \\ud800\n"


def test_a_reader_that_hangs_is_waited_for_once_and_told_of_what_it_missed(
    ends: tuple[int, int],
) -> None:
    stream = Output(ends[0])
    for _ in range(20_000):
        stream.write(LINE)
    assert stream._lost > 0
    first = read_all(ends[1])
    assert first.startswith(LINE)
    stream.write("again\n")
    rest = read_all(ends[1])
    assert '"event": "server.output.lost", "count": "' in rest
    assert rest.endswith("}\nagain\n")
    assert stream._lost == 0


def test_others_who_share_the_file_go_on_as_before(ends: tuple[int, int]) -> None:
    Output(ends[0]).write("x")
    assert os.get_blocking(ends[0])


def test_a_reader_that_is_gone_is_no_error(ends: tuple[int, int]) -> None:
    stream = Output(ends[0])
    os.close(ends[1])
    for _ in range(3):
        assert stream.write(LINE) == len(LINE)


def test_a_pipe_that_nobody_ever_read_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    assert Output(writing).write(LINE) == len(LINE)
    os.close(writing)


def test_a_full_disk_is_no_error() -> None:
    with open("/dev/full", "w") as full:
        stream = Output(full.fileno())
        assert stream.write(LINE) == len(LINE)
        print("more", file=stream, flush=True)


def test_streams_that_were_closed_at_the_start_lead_nowhere() -> None:
    program = (
        "from server import output; output.install(); print('x'); "
        "opened = open('/dev/null'); assert opened.fileno() > 2, opened.fileno()"
    )
    closed = "exec " + subprocess.list2cmdline([sys.executable, "-c", program]) + " <&- >&- 2>&-"
    done = subprocess.run(["sh", "-c", closed], cwd=ROOT, check=False, timeout=300)
    assert done.returncode == 0


# --- The server ---------------------------------------------------------------------------------


@pytest.fixture(params=["closed", "full", "hanging"])
def bad_log(request: Any, tmp_path: Path) -> Iterator[IO[bytes]]:
    """A log that accepts nothing."""
    if request.param == "full":
        with open("/dev/full", "wb") as full:
            yield full
        return
    reading, writing = os.pipe()
    if request.param == "closed":
        os.close(reading)
    else:
        os.set_blocking(writing, False)
        try:
            while os.write(writing, b"x" * 4096):
                pass
        except BlockingIOError:
            os.set_blocking(writing, True)
    with os.fdopen(writing, "wb") as end:
        yield end
    if request.param == "hanging":
        os.close(reading)


@pytest.mark.slow
def test_a_log_that_takes_nothing_neither_fails_a_request_nor_stops_a_stop(
    start: Callable[..., Running],
    installation: Installation,
    gated_provider: HttpProvider,
    bad_log: IO[bytes],
) -> None:
    settings = {"PROVIDER_BASE_URL": gated_provider.url, "LOG_LEVEL": "DEBUG"}
    running = start(settings=settings, stdout=bad_log, stderr=bad_log)
    running.wait_until_alive()
    workers = running.workers()
    calls = Calls(running.port, installation.api_key, 6)
    wait_until(lambda: len(gated_provider.bodies) == 6, "all calls in flight")
    os.kill(running.process.pid, signal.SIGTERM)
    gated_provider.gate.set()
    assert [status for status, _ in calls.wait()] == [200] * 6
    assert running.end()[0] == 0
    assert len(workers) == 2
