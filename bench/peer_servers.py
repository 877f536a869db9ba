"""Other gateways to measure beside ours: installed once under var/peers/, on loopback only.

They get a separate environment, so that neither an installation's secrets nor a developer's
settings reach another project's code.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.chat import MODEL
from bench.figures import progress
from tests.harness import clients
from tests.harness.costs import cpu_seconds, tree_of
from tests.harness.processes import BASE_DIR, HOST, Running, free_port, wait_until

PEERS_DIR = BASE_DIR / "var" / "peers"
LITELLM, LITELLM_VERSION = "LiteLLM", "1.106.2"
PORTKEY, PORTKEY_VERSION = "Portkey", "1.15.2"
LITELLM_WORKERS = 2
START_SECONDS = 120.0
# A server is at rest if it uses no more CPU than this in one look.
LOOK_SECONDS, LOOK_CPU_SECONDS = 0.25, 0.03
PATH = "/v1/chat/completions"


# --- Installing ---------------------------------------------------------------------------------


def install() -> None:
    """Install what is missing. Raises SystemExit with what went wrong."""
    if not (shutil.which("node") and shutil.which("npm")):
        raise SystemExit("Portkey needs node and npm. On Debian or Ubuntu: apt install nodejs npm")
    litellm = PEERS_DIR / "litellm"
    package = f"litellm[proxy]=={LITELLM_VERSION}"
    pip = [str(litellm / "bin" / "python"), "-m", "pip", "install", "--no-input"]
    install_once(
        litellm,
        f"{package} for Python {platform.python_version()}",
        [sys.executable, "-m", "venv", str(litellm)],
        [*pip, "--disable-pip-version-check", "--progress-bar", "off", package],
    )
    portkey = PEERS_DIR / "portkey"
    package = f"@portkey-ai/gateway@{PORTKEY_VERSION}"
    # Its only script would look for patches, and the package has none.
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev"]
    install_once(portkey, package, ["npm", "install", "--prefix", str(portkey), *options, package])


def install_once(folder: Path, what: str, *commands: Sequence[str]) -> None:
    """Run the commands that fill a folder, unless the same was installed there before."""
    stamp = folder / ".installed"
    if stamp.is_file() and stamp.read_text() == what:
        return
    print(f"Installing {what} in {folder.relative_to(BASE_DIR)}, once.", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for command in commands:
        show_and_run(command, what)
    stamp.write_text(what)


def show_and_run(command: Sequence[str], what: str) -> None:
    """Run a program, showing its latest line. Raises SystemExit with its last lines."""
    last: deque[str] = deque(maxlen=12)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
    ) as process:
        assert process.stdout
        for number, line in enumerate(process.stdout, 1):
            last.append(line.decode("utf-8", "replace").strip())
            progress(f"line {number}: {last[-1][:60]}")
    progress("")
    if process.returncode:
        said = "\n".join(last)
        raise SystemExit(f"{said}\n{what} could not be installed; see above, then run it again.")


# --- Starting -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a peer, where it reports that it is up, and which headers a request needs."""

    name: str
    version: str
    command: Sequence[str]
    env: Mapping[str, str]
    port: int
    up_path: str
    headers: Mapping[str, str]


def litellm_launch(provider_url: str, folder: Path) -> Launch:
    """Return how to start LiteLLM's proxy: no database, and one key, which it insists on."""
    port, key = free_port(), f"sk-{secrets.token_hex(32)}"
    config = folder / "litellm.yaml"
    config.write_text(json.dumps(litellm_config(provider_url)))
    options = {"config": config, "host": HOST, "port": port, "num_workers": LITELLM_WORKERS}
    here = PEERS_DIR / "litellm" / "bin"
    # Runs its script with its Python, because the script's first line breaks if the checkout moves.
    command = [str(here / "python"), str(here / "litellm")]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    env = own_env(folder) | {
        # Otherwise it reads the .env of any folder above it, which is ours.
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_MASTER_KEY": key,
        "LITELLM_LOG": "ERROR",
        # Otherwise it fetches this from the network at the start.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
        "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    }
    headers = {"Authorization": f"Bearer {key}"}
    return Launch(LITELLM, LITELLM_VERSION, command, env, port, "/health/liveliness", headers)


def litellm_config(provider_url: str) -> Mapping[str, object]:
    """Return its configuration. Without prices it would examine each reply that costs nothing."""
    model = {
        "model": f"openai/{MODEL}",
        "api_base": provider_url,
        "api_key": "none",
        "input_cost_per_token": 0.000001,
        "output_cost_per_token": 0.000002,
    }
    return {"model_list": [{"model_name": MODEL, "litellm_params": model}]}


def portkey_launch(provider_url: str, folder: Path) -> Launch:
    """Return how to start Portkey's gateway: one process. Each request says where to send it."""
    port = free_port()
    package = PEERS_DIR / "portkey" / "node_modules" / "@portkey-ai" / "gateway"
    command = ["node", "--require", str(BASE_DIR / "bench" / "loopback.cjs")]
    command += [str(package / "build" / "start-server.js"), f"--port={port}", "--headless"]
    env = own_env(folder) | {"NODE_ENV": "production"}
    headers = {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": provider_url,
        "Authorization": "Bearer none",
    }
    return Launch(PORTKEY, PORTKEY_VERSION, command, env, port, "/", headers)


def own_env(folder: Path) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "LANG": "C.UTF-8"}


@contextmanager
def started(launches: Sequence[Launch], logs: Path) -> Iterator[list[Running]]:
    """Start all and wait until all are up and at rest. At the end, end them and their children."""
    with ExitStack() as ending:
        running = []
        for launch in launches:
            one = Running(launch.command, env=launch.env, log=logs / f"{launch.name}.log")
            ending.callback(one.kill)
            running.append(one)
        for launch, one in zip(launches, running, strict=True):
            wait_for(launch, one, logs)
        yield running


def wait_for(launch: Launch, running: Running, logs: Path) -> None:
    """Wait until all its processes have started. Raises RuntimeError if it ends instead."""
    progress(f"starting {launch.name}")
    what = f"{launch.name} up"
    wait_until(lambda: is_up(launch, running, logs), seconds=START_SECONDS, what=what)
    rest(running.pid)


def is_up(launch: Launch, running: Running, logs: Path) -> bool:
    if running.process.poll() is not None:
        said = (logs / f"{launch.name}.log").read_text()
        raise RuntimeError(f"{launch.name} ended: {said[-2000:]}")
    return clients.request(launch.port, "GET", launch.up_path, seconds=5).status == 200


def rest(pid: int, *, seconds: float = 10) -> None:
    """Wait at most `seconds` until a server has finished its work after the answers."""
    ends_at = time.monotonic() + seconds
    pids = tree_of(pid)
    while time.monotonic() < ends_at:
        before = cpu_seconds(pids)
        time.sleep(LOOK_SECONDS)
        if cpu_seconds(pids) - before <= LOOK_CPU_SECONDS:
            return
