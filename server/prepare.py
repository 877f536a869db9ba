"""Before the first worker: load the settings, check the installation, and set it up.

The parent imports Django once and never opens a connection, so that it can fork workers. Everything
that touches the database runs in a separate child process, which then ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import multiprocessing
import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from server.config import BASE_DIR, Config

# Django's deployment checks that a server must pass before other machines may reach it, and how to
# fix each. `manage.py check --deploy` runs all of them.
OPEN_COOKIES = ("security.W010", "security.W011", "security.W012", "security.W016")
NEEDED_IN_PUBLIC = {
    "security.W009": "SECRET_KEY is weak: anyone could forge a login. `.venv/bin/python "
    "scripts/write_env.py --print` prints a strong one.",
    "security.W018": "DEBUG is on: error pages show settings and code. Set DEBUG=false.",
} | dict.fromkeys(
    OPEN_COOKIES,
    "SECURE_COOKIES is off: passwords and logins travel unencrypted. Put a proxy with TLS in "
    "front, and set SECURE_COOKIES=true and TRUSTED_PROXY_COUNT=1. Or set ALLOW_PLAIN_HTTP=true if "
    "nobody else can listen on the network.",
)


def import_project() -> None:
    """Load settings, models, and views without opening a connection."""
    import django
    from django.core.exceptions import ImproperlyConfigured
    from django.urls import get_resolver

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
    try:
        django.setup()
    except ImproperlyConfigured as error:
        raise SystemExit(str(error)) from None
    _ = get_resolver().url_patterns


def require_safe_exposure(config: Config) -> None:
    """Refuse to serve other machines with settings that are only safe on one machine."""
    from django.core import checks

    if not config.is_public:
        return
    found = checks.run_checks(tags=[checks.Tags.security], include_deployment_checks=True)
    problems = {
        NEEDED_IN_PUBLIC[one.id]
        for one in found
        if one.id in NEEDED_IN_PUBLIC
        if not (config.allows_plain_http and one.id in OPEN_COOKIES)
    }
    if problems:
        raise SystemExit(
            f"HOST={config.host} can be reached by other machines, so the server does not start:\n"
            + "".join(f"- {text}\n" for text in sorted(problems))
            + "To serve only this machine, set HOST=127.0.0.1."
        )


def prepare_in_child(first_run: bool) -> dict[str, Any]:
    """Check the installation, and set it up on a first run. Returns what the banner needs."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.Process(target=prepare, args=(sender, first_run))
    child.start()
    sender.close()
    try:
        report: dict[str, Any] = receiver.recv()
    except EOFError:
        report = {"problem": "The preparation failed; see above."}
    child.join()
    return report


def prepare(sender: Connection, first_run: bool) -> None:
    from django.core.management.base import CommandError, SystemCheckError
    from django.db import Error as DatabaseError
    from django.db import OperationalError

    import_project()
    try:
        sender.send(prepared(first_run))
    except SystemCheckError as error:
        sender.send({"problem": str(error).strip()})
    except OSError as error:
        sender.send({"problem": f"The preparation failed: {error}."})
    except (CommandError, DatabaseError) as error:
        text = f"{type(error).__name__}: {error}".strip()
        # Without its database a server can still report that (/readyz), and it recovers when the
        # database returns.
        away = isinstance(error, OperationalError) and not first_run
        sender.send(
            {"warning": f"Starting without the database.\n{text}", "is_away": True}
            if away
            else {"problem": text}
        )


def prepared(first_run: bool) -> dict[str, Any]:
    from django.core.management import call_command
    from django.db import connections

    for connection in connections.all():
        # A pool would retry for seconds and then report a time-out instead of the cause.
        connection.settings_dict.get("OPTIONS", {}).pop("pool", None)
        if connection.vendor == "sqlite":
            close_to_others(Path(connection.settings_dict["NAME"]))
    collect_static()
    pending = migrations_are_pending()
    if pending and first_run:
        # Never migrate with another installation's secrets.
        call_command("check", tags=["secrets"], databases=["default"], stdout=io.StringIO())
        call_command("migrate", interactive=False, verbosity=0)
    # Warnings of the checks go to standard error; errors raise.
    call_command("check", databases=["default"], stdout=io.StringIO())
    report: dict[str, Any] = {}
    if pending and not first_run:
        report["warning"] = "Some migrations are not applied; run: python manage.py migrate"
    if first_run:
        output = io.StringIO()
        call_command("firstrun", "--json", stdout=output)
        report.update(json.loads(output.getvalue()))
    return report


def close_to_others(database: Path) -> None:
    """Remove other users' access to a database that was created under another umask."""
    for path in (database, *(Path(f"{database}{end}") for end in ("-wal", "-shm", "-journal"))):
        try:
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)
        except FileNotFoundError:
            continue
        except OSError as error:
            print(f"{path} stays open to other users: {error.strerror}.", file=sys.stderr)


def migrations_are_pending() -> bool:
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def collect_static() -> None:
    """Collect static files once, and again when a dependency or one of our files changes."""
    from django.conf import settings
    from django.core.management import call_command

    root = Path(settings.STATIC_ROOT)
    stamp, wanted = root / ".stamp", static_fingerprint()

    def is_collected() -> bool:
        return stamp.is_file() and stamp.read_text() == wanted

    # Before the lock as well: a complete folder may be read-only.
    if is_collected():
        return
    root.mkdir(parents=True, exist_ok=True)
    # Two servers that start at once would delete each other's files.
    with (root / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_collected():
            call_command("collectstatic", interactive=False, verbosity=0)
            stamp.write_text(wanted)


def static_fingerprint() -> str:
    digest = hashlib.sha256((BASE_DIR / "requirements.txt").read_bytes())
    for path in sorted([*BASE_DIR.glob("static/**/*"), *BASE_DIR.glob("*/static/**/*")]):
        if path.is_file() and BASE_DIR / "var" not in path.parents:
            digest.update(f"{path.relative_to(BASE_DIR)}\0".encode() + path.read_bytes())
    return digest.hexdigest()
