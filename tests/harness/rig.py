"""Gateways as real processes, each set of them with a database of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.harness import clients
from tests.harness.clients import Client
from tests.harness.databases import Database, Stock
from tests.harness.processes import (
    BASE_DIR,
    HOST,
    Running,
    children_of,
    free_port,
    run_python,
    signal_each,
    wait_until,
)

WORKERS = 4
THREADS = 8
CREDIT = 1_000_000
# Not a promise; bench.start measures it. A loaded machine takes long to compress static files.
START_SECONDS = 90.0
# Settings that the gateway reads and a developer's .env could set. Empty counts as unset.
UNSET = (
    "DEBUG", "ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS", "REDIS_URL", "CELERY_BROKER_URL",
    "PROVIDER_API_KEY", "GROQ_API_KEY", "OPENROUTER_API_KEY", "PROVIDER_DEADLINE",
    "PROVIDER_STREAM_DEADLINE", "SESSION_TTL", "SESSION_RETENTION_DAYS", "TRUSTED_PROXY_COUNT",
    "SECURE_COOKIES", "DATABASE_POOL_SIZE", "PROVIDER_ALLOW_PRIVATE_ADDRESSES",
    "SECRET_KEY_FALLBACKS", "KEY_DIGEST_PEPPER_FALLBACKS",
)  # fmt: skip


def new_secrets() -> dict[str, str]:
    """Return the secrets of a new installation."""
    printed = run_python(["scripts/write_env.py", "--print"], env=os.environ)
    return dict(line.split("=", 1) for line in printed.stdout.splitlines())


class Workshop:
    """What all checks of a run share: secrets, migrated templates, static files."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gateway-acceptance-"))
        self.env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.env |= dict.fromkeys(UNSET, "") | new_secrets()
        self.env |= {
            "DATA_DIR": str(self.folder / "data"),
            "LOG_LEVEL": "INFO",
            "ENV_FILE": os.devnull,
            "PROVIDER_BASE_URL": "",
            "FAILED_KEYS_PER_MINUTE": "1000000",
            "DJANGO_SETTINGS_MODULE": "gateway.settings",
        }
        self.stock = Stock(self.folder, self.migrate)

    def migrate(self, database: Database) -> None:
        manage(self.env | {"DATABASE_URL": database.url}, "migrate", "--verbosity", "0")

    def close(self) -> None:
        self.stock.drop()
        shutil.rmtree(self.folder, ignore_errors=True)


