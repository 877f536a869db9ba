"""Programs of the machine."""

from __future__ import annotations

import shutil

import pytest


def need_command(*names: str) -> None:
    """Skip a test that runs a program which a bare machine lacks; CI installs them all."""
    for name in names:
        if shutil.which(name) is None:
            pytest.skip(f"needs {name}")
