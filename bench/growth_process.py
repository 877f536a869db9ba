"""A gateway on one database of the growth benchmark: a process that works on request.

    python -m bench.growth_process '{"plan": {...}, "pages": {...}}'

First it prints how many statements each operation takes. Then each line of standard input names an
operation and a count, and the answer is the milliseconds of CPU for each run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from bench.pair import asker
from bench.stand import Stand
from common import db
from tests.harness.costs import single_cpu_seconds

CHAT = "chat"
OWNER, CHANNEL = "owner0@example.com", "Channel 0"
WARMING = 40


class GrowthProcess:
    """The process as seen by the benchmark."""

    def __init__(
        self, stand: Stand, url: str, plan: Mapping[str, Any], pages: Mapping[str, str]
    ) -> None:
        # A pool of one, so that a single backend has the database's whole cost.
        env = dict(stand.rig.env) | {"DATABASE_URL": url, "DATABASE_POOL_SIZE": "1"}
        self._log = (stand.logs / "growth.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, json.dumps({"plan": plan, "pages": pages})],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.statements: dict[str, int] = self._read()

    def run(self, name: str, times: int) -> tuple[float, float]:
        """Run an operation `times` times. Returns CPU ms of each: the gateway's, PostgreSQL's."""
        assert self._process.stdin
        print(json.dumps([name, times]), file=self._process.stdin, flush=True)
        gateway, database = self._read()
        return gateway, database

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _read(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            with open(self._log.name) as log:
                raise RuntimeError(log.read()[-3000:])
        return json.loads(line)


# --- Inside ---------------------------------------------------------------------------------------


def main() -> None:
    told = json.loads(sys.argv[1])
    ask = asker(told["plan"])
    chats = iter(range(10**9))
    work: dict[str, Callable[[], object]] = {CHAT: lambda: ask(0, next(chats))}
    work |= viewers(told["pages"])
    print(json.dumps({name: warm(name, one) for name, one in work.items()}), flush=True)
    row = db.fetch_row("SELECT pg_backend_pid()", {})
    assert row
    for line in sys.stdin:
        name, times = json.loads(line)
        print(json.dumps(measure(work[name], times, backend=row[0])), flush=True)


def measure(one: Callable[[], object], times: int, *, backend: int) -> tuple[float, float]:
    """Run it `times` times. Returns CPU ms of each: of this thread, and of its database backend."""
    database, gateway = single_cpu_seconds(backend), time.thread_time()
    for _ in range(times):
        one()
    gateway = time.thread_time() - gateway
    database = single_cpu_seconds(backend) - database
    return 1000 * gateway / times, 1000 * database / times


def warm(name: str, one: Callable[[], object]) -> int:
    """Run it until every cache is warm. Returns how many statements it takes then."""
    for _ in range(WARMING if name == CHAT else 3):
        one()
    with CaptureQueriesContext(connection) as queries:
        one()
    db.release_connection()
    return len(queries)


def viewers(pages: Mapping[str, str]) -> dict[str, Callable[[], object]]:
    """Return a function to view each page, logged in as the owner of the first channel."""
    return dict(_viewers(pages)) if pages else {}


def _viewers(pages: Mapping[str, str]) -> Iterator[tuple[str, Callable[[], object]]]:
    # Models need Django set up, which only the process inside does.
    from channels.models import User
    from conversations.models import ChatSession

    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(User.objects.get(email=OWNER))
    session = ChatSession.objects.filter(channel__name=CHANNEL).earliest("id")
    for name, template in pages.items():
        path = template.format(
            account=session.channel.account_id, session=session.pk, channel=session.channel_id
        )
        yield name, partial(view, client, path)


def view(client: Any, path: str) -> None:
    # A redirect would be cheap, and flat.
    if (status := client.get(path).status_code) != 200:
        raise RuntimeError(f"{path}: {status}")
    # The test client leaves it open, unlike a server.
    db.release_connection()


if __name__ == "__main__":
    main()
