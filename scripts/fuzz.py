"""Send a running gateway requests generated from its OpenAPI document (make fuzz).

    fuzz.py SCHEMATHESIS [options]     --examples 60 --seed 1

Starts the gateway on SQLite in a scratch folder, creates a channel, and lets schemathesis send
about --examples requests to each operation, valid and invalid, with and without the key. Fails on a
5xx, an answer that the document does not allow, or a success without a key.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
CONFIG = BASE_DIR / "scripts" / "schemathesis.toml"
START_SECONDS = 60


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("schemathesis", type=Path, help="the program to run")
    parser.add_argument("--examples", type=int, default=40, help="requests for each operation")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))  # noqa: S311
    options = parser.parse_args()
    print(f"Seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as scratch, running_gateway(Path(scratch)) as (url, key):
        command = [
            *(options.schemathesis, "--config-file", CONFIG, "run", f"{url}/api/schema"),
            *("--header", f"X-API-Key: {key}", "--max-examples", options.examples),
            *("--seed", options.seed, "--continue-on-failure", "--request-timeout", 30),
        ]
        return subprocess.run([str(part) for part in command], cwd=BASE_DIR, check=False).returncode


@contextlib.contextmanager
def running_gateway(scratch: Path) -> Iterator[tuple[str, str]]:
    """Run a new gateway. Yields its address and a test key, which costs nothing."""
    url, environment = f"http://127.0.0.1:{free_port()}", environment_of(scratch)
    environment["PORT"] = url.rpartition(":")[2]
    with (scratch / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "scripts/serve.py", "--first-run"],
            cwd=BASE_DIR, env=environment, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_until_ready(url, server, scratch / "server.log")
        made = subprocess.run(
            [sys.executable, "manage.py", "createchannel", "--json", "--name", "Fuzz",
             "--owner", "fuzz@example.com", "--credits", "1000",
             "--requests-per-minute", "100000", "--daily-quota", "1000000"],
            cwd=BASE_DIR, env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        yield url, json.loads(made.stdout)["test_key"]
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def environment_of(scratch: Path) -> dict[str, str]:
    """Return the environment of a new installation, separate from any existing one."""
    printed = subprocess.run(
        [sys.executable, "scripts/write_env.py", "--print"],
        cwd=BASE_DIR, capture_output=True, text=True, check=True,
    )  # fmt: skip
    fresh = dict(line.split("=", 1) for line in printed.stdout.splitlines() if "=" in line)
    apart = {
        "DATA_DIR": str(scratch / "data"),
        "DATABASE_URL": "",
        "REDIS_URL": "",
        "PROVIDER_BASE_URL": "",
        "FAILED_KEYS_PER_MINUTE": "1000000",
    }
    return os.environ | fresh | apart


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends and server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/readyz", timeout=2):  # noqa: S310
            return
        time.sleep(0.1)
    raise SystemExit(f"The gateway did not start:\n{log.read_text()}")


if __name__ == "__main__":
    sys.exit(main())
