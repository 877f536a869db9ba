"""The start: check the settings, prepare, fork the workers, print the address."""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import os
import sys
import threading
from functools import partial
from typing import Any, NoReturn

from django.conf import settings

from server import output, prepare, supervisor, worker
from server.banner import announce_when_up
from server.config import (
    BASE_DIR,
    Config,
    prepare_data_dir,
    raise_file_limit,
    read_env_file,
    require_free_port,
)


def main() -> NoReturn:
    parser = argparse.ArgumentParser(description="Start the gateway.")
    parser.add_argument("--first-run", action="store_true", help="migrate, create a first login")
    first_run: bool = parser.parse_args().first_run

    output.install()
    os.umask(0o077)  # only this user may read the database, with all conversations
    os.chdir(BASE_DIR)
    read_env_file()
    config = Config(first_run)
    require_free_port(config)
    raise_file_limit()
    prepare_data_dir(config.data_dir)
    multiprocessing.set_start_method("fork")

    prepare.import_project()
    prepare.require_safe_exposure(config)
    print(f"AI gateway {settings.VERSION}", flush=True)
    report = prepare.prepare_in_child(first_run)
    if "problem" in report:
        raise SystemExit(report["problem"])
    if "warning" in report:
        print(report["warning"], file=sys.stderr)
    sys.exit(serve(config, report))


def serve(config: Config, report: dict[str, Any]) -> int:
    """Run the workers until the server is stopped. Returns the exit status."""
    # Workers repeat only the checks that needed a database that was down.
    os.environ["GATEWAY_CHECKED"] = f"with{'out' * report.get('is_away', False)} the database"
    logging.getLogger("_granian").setLevel(logging.WARNING)
    gc.collect()
    gc.freeze()  # keeps memory shared with the workers, which garbage collections would copy
    supervisor.block_signals()
    drain_seconds = config.drain_seconds + 2 * worker.FLUSH_SECONDS
    workers = supervisor.Supervisor(partial(worker.work, config), config.workers, drain_seconds)
    announce = threading.Thread(target=announce_when_up, args=(config, report), daemon=True)
    return workers.run(on_started=announce.start)
