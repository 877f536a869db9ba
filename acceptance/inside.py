"""Runs the parts of checks that use the gateway's code: `python -m acceptance.inside COMMAND`.

The argument is JSON on standard input, the result is JSON on standard output. Each command runs in
its own process, with the environment of the rig.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import django


def main(command: str) -> None:
    django.setup()
    # They import models, and so need Django set up.
    from acceptance import b01_worker, b07_worker, b10_worker, channels_worker, secret_worker

    commands: dict[str, Callable[[Any], Any]] = {
        "channels": channels_worker.channels,
        "routes": channels_worker.routes,
        "charge": b01_worker.charge,
        "grant": b07_worker.grant_at_once,
        "load": b10_worker.load,
        "inject": b10_worker.inject,
        "equal_nonces": secret_worker.equal_nonces,
        "tamper": secret_worker.tamper,
        "spoil": secret_worker.spoil,
        "fill": secret_worker.fill,
        "secrets_in_use": secret_worker.secrets_in_use,
        "pepper_id": secret_worker.pepper_id,
        "log_in": secret_worker.log_in,
        "shut": secret_worker.shut,
        "new_keys": secret_worker.new_keys,
        "try_keys": secret_worker.try_keys,
    }
    json.dump(commands[command](json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
