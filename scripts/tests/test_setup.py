"""Which Pythons setup.sh accepts, and what it says about the others."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).resolve().parent.parent / "setup.sh"

# Pretends to be another version: sets version_info, and has no venv module, so setup stops.
FAKE = """#!/bin/sh
[ "$1" = -V ] && echo "Python {version}" && exit
case "$2" in *ensurepip*) exit 1 ;; esac
code=$2; shift 2
exec python3 -c "import sys; sys.version_info = ({numbers}, 'final', 0)
$code" "$@"
"""


def run_with(version: str, folder: Path) -> str:
    """Run setup.sh with a Python of this version. Returns its output."""
    python = folder / "python"
    python.write_text(FAKE.format(version=version, numbers=version.replace(".", ", ")))
    python.chmod(0o755)
    scripts = folder / "scripts"
    scripts.mkdir()
    (scripts / "setup.sh").write_text(SETUP.read_text())
    result = subprocess.run(
        ["sh", str(scripts / "setup.sh"), "requirements.txt"],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHON": str(python)},
    )  # fmt: skip
    assert result.returncode == 1
    assert not (folder / ".venv").exists()
    return result.stderr


@pytest.mark.parametrize("version", ["3.11.1", "3.10.14", "3.9.2"])
def test_refuses_an_older_python_and_says_which_is_needed(version: str, tmp_path: Path) -> None:
    said = run_with(version, tmp_path)
    assert f"Python 3.11.2 or newer is needed; {tmp_path}/python is Python {version}." in said
    assert "PYTHON=" in said


@pytest.mark.parametrize("version", ["3.11.2", "3.11.14", "3.12.0", "3.13.9"])
def test_takes_what_it_was_tried_on_without_a_word(version: str, tmp_path: Path) -> None:
    assert run_with(version, tmp_path).startswith("This Python lacks the venv module.")


@pytest.mark.parametrize("version", ["3.14.0", "3.20.1"])
def test_warns_of_a_python_newer_than_any_it_was_tried_on(version: str, tmp_path: Path) -> None:
    said = run_with(version, tmp_path)
    assert f"Warning: Python {version} is newer than Python 3.13" in said
    assert "This Python lacks the venv module." in said  # and goes on
