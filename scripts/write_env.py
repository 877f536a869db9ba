"""Write the secrets of a new installation to .env, once.

An existing file keeps every line; missing secrets are added. Nothing is added if a database is in
use, because its data was written with other secrets. `--print` writes new secrets to standard
output instead, for commands that need some but keep none.
"""

from __future__ import annotations

import base64
import os
import secrets
import sqlite3
import string
import sys
from collections.abc import Set
from contextlib import closing
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

HEADER = """\
# Secrets of this installation, created by `make setup`. Keep a copy in a safe place: without
# ENCRYPTION_KEYS stored provider keys cannot be read, without KEY_DIGEST_PEPPER no API key works.
# Every other setting is described in .env.example.
"""

# Follows the secrets in a new file. An existing installation keeps its sign-up settings.
DOORS = """
# Anyone who can reach this gateway may sign up, and gets these credits once their e-mail is
# verified. Set ALLOW_SIGNUP=false to admit people by invitation only.
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
    """Return the settings that have a value. NAME_FILE counts as NAME."""
    names = set()
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and value.strip().strip("'\"") and not name.startswith("#"):
            names.add(name.strip().removesuffix("_FILE"))
    return names


def as_lines(values: dict[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in values.items())


def write_secrets(path: Path, *, elsewhere: Set[str] = frozenset()) -> list[str]:
    """Create `path`, or add the missing secrets. Returns the names written.

    Names set elsewhere are not written.
    """
    values = {name: value for name, value in new_secrets().items() if name not in elsewhere}
    if create(path, HEADER + as_lines(values) + DOORS):
        return list(values)
    text = path.read_text(encoding="utf-8")
    present = names_set_in(text)
    missing = {name: value for name, value in values.items() if name not in present}
    if missing:
        if text and not text.endswith("\n"):
            text += "\n"
        replace(path, text + as_lines(missing))
    elif path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return list(missing)


def create(path: Path, text: str) -> bool:
    """Write a new file that only its owner can read. Returns False if it already exists."""
    try:
        # O_EXCL: of two simultaneous starts only one writes, and links are not followed.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return True


def replace(path: Path, text: str) -> None:
    """Replace a file with a complete new one, so that a crash never leaves half a file."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    create(draft, text)
    draft.replace(path)


# The secrets that a database depends on. A new SECRET_KEY would only log people out.
NEEDED = ("ENCRYPTION_KEYS", "KEY_DIGEST_PEPPER")


def require_no_database(path: Path) -> set[str]:
    """Return the names that are set in a file or in the environment.

    Exits with advice if secrets are missing but a database is in use.
    """
    # The server reads another file if ENV_FILE names one.
    files = [path, Path(os.environ.get("ENV_FILE", os.devnull))]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files if file.is_file())
    present = names_set_in(text) | names_set_in(as_lines(dict(os.environ)))
    missing = [name for name in NEEDED if name not in present]
    if missing and (database := find_database_in_use(text)):
        raise SystemExit(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not in {path.name}, but "
            f"a database already exists: {database}.\n"
            "New secrets would make its API keys, provider keys and second factors useless, so "
            "none were written.\n"
            f"Restore {path.name} from your copy of it. To start over with an empty database "
            "instead, move this one away first\n"
            "(or choose another DATA_DIR or DATABASE_URL), then run this again."
        )
    return present


def find_database_in_use(text: str) -> str:
    """Return where the database of these settings is if it contains accounts, else ''."""
    url, data_dir = (read_setting(name, text) for name in ("DATABASE_URL", "DATA_DIR"))
    if url.startswith(("postgres://", "postgresql://", "psql://", "pgsql://")):
        return postgresql_in_use(url)
    file = Path(data_dir or BASE_DIR / "var") / "gateway.sqlite3"
    if url.startswith("sqlite:///"):
        file = Path(url.removeprefix("sqlite:///"))
    return sqlite_in_use(file if file.is_absolute() else BASE_DIR / file)


def read_setting(name: str, text: str) -> str:
    """Return a setting from the environment, else from the file's text. Follows NAME_FILE."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        found, _, value = line.strip().removeprefix("export ").partition("=")
        values.setdefault(found.strip(), value.strip().strip("'\""))
    values |= os.environ
    kept_in = Path(values.get(f"{name}_FILE") or os.devnull)
    if kept_in.is_file():
        return kept_in.read_text(encoding="utf-8").strip()
    return values.get(name, "")


IN_USE = "SELECT EXISTS (SELECT 1 FROM channels_user)"


def sqlite_in_use(file: Path) -> str:
    if not file.is_file():
        return ""
    try:
        # Not read-only, because the latest rows may be in the log beside the file.
        with closing(sqlite3.connect(file, timeout=5)) as connection:
            return str(file) if connection.execute(IN_USE).fetchone()[0] else ""
    except sqlite3.OperationalError as error:
        # An empty file, or one that was never migrated.
        return "" if "no such table" in str(error) else f"{file} ({error})"
    except sqlite3.DatabaseError as error:
        return f"{file} ({error})"


def postgresql_in_use(url: str) -> str:
    """Ask the server. If it is down, return '', because every start asks again."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        with psycopg.connect(url, connect_timeout=3) as connection:
            row = connection.execute(IN_USE).fetchone()
    except psycopg.Error:
        return ""
    # Without the password that the address may contain.
    name = conninfo_to_dict(url).get("dbname", "")
    return f"{name} on PostgreSQL" if row and row[0] else ""


def main(arguments: list[str]) -> None:
    if arguments == ["--print"]:
        sys.stdout.write(as_lines(new_secrets()))
        return
    path = BASE_DIR / ".env"
    written = write_secrets(path, elsewhere=require_no_database(path))
    if written:
        print(f"Wrote {', '.join(written)} to {path.name} (readable by you only; keep a copy).")


if __name__ == "__main__":
    main(sys.argv[1:])
