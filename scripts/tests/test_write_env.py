"""The secrets of a new installation are written once and never changed."""

import base64
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from django.db import connection

from channels.models import User
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


# --- Beside a database that is there already ------------------------------------------------------


@pytest.fixture
def database(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The database of an installation whose `.env` is lost."""
    for name in (*NAMES, "DATABASE_URL", "ENV_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA_DIR", str(path.parent))
    monkeypatch.setattr(write_env, "BASE_DIR", path.parent)
    file = path.parent / "gateway.sqlite3"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE channels_user (id)")
        connection.execute("INSERT INTO channels_user VALUES (1)")
        connection.commit()
    return file


def test_a_lost_file_is_not_replaced_beside_a_database_in_use(path: Path, database: Path) -> None:
    with pytest.raises(SystemExit) as refused:
        write_env.main([])
    words = str(refused.value)
    assert "ENCRYPTION_KEYS, KEY_DIGEST_PEPPER are not in .env" in words
    assert f"already exists: {database}" in words
    assert "Restore .env" in words
    assert not path.exists()


@pytest.mark.parametrize("lost", ["ENCRYPTION_KEYS", "KEY_DIGEST_PEPPER"])
def test_a_lost_line_is_not_replaced_either(path: Path, database: Path, lost: str) -> None:
    write_env.write_secrets(path)
    kept = "".join(f"{name}={text}\n" for name, text in values(path).items() if name != lost)
    path.write_text(kept)
    with pytest.raises(SystemExit, match=f"^{lost} is not in .env"):
        write_env.main([])
    assert path.read_text() == kept


def test_a_lost_secret_key_is_replaced_as_it_only_logs_people_out(
    path: Path, database: Path
) -> None:
    path.write_text("ENCRYPTION_KEYS=kept\nKEY_DIGEST_PEPPER=kept\n")
    write_env.main([])
    assert values(path)["SECRET_KEY"]
    assert values(path)["KEY_DIGEST_PEPPER"] == "kept"


def test_a_database_without_people_is_new_enough(path: Path, database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("DELETE FROM channels_user")
        connection.commit()
    write_env.main([])
    assert list(values(path))[:4] == NAMES


@pytest.mark.parametrize("content", [b"", b"no database at all, but longer than a header" * 9])
def test_a_file_that_is_no_database_is_judged_by_what_it_is(
    path: Path, database: Path, content: bytes
) -> None:
    database.write_bytes(content)
    if content:
        with pytest.raises(SystemExit, match="not a database"):
            write_env.main([])
    else:
        write_env.main([])
        assert path.exists()


def test_secrets_from_elsewhere_need_no_file(
    path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = path.parent / "gateway.env"
    other.write_text("SECRET_KEY=kept\nENCRYPTION_KEYS=kept\n")
    monkeypatch.setenv("ENV_FILE", str(other))
    monkeypatch.setenv("KEY_DIGEST_PEPPER_FILE", "/run/secrets/pepper")
    write_env.main([])
    assert list(values(path)) == ["FIRST_LOGIN_PASSWORD", "ALLOW_SIGNUP", "SIGNUP_CREDITS"]


def test_the_database_is_found_where_the_settings_say(
    path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATA_DIR")
    elsewhere = path.parent / "else.sqlite3"
    database.rename(elsewhere)
    path.write_text(f"export DATABASE_URL='sqlite:///{elsewhere}'\n")
    with pytest.raises(SystemExit, match=r"else\.sqlite3"):
        write_env.main([])


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="asks the server")
def test_a_server_is_asked_too(path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = connection.settings_dict
    url = f"postgres://{asked['USER']}:{asked['PASSWORD']}@{asked['HOST']}:{asked['PORT']}"
    monkeypatch.setenv("DATABASE_URL", f"{url}/{asked['NAME']}")
    User.objects.all().delete()
    write_env.require_no_database(path)
    User.objects.create_user("owner@example.com")
    with pytest.raises(SystemExit, match=f"already: {asked['NAME']} on PostgreSQL"):
        write_env.main([])
    monkeypatch.setenv("DATABASE_URL", f"{url}/no_such_database")
    write_env.require_no_database(path)
