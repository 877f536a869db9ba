"""Runs a function with the gateway's code: `python -m tests.harness.inside MODULE.FUNCTION`.

Its argument is JSON on standard input, its result is JSON on standard output. Each call runs in its
own process, with the environment of the rig.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module

import django


def main(function: str) -> None:
    django.setup()
    module, _, name = function.rpartition(".")
    result = getattr(import_module(module), name)(json.load(sys.stdin))
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
