"""Third-party clients with locked versions, downloaded once for each lock file into DATA_DIR."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

SDK = Path(__file__).parent / "sdk"


def npm_workspace() -> Path:
    """Return a directory with the npm clients and our scripts. Skips without node and npm."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("needs node and npm")
    place = place_for("package-lock.json")
    for path in (SDK / "package.json", SDK / "package-lock.json", *SDK.glob("*.mjs")):
        shutil.copy(path, place)
    if not (place / "node_modules").exists():
        run(place, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    return place


def python_workspace() -> Path:
    """Return a directory with a virtual environment that contains LangChain."""
    place = place_for("requirements.txt")
    stamp = place / "installed"
    if not stamp.exists():
        run(place, sys.executable, "-m", "venv", "--clear", "venv")
        install = "-m", "pip", "install", "-qq", "--no-input", "--require-hashes", "-r"
        run(place, "venv/bin/python", *install, str(SDK / "requirements.txt"))
        stamp.touch()
    return place


def place_for(lock: str) -> Path:
    digest = hashlib.sha256((SDK / lock).read_bytes()).hexdigest()[:12]
    place: Path = settings.DATA_DIR / f"sdk-{digest}"
    place.mkdir(parents=True, exist_ok=True)
    return place


def run(place: Path, *command: str, **environment: str) -> str:
    """Run a program in the directory and return its output. Fails the test if the program fails."""
    result = subprocess.run(
        command,
        cwd=place,
        env=dict(os.environ) | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
