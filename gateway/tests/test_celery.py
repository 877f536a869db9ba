"""The schedule, its tasks, and the broker with and without a server."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import time_machine
from kombu.connection import Connection
from pytest_django import Settings

from gateway.celery import app, broker_settings
from gateway.schedule import Schedule


def test_a_brokers_address_is_taken_as_it_is(settings: Settings, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path
    assert broker_settings("redis://127.0.0.1:6379/1") == {
        "broker_url": "redis://127.0.0.1:6379/1",
        "broker_connection_retry_on_startup": True,
    }
    assert list(tmp_path.iterdir()) == []


def test_without_a_broker_messages_are_files_that_workers_find(
    settings: Settings, tmp_path: Path
) -> None:
    settings.DATA_DIR = tmp_path / "new"
    made: Any = broker_settings("")
    assert broker_settings("") == made
    options = made["broker_transport_options"]
    assert all(Path(path).is_dir() for name, path in options.items() if "folder" in name)
    with Connection(  # type: ignore[no-untyped-call]
        made["broker_url"], transport_options=options
    ) as sender:
        sender.SimpleQueue("celery").put({"task": "x"})
    with Connection(  # type: ignore[no-untyped-call]
        made["broker_url"], transport_options=options
    ) as worker:
        message = worker.SimpleQueue("celery").get(timeout=60)
        assert message.payload == {"task": "x"}
        message.ack()
    assert list(Path(options["data_folder_in"]).iterdir()) == []


def test_every_scheduled_task_exists() -> None:
    app.loader.import_default_modules()
    scheduled = {entry["task"] for entry in app.conf.beat_schedule.values()}
    assert {"billing.tasks.expire_holds", "conversations.tasks.expire_sessions"} <= scheduled
    assert scheduled <= set(app.tasks)


@pytest.mark.django_db
def test_every_scheduled_task_runs() -> None:
    app.loader.import_default_modules()
    for entry in app.conf.beat_schedule.values():
        app.tasks[entry["task"]].apply().get()


def test_tasks_survive_a_worker_that_dies() -> None:
    assert app.conf.task_acks_late
    assert app.conf.timezone == "UTC"


def test_queued_messages_are_nobody_elses_to_write(settings: Settings, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path
    broker_settings("")
    for folder in (tmp_path / "celery").iterdir():
        assert not folder.stat().st_mode & stat.S_IWOTH


def test_a_clock_that_ran_ahead_stops_no_schedule(
    clock: time_machine.Traveller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the worker that saw the wrong time nor in one that starts later."""
    sent: list[str] = []
    monkeypatch.setattr(
        Schedule, "apply_entry", lambda self, entry, **more: sent.append(entry.name)
    )

    def started() -> Schedule:
        return Schedule(app=app, schedule_filename=str(tmp_path / "schedule"))

    def run(schedule: Schedule) -> set[str]:
        """Return which tasks start within the next two minutes."""
        sent.clear()
        for _ in range(60):
            clock.shift(2)
            while schedule.tick() == 0:
                pass
        return set(sent)

    every_minute = {
        name for name, entry in app.conf.beat_schedule.items() if entry["schedule"] == 60.0
    }
    clock.shift(3 * 3600)
    schedule = started()
    assert every_minute <= run(schedule)
    clock.shift(-3 * 3600)
    assert every_minute <= run(schedule)
    clock.shift(3 * 3600)
    assert every_minute <= run(schedule)
    schedule.close()
    clock.shift(-3 * 3600)
    assert every_minute <= run(started())
