"""What a worker does between its last answer and the end of its process.

A worker ends without Python's own clean-up (supervisor.py), so `atexit` would not run.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import NamedTuple

logger = logging.getLogger("gateway.server")


class _Task(NamedTuple):
    run: Callable[[], object]
    seconds: float


_tasks: list[_Task] = []


def before_end(task: Callable[[], object], *, seconds: float) -> None:
    """Run `task` when this worker stops. The process ends after `seconds` even if it has not."""
    _tasks.append(_Task(task, seconds))


def run_tasks() -> None:
    """Run the tasks one after the other. One that fails or takes too long is logged."""
    for task in _tasks:
        thread = threading.Thread(target=_run, args=(task.run,), daemon=True)
        thread.start()
        thread.join(task.seconds)
        if thread.is_alive():
            logger.warning("worker.stop.unfinished", extra={"seconds": task.seconds})


def _run(task: Callable[[], object]) -> None:
    try:
        task()
    except Exception:
        # Whatever the cause, the worker ends.
        logger.exception("worker.stop.failed")
