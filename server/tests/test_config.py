"""If the launcher cannot use a setting, the start ends with one sentence that names it."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts import write_env
from server import config, prepare
from server.banner import curl_line, short_banner
from server.config import Config, prepare_data_dir, read_env_file, require_free_port
from server.tests.running import ROOT


@pytest.mark.parametrize("text", ["0", "-1", "99999", "8000.5", "80a", "٣", "1e3", "9" * 400])
@pytest.mark.parametrize("name", ["PORT", "WORKERS", "THREADS", "PROVIDER_CALLS"])
def test_a_number_that_cannot_be_is_named_with_its_bounds(
    monkeypatch: Any, name: str, text: str
) -> None:
    if name == "PORT" or text != "99999":
        monkeypatch.setenv(name, text)
        with pytest.raises(SystemExit, match=f"^{name} must be a whole number from 1 to"):
            Config(first_run=False)


@pytest.mark.parametrize("name", ["PROVIDER_DEADLINE", "PROVIDER_STREAM_DEADLINE"])
def test_deadlines_have_the_bounds_of_the_settings(monkeypatch: Any, name: str) -> None:
    monkeypatch.setenv(name, "3601")
    with pytest.raises(SystemExit, match=f"^{name} must be a whole number from 1 to 3600"):
        Config(first_run=False)


@pytest.mark.parametrize("host", ["nowhere.invalid", "300.1.1.1", "a" * 300, "http://x"])
def test_a_host_that_is_none_is_named(monkeypatch: Any, host: str) -> None:
    monkeypatch.setenv("HOST", host)
    with pytest.raises(SystemExit, match="is not an address of this machine"):
        Config(first_run=False)


def test_a_switch_that_is_neither_is_named(monkeypatch: Any) -> None:
    monkeypatch.setenv("ALLOW_PLAIN_HTTP", "perhaps")
    with pytest.raises(SystemExit, match="ALLOW_PLAIN_HTTP must be true or false"):
        Config(first_run=False)


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_addresses_of_ipv6_can_be_used_as_they_are_printed(monkeypatch: Any, host: str) -> None:
    monkeypatch.setenv("HOST", host)
    made = Config(first_run=True)
    assert made.address == "::1"
    assert made.url == "http://[::1]:8000"
    assert "http://[::1]:8000 " in short_banner(made)
    assert "'http://[::1]:8000/api/chat'" in curl_line(made, "amgai_x")
    error = OSError(99, "Cannot assign requested address")
    assert "[::1] port 8000" in config.port_advice(made, error)


@pytest.mark.parametrize(
    ("host", "is_public"),
    [("127.0.0.1", False), ("127.5.5.5", False), ("::1", False), ("localhost", False),
     ("0.0.0.0", True), ("::", True), ("10.0.0.1", True), ("fe80::1", True)],  # noqa: S104
)  # fmt: skip
def test_what_others_can_reach_is_public(monkeypatch: Any, host: str, *, is_public: bool) -> None:
    monkeypatch.setenv("HOST", host)
    assert Config(first_run=False).is_public is is_public


def test_a_port_that_this_user_may_not_have_is_said(monkeypatch: Any) -> None:
    monkeypatch.setenv("PORT", "80")
    text = config.port_advice(Config(first_run=False), PermissionError(13, "Permission denied"))
    assert "port 80" in text
    assert "PORT=8000 make serve" in text


def test_the_last_port_has_another_one_beside_it(monkeypatch: Any) -> None:
    monkeypatch.setenv("PORT", "65535")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 65535))
        with pytest.raises(SystemExit, match="PORT=65534 make run"):
            require_free_port(Config(first_run=True))


# --- Files ----------------------------------------------------------------------------------


def test_a_data_dir_that_is_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    for wrong in (path, path / "below"):
        with pytest.raises(SystemExit, match=f"^DATA_DIR={wrong} cannot be written to"):
            prepare_data_dir(wrong)


def test_a_data_dir_that_cannot_be_written_to_is_named() -> None:
    with pytest.raises(SystemExit, match=r"^DATA_DIR=/proc/gateway cannot be written to"):
        prepare_data_dir(Path("/proc/gateway"))
    with pytest.raises(SystemExit, match=r"^DATA_DIR=/proc cannot be written to"):
        prepare_data_dir(Path("/proc"))


def test_a_new_data_dir_is_closed_and_an_open_one_is_reported(tmp_path: Path, capsys: Any) -> None:
    prepare_data_dir(tmp_path / "new")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert capsys.readouterr().err == ""
    (tmp_path / "old").mkdir(mode=0o755)
    prepare_data_dir(tmp_path / "old")
    assert f"chmod 700 {tmp_path / 'old'}" in capsys.readouterr().err
    assert list((tmp_path / "old").iterdir()) == []


def test_a_database_that_others_can_read_is_closed(tmp_path: Path) -> None:
    files = [tmp_path / f"gateway.sqlite3{end}" for end in ("", "-wal", "-shm")]
    for path in files:
        path.touch(mode=0o644)
    prepare.close_to_others(files[0])
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


@pytest.mark.parametrize("content", [b"SECRET_KEY=\xff\xfe", b"\x00\xff"])
def test_an_env_file_that_is_no_text_is_named(
    monkeypatch: Any, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "env"
    path.write_bytes(content)
    monkeypatch.setenv("ENV_FILE", str(path))
    with pytest.raises(SystemExit, match=f"^{path} is not UTF-8 text"):
        read_env_file()


def test_an_env_file_of_somebody_else_is_named(monkeypatch: Any, tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("PORT=1\n")
    monkeypatch.setenv("ENV_FILE", str(path))

    def refuse(*args: Any, **kwargs: Any) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(SystemExit, match=f"^{path} cannot be read .*chown"):
        read_env_file()


def test_the_environment_wins_over_the_env_file(monkeypatch: Any, tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("THREADS=5\nWORKERS=3\n")
    monkeypatch.setenv("ENV_FILE", str(path))
    monkeypatch.setenv("WORKERS", "7")
    monkeypatch.setenv("THREADS", "")
    monkeypatch.delenv("THREADS")
    read_env_file()
    made = Config(first_run=False)
    monkeypatch.delenv("THREADS", raising=False)
    assert (made.threads, made.workers) == (5, 7)


# --- Whole starts that are refused ------------------------------------------------------------


def start_in_vain(tmp_path: Path, **settings: str) -> str:
    """Start the server. Returns the only output before it ends with status 1."""
    own = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    values = write_env.new_secrets() | {
        "PORT": "0", "DATA_DIR": str(tmp_path / "data"), "ENV_FILE": os.devnull,
        "DATABASE_URL": "", "DJANGO_SETTINGS_MODULE": "gateway.settings",
    }  # fmt: skip
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        values["PORT"] = str(probe.getsockname()[1])
    done = subprocess.run(
        [sys.executable, "scripts/serve.py"],
        cwd=ROOT, env=own | values | settings, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.slow
def test_an_unknown_log_level_is_one_sentence(tmp_path: Path) -> None:
    said = start_in_vain(tmp_path, LOG_LEVEL="chatty")
    assert said == "LOG_LEVEL must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL.\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, ["SECURE_COOKIES=true", "ALLOW_PLAIN_HTTP=true"]),
        ({"SECURE_COOKIES": "true", "DEBUG": "true"}, ["DEBUG=false"]),
        ({"SECURE_COOKIES": "true", "SECRET_KEY": "short"}, ["SECRET_KEY is weak", "--print"]),
        ({"ALLOW_PLAIN_HTTP": "true", "DEBUG": "true"}, ["DEBUG=false"]),
    ],
)
def test_others_do_not_reach_a_server_that_is_not_meant_for_them(
    tmp_path: Path, settings: dict[str, str], named: list[str]
) -> None:
    said = start_in_vain(tmp_path, HOST="0.0.0.0", **settings)  # noqa: S104
    assert said.startswith("HOST=0.0.0.0 can be reached by other machines")
    for text in (*named, "HOST=127.0.0.1"):
        assert text in said
    assert said.count("\n- ") == 1
