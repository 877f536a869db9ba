"""Install the locks under every Python that setup.sh accepts, and load the gateway there.

    try_pythons.py

Each interpreter found (on PATH, in /usr/bin, /usr/local/bin, or pyenv's folder) gets a new
environment: install, `pip check`, and `manage.py check` with Redis's client loaded. For a minor
version without an interpreter, this asks pip whether each package has a wheel for it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
LOCKS = ("requirements.txt", "requirements-dev.txt")
FOLDERS = (
    "/usr/bin",
    "/usr/local/bin",
    *(str(p) for p in Path.home().glob(".pyenv/versions/*/bin")),
)

Version = tuple[int, ...]


def main() -> int:
    oldest, newest = accepted_range()
    found = interpreters(oldest, newest)
    for version, python in sorted(found.items()):
        print(f"Python {text_of(version)} ({python}):", flush=True)
        # The oldest with its own pip, as setup.sh does it; the others with uv, in a tenth of the
        # time.
        install_and_check(python, with_pip=version == min(found))
    for minor in range(oldest[1], newest[1] + 1):
        if not any(version[1] == minor for version in found):
            print(f"Python 3.{minor}: not found; looking for wheels.", flush=True)
            look_for_wheels(f"3.{minor}")
    return 0


def accepted_range() -> tuple[Version, Version]:
    """Return the oldest and the newest version that setup.sh names."""
    printed = subprocess.run(
        ["sh", "scripts/setup.sh", "--pythons"],
        cwd=BASE_DIR, capture_output=True, text=True, check=True,
    )  # fmt: skip
    oldest, newest = (tuple(map(int, text.split("."))) for text in printed.stdout.split())
    return oldest, newest


def interpreters(oldest: Version, newest: Version) -> dict[Version, str]:
    """Return the interpreters found within the range, one for each exact version."""
    search = os.pathsep.join([os.environ.get("PATH", ""), *FOLDERS]).split(os.pathsep)
    found: dict[Version, str] = {}
    for folder in search:
        for minor in range(oldest[1], newest[1] + 1):
            python = shutil.which(f"python3.{minor}", path=folder)
            version = python and version_of(python)
            if python and version and oldest <= version and version[:2] <= newest:
                found.setdefault(version, python)
    return found


def version_of(python: str) -> Version | None:
    """Return an interpreter's version, or None if it does not run or has no venv."""
    # pyenv has shims for versions that are not selected, which fail.
    told = subprocess.run(
        [python, "-c", "import sys, venv, ensurepip; print(*sys.version_info[:3])"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    numbers = told.stdout.split()
    return tuple(map(int, numbers)) if told.returncode == 0 and len(numbers) == 3 else None


def text_of(version: Version) -> str:
    return ".".join(map(str, version))


def install_and_check(python: str, *, with_pip: bool) -> None:
    """Install both locks into a new environment, and load the whole project with it."""
    with tempfile.TemporaryDirectory() as scratch:
        run(python, "-m", "venv", *([] if with_pip else ["--without-pip"]), scratch)
        own = f"{scratch}/bin/python"
        pip = (own, "-m", "pip") if with_pip else (sys.executable, "-m", "uv", "pip")
        where = () if with_pip else ("--python", own)
        for lock in LOCKS:
            run(*pip, "install", "-qq", *where, "--only-binary=:all:", "--require-hashes",
                "--no-deps", "-r", lock)  # fmt: skip
        run(sys.executable, "-m", "uv", "pip", "check", "-q", "--python", own)
        # Redis need not answer, but its client must load.
        run(own, "-c", "import redis.asyncio, kombu.transport.redis")
        run(own, "manage.py", "check", DJANGO_SETTINGS_MODULE="gateway.settings_test",
            DATABASE_URL="sqlite://:memory:", REDIS_URL="redis://127.0.0.1:6379/0")  # fmt: skip


def look_for_wheels(minor: str) -> None:
    """Fail unless every package of the locks has a wheel for this Python."""
    with tempfile.TemporaryDirectory() as scratch:
        for lock in LOCKS:
            run(sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check",
                "--python-version", minor, "--only-binary=:all:", "--require-hashes", "--no-deps",
                "--dest", scratch, "-r", lock)  # fmt: skip


def run(*command: str, **environment: str) -> None:
    subprocess.run(command, cwd=BASE_DIR, check=True, env=os.environ | environment)


if __name__ == "__main__":
    sys.exit(main())
