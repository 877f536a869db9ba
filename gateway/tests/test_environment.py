"""The start checks every setting: one sentence that names it, no traceback, no secret."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

from gateway import environment

pytestmark = pytest.mark.any_database
ROOT: Path = django_settings.BASE_DIR
SECRETS = ("SECRET_KEY", "ENCRYPTION_KEYS", "KEY_DIGEST_PEPPER")
# Read from the environment, but not a setting of an installation.
NOT_SETTINGS = {"ENV_FILE"}


def manage(tmp_path: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a command of a new installation on SQLite, with only these settings."""
    own = {"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path / "data"), "ENV_FILE": os.devnull}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=own | {name: os.environ[name] for name in SECRETS} | changes,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


WRONG = [
    ("ALLOWED_HOSTS", "https://gw.example.com"),
    ("ALLOWED_HOSTS", "gw.example.com:8000"),
    ("ALLOWED_HOSTS", "127.0.0.1, gw.example.com/x"),
    ("API_KEY_PREFIX", "a b"),
    ("CELERY_BROKER_URL", "nonsense"),
    ("CSRF_TRUSTED_ORIGINS", "gw.example.com"),
    ("CSRF_TRUSTED_ORIGINS", "https://gw.example.com/admin"),
    ("DATABASE_POOL_SIZE", "0"),
    ("DATABASE_PREPARED_STATEMENTS", "maybe"),
    ("DATABASE_URL", "nonsense"),
    ("DATABASE_URL", "postgres://u:the-secret@db.test"),
    ("DATABASE_URL", "postgres://u:the-secret/#@db.test/gw"),
    ("DATA_DIR", "/etc/passwd"),
    ("DATA_DIR", "/etc/passwd/x"),
    ("DEBUG", "please"),
    ("EMAIL_FROM", "me"),
    ("EMAIL_FROM", "a@example.com\nBcc: c@example.com"),
    ("EMAIL_URL", "ftp://mail.test"),
    ("EMAIL_URL", "smtp://u:the-secret/x@mail.test"),
    ("EMAIL_URL", "smtp+tls://"),
    ("HSTS_SECONDS", "-1"),
    ("LOG_LEVEL", "chatty"),
    ("PORT", "99999"),
    ("PROVIDER_BASE_URL", "api.test/v1"),
    ("PUBLIC_URL", "gw.example.com"),
    ("PUBLIC_URL", "https://gw.example.com/sub"),
    ("PUBLIC_URL", "ftp://gw.example.com"),
    ("REDIS_URL", "nonsense"),
    ("REDIS_URL", "redis://:the-secret@h:port/0"),
    ("SECURE_COOKIES", "yup"),
    ("SITE_NAME", "a\nb"),
    ("WORKERS", "0"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_setting_is_named_in_a_sentence(tmp_path: Path, name: str, value: str) -> None:
    done = manage(tmp_path, "check", **{name: value})
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(name)
    assert done.stderr.count("\n") == 1
    assert "the-secret" not in done.stderr


def test_a_bug_still_shows_where_it_is(tmp_path: Path) -> None:
    done = manage(tmp_path, "check", "--traceback", PORT="99999")
    assert "Traceback" in done.stderr
    assert "PORT must be" in done.stderr


@pytest.mark.parametrize("text", ["true", "True", "YES", "on", "1", " true "])
def test_words_for_yes(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SWITCH", text)
    assert environment.env.bool("SOME_SWITCH", False) is True


@pytest.mark.parametrize("text", ["false", "no", "Off", "0"])
def test_words_for_no(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SWITCH", text)
    assert environment.env.bool("SOME_SWITCH", True) is False


@pytest.mark.parametrize("default", [True, False])
def test_an_empty_switch_is_as_good_as_none(default: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SWITCH", "")
    assert environment.env.bool("SOME_SWITCH", default) is default


# --- Files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"REDIS_URL_FILE": "/no/such/file"}, "REDIS_URL_FILE cannot be read: No such file"),
        ({"REDIS_URL_FILE": "/etc"}, "REDIS_URL_FILE cannot be read: Is a directory."),
        ({"SECRET_KEY_FILE": "/etc/hostname"}, "SECRET_KEY and SECRET_KEY_FILE are both set"),
        ({"PORT_FILE": "/etc/hostname"}, "PORT cannot be read from a file"),
        ({"ENV_FILE": "/etc"}, "/etc cannot be read: Is a directory."),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, changes: dict[str, str], words: str
) -> None:
    done = manage(tmp_path, "check", **changes)
    assert done.returncode == 1
    assert done.stderr.startswith(words)
    assert done.stderr.count("\n") == 1


def test_a_file_may_end_with_a_line_break(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"sqlite:///{tmp_path}/gw.sqlite3\n")
    done = manage(tmp_path, "check", DATABASE_URL_FILE=str(tmp_path / "url"))
    assert done.returncode == 0, done.stderr


# --- Names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("WROKERS", "WORKERS"),
        ("WORKER", "WORKERS"),
        ("REDIS_URI", "REDIS_URL"),
        ("PROT", "PORT"),
        ("DATABASE_URL_FILES", "DATABASE_URL_FILE"),
        ("EMAIL_URL_FLIE", "EMAIL_URL_FILE"),
        ("SECRET_KEYS_FILE", "SECRET_KEY_FILE"),
        ("ALOWED_HOSTS", "ALLOWED_HOSTS"),
    ],
)
def test_a_name_that_looks_like_a_setting_is_reported(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "3")
    assert environment.unknown_names()[name] == meant


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "HOSTNAME", "LANG", "TERM", "PWD", "SHLVL", "USER", "PGPORT",
             "REDIS_PORT", "DATABASE_PORT", "PYTHONPATH", "TZ", "SSH_AUTH_SOCK"]
)  # fmt: skip
def test_names_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "3")
    assert name not in environment.unknown_names()