def manage(env: Mapping[str, str], *arguments: str) -> str:
    """Run manage.py. Returns its output, or raises RuntimeError with the output."""
    done = run_python(["manage.py", *arguments], env=env)
    if done.returncode:
        raise RuntimeError(f"manage.py {arguments}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Wanted:
    """A channel to create. Channels of one owner share an account and its credits."""

    owner: str = "owner@example.com"
    microcredits: int = 0
    requests_per_minute: int = 100_000
    daily_quota: int = 1_000_000
    # A separate model, like the first one, so that its failures affect nothing else.
    model_id: str = ""
    system_prompt: str = "Answer briefly."


@dataclass(frozen=True, slots=True)
class ChannelKeys:
    """A channel that was created."""

    channel_id: str
    account_id: int
    api_key: str
    test_key: str
    model_id: str


class Server:
    """One gateway: its parent and its workers, on its own port."""

    def __init__(self, env: Mapping[str, str], log: Path, workers: int, threads: int) -> None:
        self.port = free_port()
        self._log = log
        self._workers = workers
        self._env = dict(env) | {
            "HOST": HOST,
            "PORT": str(self.port),
            "WORKERS": str(workers),
            "THREADS": str(threads),
        }
        self.start()

    def start(self) -> None:
        command = [sys.executable, "scripts/serve.py"]
        self.running = Running(command, env=self._env, log=self._log)
        wait_until(self._is_up, seconds=START_SECONDS, what=f"server ready, see {self._log}")

    def _is_up(self) -> bool:
        if self.running.process.poll() is not None:
            raise RuntimeError(f"the server ended: {self._log.read_text()[-2000:]}")
        return len(self.worker_pids()) >= self._workers and self.is_ready()

    def is_ready(self) -> bool:
        return clients.request(self.port, "GET", "/readyz", seconds=5).status == 200

    def worker_pids(self) -> list[int]:
        return children_of(self.running.pid)

    def freeze_workers(self) -> None:
        """Freeze all workers, as on a machine without processor time to give."""
        signal_each(self.worker_pids(), signal.SIGSTOP)

    def kill_workers(self) -> None:
        """kill -9 all workers. Their parent goes on."""
        signal_each(self.worker_pids(), signal.SIGKILL)

    def kill(self) -> None:
        """kill -9 parent and workers."""
        self.running.kill()

    def restart(self, settings: Mapping[str, str]) -> None:
        """kill -9 everything, then start again with changed settings."""
        self.kill()
        self._env |= dict(settings)
        self.start()

    def client(self, channel: ChannelKeys) -> Client:
        return Client(self.port, channel.api_key, channel.model_id)

    @staticmethod
    def clock(offset: float) -> dict[str, str]:
        """Return the settings of a restart with the wall clock moved by `offset` seconds."""
        return clock_env(offset)


class Rig:
    """A new database, and as many gateways as are started."""

    def __init__(
        self,
        workshop: Workshop,
        database: Database,
        logs: Path,
        scratch: Path,
        settings: Mapping[str, str],
    ) -> None:
        self.scratch = scratch
        self.logs = logs
        self.servers: list[Server] = []
        self.database = database
        self.env = workshop.env | {"DATABASE_URL": database.url, **settings}

    def start_server(
        self,
        *,
        workers: int = WORKERS,
        threads: int = THREADS,
        clock_offset: float = 0,
        settings: Mapping[str, str] | None = None,
    ) -> Server:
        """Start a gateway and wait until it is ready. Its clock may be moved by some seconds."""
        env = self.env | dict(settings or {}) | clock_env(clock_offset)
        log = self.logs / f"server-{len(self.servers)}.log"
        server = Server(env, log, workers, threads)
        self.servers.append(server)
        return server

    def create_channels(self, wanted: Sequence[Wanted]) -> list[ChannelKeys]:
        """Create channels, owners, and credits in one process."""
        made = self.inside("tests.harness.channels.channels", [asdict(one) for one in wanted])
        return [ChannelKeys(**one) for one in made]

    def create_channel(self, **fields: Any) -> ChannelKeys:
        return self.create_channels([Wanted(**fields)])[0]

    def inside(self, function: str, argument: Any, *, seconds: float = 300) -> Any:
        """Call a function, named with its module, in a process with the gateway's settings."""
        done = run_python(
            ["-m", "tests.harness.inside", function],
            env=self.env,
            stdin=json.dumps(argument),
            seconds=seconds,
        )
        if done.returncode:
            raise RuntimeError(f"inside {function}: {done.stderr[-3000:]}")
        return json.loads(done.stdout)

    def manage(self, *arguments: str) -> str:
        return manage(self.env, *arguments)

    def verify_ledger(self) -> list[str]:
        """Return every difference that `manage.py verifyledger` finds."""
        done = run_python(["manage.py", "verifyledger", "--json"], env=self.env)
        try:
            result = json.loads(done.stdout)
        except ValueError:
            return [f"verifyledger failed: {done.stderr[-1000:]}"]
        return [str(words) for words in result["details"]]

    def close(self) -> None:
        """End every process and drop the database. Logs stay."""
        for server in self.servers:
            server.kill()
        self.database.drop()


def first_model(rig: Rig) -> str:
    """Return the model of channels that name none."""
    statement = "SELECT model_id FROM channels_languagemodel ORDER BY position, model_id"
    return str(rig.database.rows(statement)[0][0])


def clock_env(offset: float) -> dict[str, str]:
    """Return the environment that starts Python with its wall clock moved."""
    if not offset:
        return {}
    return {
        "PYTHONPATH": str(BASE_DIR / "tests" / "harness" / "clock"),
        "CLOCK_OFFSET_SECONDS": repr(offset),
    }
