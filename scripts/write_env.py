"""Write the secrets of a new installation to .env, once. Standard library only.

An existing file keeps every line; secrets that it lacks are added. `--print` writes a set of
new secrets to standard output instead, for commands that need some but keep none.
"""

from __future__ import annotations

import base64
import os
import secrets
import string
import sys
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

HEADER = """\
# Secrets of this installation, made by `make setup`. Keep a copy in a safe place: without
# ENCRYPTION_KEYS stored provider keys cannot be read, without KEY_DIGEST_PEPPER no API key works.
# Every other setting is described in .env.example.
"""

# After the secrets of a new file; an existing installation keeps its doors as they are.
DOORS = """
# Whoever reaches this gateway may sign up and gets so many credits, once their address is proven.
# Set ALLOW_SIGNUP=false to take people by invitation alone.
ALLOW_SIGNUP=true
SIGNUP_CREDITS=100
"""


def random_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def readable_password() -> str:
    """Return 80 random bits in four groups that are easy to type."""
    text = base64.b32encode(secrets.token_bytes(10)).decode()
    return "-".join(text[start : start + 4] for start in range(0, 16, 4))


def random_text(length: int) -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(length))


def new_secrets() -> dict[str, str]:
    return {
        "SECRET_KEY": random_text(64),
        "ENCRYPTION_KEYS": f"k1:{random_key()}",
        "KEY_DIGEST_PEPPER": random_key(),
        "FIRST_LOGIN_PASSWORD": readable_password(),
    }


def names_set_in(text: str) -> set[str]:
    """Return the settings that have a value; NAME_FILE counts for NAME."""
    names = set()
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and value.strip().strip("'\"") and not name.startswith("#"):
            names.add(name.strip().removesuffix("_FILE"))
    return names


def as_lines(values: dict[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in values.items())


def write_secrets(path: Path) -> list[str]:
    """Create `path`, or add what it lacks; return the names that were written."""
    if create(path, HEADER + as_lines(values := new_secrets()) + DOORS):
        return list(values)
    text = path.read_text(encoding="utf-8")
    present = names_set_in(text)
    missing = {name: value for name, value in new_secrets().items() if name not in present}
    if missing:
        if text and not text.endswith("\n"):
            text += "\n"
        replace(path, text + as_lines(missing))
    elif path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return list(missing)


def create(path: Path, text: str) -> bool:
    """Write a new file that only its owner can read; return False where one exists."""
    try:
        # O_EXCL: of two simultaneous starts only one writes, and no link is followed.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return True


def replace(path: Path, text: str) -> None:
    """Put a complete new file in place of the old one, so that no crash leaves half a file."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    create(draft, text)
    draft.replace(path)


def main(arguments: list[str]) -> None:
    if arguments == ["--print"]:
        sys.stdout.write(as_lines(new_secrets()))
        return
    written = write_secrets(BASE_DIR / ".env")
    if written:
        print(f"Wrote {', '.join(written)} to .env (readable by you only; keep a copy).")


if __name__ == "__main__":
    main(sys.argv[1:])
