"""What a worker still does before it ends: one task after the other, none for ever."""

from __future__ import annotations

import threading

import pytest

from server import stopping


def test_a_task_that_fails_or_hangs_keeps_no_worker_and_no_other_task(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stopping, "_tasks", [])
    done: list[str] = []
    gate = threading.Event()
    stopping.before_end(lambda: 1 / 0, seconds=60)
    stopping.before_end(gate.wait, seconds=0.01)
    stopping.before_end(lambda: done.append("last"), seconds=60)
    stopping.run_tasks()
    gate.set()
    assert done == ["last"]
    assert [one.message for one in caplog.records] == [
        "worker.stop.failed",
        "worker.stop.unfinished",
    ]
