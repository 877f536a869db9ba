"""Whichever signal stops the server, it answers the calls in flight and then ends."""

import fcntl
import os
import pty
import signal
import sqlite3
import termios
import time
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from server.tests.running import (
    SECONDS,
    Calls,
    Installation,
    Running,
    is_running,
    wait_until,
)
from tests.harness.processes import signal_each
from tests.support.provider import HttpProvider

pytestmark = pytest.mark.slow

CALLS = 24
TERM, INT, HUP, QUIT = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT
# Which signals are sent to whom, in order.
STOPS = {
    "the parent": [("parent", TERM)],
    "the parent, by a closed terminal": [("parent", HUP)],
    "the whole group, as systemd does it": [("all", TERM)],
    "the whole group, by Ctrl+C again and again": [("all", INT)] * 4,
    "the workers alone": [("workers", TERM)],
    "everybody by everything": [("workers", QUIT), ("all", TERM), ("parent", INT), ("all", HUP)]
    * 2,
}


def targets(running: Running, workers: list[int], who: str) -> list[int]:
    return {"parent": [], "workers": workers, "all": workers}[who] + (
        [] if who == "workers" else [running.process.pid]
    )


@pytest.mark.parametrize("stops", STOPS.values(), ids=STOPS)
def test_calls_in_flight_are_answered_whoever_is_told_to_stop(
    start: Callable[..., Running],
    installation: Installation,
    gated_provider: HttpProvider,
    stops: list[tuple[str, int]],
) -> None:
    running = start(settings={"PROVIDER_BASE_URL": gated_provider.url}).serving()
    calls = Calls(running.port, installation.api_key, CALLS)
    wait_until(lambda: len(gated_provider.bodies) == CALLS, "all calls in flight")
    workers = running.workers()
    for who, number in stops:
        signal_each(targets(running, workers, who), number)
    wait_until(lambda: not running.is_listening(), "the port is closed")
    for who, number in stops:
        signal_each(targets(running, workers, who), number)
    assert len(calls.answers) == 0
    gated_provider.gate.set()
    answers = calls.wait()
    assert [status for status, _ in answers] == [200] * CALLS, answers
    assert sum(b"event: done" in body for _, body in answers) == CALLS // 3
    assert running.end()[0] == 0
    assert not any(is_running(pid) for pid in workers)


def test_calls_in_flight_are_answered_when_the_parent_is_killed(
    start: Callable[..., Running], installation: Installation, gated_provider: HttpProvider
) -> None:
    running = start(settings={"PROVIDER_BASE_URL": gated_provider.url}).serving()
    calls = Calls(running.port, installation.api_key, CALLS)
    wait_until(lambda: len(gated_provider.bodies) == CALLS, "all calls in flight")
    workers = running.workers()
    running.process.kill()
    wait_until(lambda: not running.is_listening(), "the port is closed")
    signal_each(workers, TERM)
    gated_provider.gate.set()
    assert [status for status, _ in calls.wait()] == [200] * CALLS
    wait_until(lambda: not any(is_running(pid) for pid in workers), "no orphans")


def test_a_stop_between_a_workers_death_and_its_successor_is_not_lost(
    start: Callable[..., Running],
) -> None:
    running = start().serving()
    for _ in range(3):
        signal_each(running.workers(), signal.SIGKILL)
    os.kill(running.process.pid, TERM)
    assert running.end()[0] == 0


@pytest.mark.parametrize("number", [TERM, INT, HUP, QUIT])
def test_a_signal_at_any_moment_of_the_start_ends_it(
    start: Callable[..., Running], number: int
) -> None:
    """From our first statement on. Before it, Python itself decides what Ctrl+C does."""

    def ignore() -> None:
        signal.signal(INT, signal.SIG_IGN)

    running = start(preexec_fn=ignore)
    while running.process.poll() is None:
        signal_each([running.process.pid], number)
    status, output = running.end()
    assert status in (0, -number)
    assert "Traceback" not in output


def test_a_hang_up_is_ignored_under_nohup(start: Callable[..., Running]) -> None:
    def ignore() -> None:
        signal.signal(HUP, signal.SIG_IGN)

    running = start(preexec_fn=ignore).serving()
    os.kill(running.process.pid, HUP)
    signal_each(running.workers(), HUP)
    running.wait_until_alive()
    os.kill(running.process.pid, TERM)
    assert running.end()[0] == 0


def test_a_second_ctrl_c_at_the_keyboard_stops_at_once(
    start: Callable[..., Running], installation: Installation, gated_provider: HttpProvider
) -> None:
    keyboard, terminal = pty.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    settings = {"PROVIDER_BASE_URL": gated_provider.url}
    running = start(settings=settings, preexec_fn=take_terminal).serving()
    calls = Calls(running.port, installation.api_key, 2)
    wait_until(lambda: len(gated_provider.bodies) == 2, "all calls in flight")
    while running.process.poll() is None:
        os.write(keyboard, b"\x03")
        time.sleep(0.2)
    assert "Stopping at once" in running.end()[1]
    assert [status for status, _ in calls.wait()] == [0, 0]
    os.close(keyboard)
    os.close(terminal)


def test_what_a_worker_only_remembered_is_written_before_it_ends(
    start: Callable[..., Running], installation: Installation, tmp_path: Path
) -> None:
    running = start().serving()
    for _ in range(10):
        with closing(HTTPConnection("127.0.0.1", running.port, timeout=SECONDS)) as client:
            client.request("GET", "/api/key", headers={"X-API-Key": installation.api_key})
            assert client.getresponse().status == 200
    running.process.terminate()
    assert running.end()[0] == 0
    with closing(sqlite3.connect(tmp_path / "data" / "gateway.sqlite3")) as database:
        assert database.execute("SELECT sum(count) FROM channels_keyhour").fetchone() == (10,)
        assert database.execute("SELECT address FROM channels_keyuse").fetchall() == [
            ("127.0.0.1",)
        ]
