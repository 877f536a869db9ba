"""Threads that outlive their request: each waits for another task when it has finished one.

Starting a new thread is expensive, and its first statement creates a connection object of Django's.
After a task only that object remains, closed by the task.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

Task = Callable[[], object]

# As many as a process has slots by default.
MOST_WAITING = 64


class Threads:
    """One thread for each task at a time, so that no task waits for a thread."""

    def __init__(self, most_waiting: int = MOST_WAITING) -> None:
        self._most_waiting = most_waiting
        # The thread that has waited least works first, so that few threads serve few tasks.
        self._waiting: list[SimpleQueue[Task]] = []

    def start(self, task: Task) -> None:
        """Run a task at once. A caller that needs its end must wait for it."""
        try:
            self._waiting.pop().put(task)
        except IndexError:
            tasks: SimpleQueue[Task] = SimpleQueue()
            tasks.put(task)
            threading.Thread(target=self._work, args=(tasks,), daemon=True).start()

    def _work(self, tasks: SimpleQueue[Task]) -> None:
        while True:
            tasks.get()()  # a name would keep the task alive while the thread waits
            if len(self._waiting) >= self._most_waiting:
                return
            self._waiting.append(tasks)
