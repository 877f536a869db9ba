"""What a start does before it serves."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path
from typing import Any

import pytest

from server import prepare


def test_two_starts_at_once_collect_static_files_once(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.STATIC_ROOT = tmp_path / "static"
    collected: list[str] = []
    wants_the_lock = threading.Semaphore(0)
    flock = fcntl.flock

    def lock(*args: Any) -> None:
        wants_the_lock.release()
        flock(*args)

    second = threading.Thread(target=prepare.collect_static)

    def collect(command: str, **options: Any) -> None:
        collected.append(command)
        assert wants_the_lock.acquire(timeout=60)  # the first start's own
        second.start()
        assert wants_the_lock.acquire(timeout=60)

    monkeypatch.setattr(fcntl, "flock", lock)
    monkeypatch.setattr("django.core.management.call_command", collect)
    prepare.collect_static()
    second.join(60)
    assert collected == ["collectstatic"]


def test_a_complete_folder_that_is_read_only_is_taken_as_it_is(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.STATIC_ROOT = tmp_path
    (tmp_path / ".stamp").write_text(prepare.static_fingerprint())
    monkeypatch.setattr("django.core.management.call_command", pytest.fail)
    monkeypatch.setattr(fcntl, "flock", pytest.fail)
    prepare.collect_static()
    assert [path.name for path in tmp_path.iterdir()] == [".stamp"]
