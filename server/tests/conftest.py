"""Servers and providers that end with their test."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts import write_env
from server.tests.running import GatedProvider, Running


@dataclass(frozen=True)
class Installation:
    """A database that was set up once, with its secrets and a live key."""

    data_dir: Path
    secrets: dict[str, str]
    api_key: str

    def copy_to(self, data_dir: Path) -> None:
        data_dir.mkdir(mode=0o700)
        for path in self.data_dir.glob("gateway.sqlite3*"):
            shutil.copy(path, data_dir)
        (data_dir / "static").symlink_to(self.data_dir / "static")


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
def gated_provider() -> Iterator[GatedProvider]:
    provider = GatedProvider()
    yield provider
    provider.close()
