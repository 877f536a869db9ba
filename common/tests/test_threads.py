"""Reused threads start at once, run one task at a time, and keep nothing of a finished task."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from queue import SimpleQueue

import pytest

from common.threads import Threads

LATE = 60.0  # ends a test that hangs


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def run(threads: Threads) -> threading.Thread:
    """Return the thread that ran a task."""
    ran: SimpleQueue[threading.Thread] = SimpleQueue()
    threads.start(lambda: ran.put(threading.current_thread()))
    return ran.get(timeout=LATE)


def wait_for(waiting: int, threads: Threads) -> None:
    give_up_at = time.monotonic() + LATE
    while len(threads._waiting) != waiting:
        assert time.monotonic() < give_up_at, f"{len(threads._waiting)} wait, not {waiting}"
        time.sleep(0.001)


def test_the_thread_of_a_task_that_is_done_does_the_next() -> None:
    threads = Threads()
    first = run(threads)
    for _ in range(3):
        wait_for(1, threads)
        assert run(threads) is first


def test_tasks_at_the_same_time_have_threads_of_their_own() -> None:
    threads, meeting = Threads(), threading.Barrier(5)
    for _ in range(4):
        threads.start(lambda: meeting.wait(LATE))
    meeting.wait(LATE)
    wait_for(4, threads)


def test_nothing_of_a_task_is_kept_while_its_thread_waits(no_collector: None) -> None:
    class Large:
        def work(self) -> None:
            pass

    threads, large = Threads(), Large()
    kept = weakref.ref(large)
    threads.start(large.work)
    del large
    wait_for(1, threads)
    assert kept() is None


def test_a_thread_that_is_one_too_many_ends_with_its_task() -> None:
    threads, going_on = Threads(most_waiting=1), threading.Event()
    first = run(threads)
    wait_for(1, threads)
    threads.start(lambda: going_on.wait(LATE))
    second = run(threads)
    wait_for(1, threads)
    going_on.set()
    first.join(LATE)
    assert (first.is_alive(), second.is_alive()) == (False, True)
