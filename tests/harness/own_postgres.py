"""A separate PostgreSQL server that a check may kill. The shared one is never killed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from tests.harness.databases import OnPostgres
from tests.harness.processes import HOST, Running, free_port, run_program, wait_until

USER = "postgres"
NOT_FOUND = (
    "This check starts a PostgreSQL server to kill it, but found no initdb, neither in "
    "/usr/lib/postgresql/*/bin nor on the PATH. On Debian, install postgresql."
)
START_SECONDS = 30.0
STOP_SECONDS = 10.0
# Servers that were created here and not ended yet.
_living: set[OwnPostgres] = set()


def find_programs() -> Path:
    """Return the folder of the newest initdb and postgres. Debian keeps them off the PATH."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    if not found:
        raise RuntimeError(NOT_FOUND)
    return max(found, key=lambda folder: [int(part) for part in re.findall(r"\d+", str(folder))])


class OwnPostgres(OnPostgres):
    """A new server on a free loopback port, with PostgreSQL's default durability (fsync is on).

    Its database is named `postgres`. PostgreSQL refuses to run as root, so under root it runs as
    its own user.
    """

    def __init__(self, log: Path, settings: Mapping[str, str]) -> None:
        self._programs = find_programs()
        self._folder = Path(tempfile.mkdtemp(prefix="gateway-acceptance-postgres-"))
        self._data = str(self._folder / "data")
        self._log = log
        self._server: Running | None = None
        _living.add(self)
        port = free_port()
        self.url = f"postgres://{USER}@{HOST}:{port}/postgres"
        self._settings = {
            "port": str(port),
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            **settings,
        }
        self._as_user: dict[str, Any] = {"folder": self._folder}
        if os.geteuid() == 0:
            shutil.chown(self._folder, USER, USER)
            self._as_user |= {"user": USER, "group": USER, "extra_groups": []}

    def make_files(self) -> None:
        command = [str(self._programs / "initdb"), "-D", self._data, "-U", USER]
        command += ["-A", "trust", "-E", "UTF8", "--locale", "C"]
        done = run_program(command, **self._as_user)
        if done.returncode:
            raise RuntimeError(f"initdb: {done.stderr[-2000:]}")

    def start(self) -> None:
        """Start the server. Returns when it accepts connections."""
        command = [str(self._programs / "postgres"), "-D", self._data]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        self._server = Running(command, env=os.environ, log=self._log, **self._as_user)
        wait_until(self._accepts, seconds=START_SECONDS, what="PostgreSQL accepts connections")

    def _accepts(self) -> bool:
        with suppress(psycopg.OperationalError):
            self.connect().close()
            return True
        return False

    def stop_immediately(self) -> None:
        """Stop like `pg_ctl -m immediate stop`, by the same signal. The next start recovers."""
        server, self._server = self._server, None
        if server:
            server.process.send_signal(signal.SIGQUIT)
            with suppress(subprocess.TimeoutExpired):
                server.process.wait(STOP_SECONDS)
            server.kill()

    def drop(self) -> None:
        """End the server and remove its files, whatever state it is in."""
        self.stop_immediately()
        shutil.rmtree(self._folder, ignore_errors=True)
        _living.discard(self)


@contextmanager
def own_postgres(log: Path, settings: Mapping[str, str]) -> Iterator[OwnPostgres]:
    """Yield a new running server, and end it afterwards."""
    server = OwnPostgres(log, settings)
    try:
        server.make_files()
        server.start()
        yield server
    finally:
        server.drop()


def end_all() -> None:
    """End every server that is left, when a run is being stopped."""
    for server in list(_living):
        server.drop()
