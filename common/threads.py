"""Threads that work on beside their request, and wait for another task when they have done one.

A new thread costs its start and, with its first statement, a connection object of Django's. What a
task leaves behind is that object, which the task has closed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

Task = Callable[[], object]

# As many as a process has slots by default.
MOST_WAITING = 64


class Threads:
    """As many as there are tasks at a time: none waits for a thread."""

    def __init__(self, most_waiting: int = MOST_WAITING) -> None:
        self._most_waiting = most_waiting
        # Who has waited shortest works first, so that few serve where few are needed.
        self._waiting: list[SimpleQueue[Task]] = []

    def start(self, task: Task) -> None:
        """Run a task at once; whoever must not end before it waits for it."""
        try:
            self._waiting.pop().put(task)
        except IndexError:
            tasks: SimpleQueue[Task] = SimpleQueue()
            tasks.put(task)
            threading.Thread(target=self._work, args=(tasks,), daemon=True).start()

    def _work(self, tasks: SimpleQueue[Task]) -> None:
        while True:
            tasks.get()()  # under no name, which would keep it while the thread waits
            if len(self._waiting) >= self._most_waiting:
                return
            self._waiting.append(tasks)
