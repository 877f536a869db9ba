"""The secrets of a new installation are written once and never changed."""

import base64
import stat
from pathlib import Path

import pytest

from scripts import write_env

NAMES = ["SECRET_KEY", "ENCRYPTION_KEYS", "KEY_DIGEST_PEPPER", "FIRST_LOGIN_PASSWORD"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def values(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and line[0] != "#"]
    return dict(line.split("=", 1) for line in lines)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_creates_all_secrets_readable_by_the_owner_only(path: Path) -> None:
    assert write_env.write_secrets(path) == NAMES
    assert list(values(path)) == [*NAMES, "ALLOW_SIGNUP", "SIGNUP_CREDITS"]
    assert mode(path) == 0o600


def test_sign_up_is_open_on_a_new_installation_and_left_alone_on_others(path: Path) -> None:
    write_env.write_secrets(path)
    assert values(path)["ALLOW_SIGNUP"] == "true"
    assert values(path)["SIGNUP_CREDITS"] == "100"
    path.write_text("SECRET_KEY=kept\n")
    write_env.write_secrets(path)
    assert "SIGNUP" not in path.read_text()


def test_makes_secrets_of_the_promised_form() -> None:
    made = write_env.new_secrets()
    assert len(made["SECRET_KEY"]) >= 50
    key_id, _, key = made["ENCRYPTION_KEYS"].partition(":")
    assert key_id == "k1"
    assert len(base64.b64decode(key, validate=True)) == 32
    assert len(base64.b64decode(made["KEY_DIGEST_PEPPER"], validate=True)) == 32
    assert [len(group) for group in made["FIRST_LOGIN_PASSWORD"].split("-")] == [4] * 4


def test_makes_other_secrets_each_time() -> None:
    one, other = write_env.new_secrets(), write_env.new_secrets()
    assert all(one[name] != other[name] for name in NAMES)


def test_a_second_run_changes_nothing(path: Path) -> None:
    write_env.write_secrets(path)
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert write_env.write_secrets(path) == []
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_adds_only_what_is_missing_and_keeps_every_line(path: Path) -> None:
    path.write_text(
        "# mine\nSECRET_KEY=kept\nENCRYPTION_KEYS_FILE=/run/keys\nKEY_DIGEST_PEPPER=\nPORT=9"
    )
    assert write_env.write_secrets(path) == ["KEY_DIGEST_PEPPER", "FIRST_LOGIN_PASSWORD"]
    assert path.read_text().startswith("# mine\nSECRET_KEY=kept\nENCRYPTION_KEYS_FILE=/run/keys\n")
    assert values(path)["PORT"] == "9"
    assert values(path)["KEY_DIGEST_PEPPER"]
    assert mode(path) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_takes_back_reading_rights_of_others(path: Path) -> None:
    write_env.write_secrets(path)
    path.chmod(0o644)
    write_env.write_secrets(path)
    assert mode(path) == 0o600


def test_a_commented_secret_counts_as_missing() -> None:
    assert write_env.names_set_in("#SECRET_KEY=x\nexport PORT='1'\nHOST=''\nnonsense") == {"PORT"}