def test_every_unknown_name_in_the_file_is_reported(tmp_path: Path) -> None:
    """In this file, every name should be a setting of the gateway."""
    file = tmp_path / "settings"
    file.write_text("# a comment\nSITE_NAME=Shop\nFAVOURITE_COLOUR=blue\nexport WROKERS=3\n")
    done = manage(tmp_path, "check", ENV_FILE=str(file))
    assert "(gateway.W002) FAVOURITE_COLOUR is not a setting." in done.stderr
    assert "(gateway.W002) WROKERS is not a setting; is WORKERS meant?" in done.stderr
    assert "SITE_NAME" not in done.stderr


# --- Documents ------------------------------------------------------------------------------


def settings_known() -> set[str]:
    # Those that a command has read, including the launcher's.
    assert django_settings.PORT
    return {name for name in environment.known if name.isupper() and "SOME_" not in name} - (
        NOT_SETTINGS
    )


def test_the_example_names_every_setting_and_no_other() -> None:
    text = (ROOT / ".env.example").read_text()
    named = set(re.findall(r"^([A-Z][A-Z_0-9]+)=", text, re.MULTILINE))
    assert named == settings_known()


def test_the_page_of_operations_names_every_setting_and_no_other() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    table = page.partition("| setting | default | meaning |")[2].partition("\n\n")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {name for cell in first_cells for name in re.findall(r"`([A-Z][A-Z_0-9]+)`", cell)}
    assert named == settings_known()


def test_the_example_shows_defaults() -> None:
    text = (ROOT / ".env.example").read_text()
    shown = dict(re.findall(r"^([A-Z][A-Z_0-9]+)=(.+)$", text, re.MULTILINE))
    differing = {
        name: (value, environment.known[name])
        for name, value in shown.items()
        # An empty default is set in code, for example a folder of this checkout.
        if environment.known[name] not in ("", value) and name not in SECRETS
    }
    assert differing == {}


