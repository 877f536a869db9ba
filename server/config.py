"""The launcher's settings from the environment. Django reads the rest.

If a setting is wrong, the start ends with one sentence that names it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import ipaddress
import os
import socket
import stat
import sys
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

# A call may take its whole deadline, and then a moment to settle.
DRAIN_MARGIN_SECONDS = 15


class Config:
    """The launcher's settings. Raises SystemExit if one is invalid."""

    def __init__(self, first_run: bool) -> None:
        self.first_run = first_run
        self.host = os.environ.get("HOST") or "127.0.0.1"
        self.port = whole_number("PORT", 8000, high=65535)
        self.workers = whole_number("WORKERS", 1 if first_run else 2, high=1024)
        self.threads = whole_number("THREADS", 64, high=4096)
        self.calls = whole_number("PROVIDER_CALLS", 400, high=10_000)
        self.drain_seconds = DRAIN_MARGIN_SECONDS + max(
            whole_number("PROVIDER_DEADLINE", 60, high=3600),
            whole_number("PROVIDER_STREAM_DEADLINE", 300, high=3600),
        )
        self.allows_plain_http = yes_or_no("ALLOW_PLAIN_HTTP")
        self.data_dir = Path(os.environ.get("DATA_DIR") or BASE_DIR / "var")
        self.address = resolve(self.host)
        # A browser cannot open an address that means “all of them”.
        self.local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.address, self.host)  # noqa: S104
        self.url = f"http://{in_url(self.local)}:{self.port}"

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach the server."""
        return not ipaddress.ip_address(self.address.partition("%")[0]).is_loopback


def whole_number(name: str, default: int, *, high: int) -> int:
    text = os.environ.get(name, "").strip() or str(default)
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= high):
        raise SystemExit(f"{name} must be a whole number from 1 to {high}, not {text!r}.")
    return int(text)


def yes_or_no(name: str) -> bool:
    text = os.environ.get(name, "").strip().lower() or "false"
    if text not in ("true", "false"):
        raise SystemExit(f"{name} must be true or false, not {text!r}.")
    return text == "true"


def resolve(host: str) -> str:
    """Return the address of a host. Granian binds only to addresses, so names are looked up."""
    bare = host.removeprefix("[").removesuffix("]")
    try:
        return str(socket.getaddrinfo(bare, None, type=socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError) as error:
        raise SystemExit(
            f"HOST={host} is not an address of this machine ({error}). Set HOST=127.0.0.1 to "
            "serve only this machine, or HOST=0.0.0.0 to serve other machines too."
        ) from None


def in_url(host: str) -> str:
    """Return a host as written in a URL: IPv6 in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def read_env_file() -> None:
    """Read `.env` into the environment. Variables that are already set win."""
    import environ

    path = Path(os.environ.get("ENV_FILE") or BASE_DIR / ".env")
    if not path.is_file():
        return
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SystemExit(
            f"{path} cannot be read ({error.strerror}): it belongs to {owner_of(path)}, and this "
            f"process runs as user {os.getuid()}. Start as its owner, or chown the file."
        ) from None
    except UnicodeDecodeError:
        raise SystemExit(f"{path} is not UTF-8 text. Restore it from a copy.") from None
    environ.Env.read_env(io.StringIO(text))


def owner_of(path: Path) -> str:
    with contextlib.suppress(OSError):
        return f"user {path.stat().st_uid}"
    return "another user"


def require_free_port(config: Config) -> None:
    """Stop with advice if a program is already listening there."""
    # Workers share the port through SO_REUSEPORT. Without this check a second server would silently
    # take half of the first one's requests.
    family = socket.AF_INET6 if ":" in config.address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((config.address, config.port))
    except OSError as error:
        raise SystemExit(port_advice(config, error)) from None


def port_advice(config: Config, error: OSError) -> str:
    target = "run" if config.first_run else "serve"
    other = config.port + 1 if config.port < 65535 else config.port - 1
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {config.port} is in use by another program.\n"
            f"Stop that program, or choose another port:  PORT={other} make {target}"
        )
    if error.errno == errno.EACCES:
        return (
            f"This user may not listen on port {config.port}: ports below 1024 need root.\n"
            f"Choose another port:  PORT=8000 make {target}"
        )
    return f"Cannot listen on {in_url(config.host)} port {config.port}: {error.strerror}."


def prepare_data_dir(path: Path) -> None:
    """Create the folder of the database and static files, for this user only."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = path / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
        mode = path.stat().st_mode
    except OSError as error:
        reason = "it is not a folder" if path.exists() and not path.is_dir() else error.strerror
        raise SystemExit(
            f"DATA_DIR={path} cannot be written to ({reason}). Name a folder this user may use."
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        # Left as it is: the folder existed before, and others may need it for something else.
        print(
            f"DATA_DIR={path} is open to other users of this machine. They cannot read the "
            f"database in it, but close the folder too:  chmod 700 {path}",
            file=sys.stderr,
        )


def raise_file_limit() -> None:
    """Raise the limit of open files. Each connection is a file, and 1,024 is soon reached."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
