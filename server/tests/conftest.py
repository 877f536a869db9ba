"""Servers and providers that end with their test."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts import write_env
from server.tests.running import Installation, Running
from tests.support.provider import HttpProvider


@pytest.fixture(scope="session", autouse=True)
def signals_of_a_terminal() -> None:
    """Let the servers get signals that whoever runs the tests may ignore, as nohup does."""
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    data_dir = tmp_path_factory.mktemp("installation") / "data"
    secrets = write_env.new_secrets()
    running = Running(["--first-run"], data_dir, settings=secrets)
    try:
        api_key = running.wait_for(r"X-API-Key: (\w+)").group(1)
        running.process.terminate()
        running.end()
    finally:
        running.kill()
    return Installation(data_dir, secrets, api_key)


@pytest.fixture
def start(tmp_path: Path, installation: Installation) -> Iterator[Callable[..., Running]]:
    """Start servers on a copy of the installation. They end with the test."""
    started: list[Running] = []

    def starter(*arguments: str, settings: dict[str, str] | None = None, **options: Any) -> Running:
        data_dir = tmp_path / "data"
        if not data_dir.exists():
            installation.copy_to(data_dir)
        values = installation.secrets | (settings or {})
        started.append(Running(arguments, data_dir, settings=values, **options))
        return started[-1]

    yield starter
    for running in started:
        running.kill()


@pytest.fixture
def gated_provider() -> Iterator[HttpProvider]:
    """A provider whose calls wait until the test opens the gate."""
    with HttpProvider() as provider:
        provider.usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
        provider.gate.clear()
        yield provider