# --- Mail -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "port", "tls", "ssl"),
    [
        ("smtp", 25, False, False),
        ("smtps", 465, False, True),
        ("smtp+ssl", 465, False, True),
        ("submissions", 465, False, True),
        ("smtp+tls", 587, True, False),
        ("smtp+starttls", 587, True, False),
        ("submission", 587, True, False),
        ("SMTPS", 465, False, True),
    ],
)
def test_the_usual_spellings_of_a_mail_server(scheme: str, port: int, tls: bool, ssl: bool) -> None:
    found = environment.mail_settings(f"{scheme}://me%40example.com:p%2Fa%3As%25s@mail.test")
    assert (found["EMAIL_HOST"], found["EMAIL_PORT"]) == ("mail.test", port)
    assert (found["EMAIL_USE_TLS"], found["EMAIL_USE_SSL"]) == (tls, ssl)
    assert found["EMAIL_HOST_USER"] == "me@example.com"
    assert found["EMAIL_HOST_PASSWORD"] == "p/a:s%s"
    assert environment.mail_settings(f"{scheme}://mail.test:2525")["EMAIL_PORT"] == 2525


def test_a_wrong_mail_server_is_refused_without_its_password() -> None:
    with pytest.raises(ImproperlyConfigured, match="EMAIL_URL must look like") as caught:
        environment.mail_settings("imap://me:the-secret@mail.test")
    assert "the-secret" not in str(caught.value)


def test_a_mail_server_that_is_away_is_told_in_a_line(tmp_path: Path) -> None:
    done = manage(
        tmp_path, "sendtestemail", "a@example.com", EMAIL_URL="smtps://me:the-secret@127.0.0.1:1"
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "EMAIL_URL (127.0.0.1:1) refused the e-mail: Connection refused." in done.stderr
    assert "the-secret" not in done.stderr


def test_without_a_mail_server_the_test_mail_says_so(tmp_path: Path) -> None:
    done = manage(tmp_path, "sendtestemail", "a@example.com", EMAIL_URL="")
    assert done.returncode == 0
    assert "To: a@example.com" in done.stdout
    assert "EMAIL_URL is not set" in done.stderr


# --- The database ---------------------------------------------------------------------------

COMMANDS = (
    ("check", "--database", "default"),
    ("listmodels",),
    ("migrate",),
    ("createchannel", "--owner", "a@example.com", "--name", "Shop"),
    ("backup", "never-written"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgres://u:the-secret@127.0.0.1:1/gw", "Connection refused"),
        ("postgres://u:the-secret@no.such.host.invalid/gw", "no.such.host.invalid"),
        ("sqlite:////no/such/folder/gw.sqlite3", "/no/such/folder/gw.sqlite3"),
    ],
)
def test_every_command_gives_the_drivers_own_reason(
    tmp_path: Path, command: tuple[str, ...], url: str, words: str
) -> None:
    done = manage(tmp_path, *command, DATABASE_URL=url)
    assert done.returncode == 1
    assert words in done.stderr
    assert "DATABASE_URL" in done.stderr or "sqlite" in url
    assert "Traceback" not in done.stderr
    assert "couldn't get a connection" not in done.stderr
    assert len(done.stderr.splitlines()) <= 8
    assert "the-secret" not in done.stderr


def test_a_database_without_tables_is_told_in_a_line(tmp_path: Path) -> None:
    done = manage(tmp_path, "listmodels")
    assert done.returncode == 1
    assert "manage.py migrate" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"NAME": "no_such_database"}, "does not exist"),
        ({"USER": "no_such_role"}, "does not exist"),
    ],
)
def test_what_postgresql_says_is_said(tmp_path: Path, change: dict[str, str], words: str) -> None:
    config: dict[str, Any] = django_settings.DATABASES["default"]
    if not config["ENGINE"].endswith("postgresql"):
        pytest.skip("no PostgreSQL in DATABASE_URL")
    told = config | change
    url = f"postgres://{told['USER']}@{told['HOST']}:{told['PORT']}/{told['NAME']}"
    done = manage(tmp_path, "check", "--database", "default", DATABASE_URL=url)
    assert done.returncode == 1
    assert words in done.stderr
    assert "gateway.E003" in done.stderr
