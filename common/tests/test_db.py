"""Hand-written SQL that runs on both SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from common import db

TABLE = "common_test_table"
NOON = datetime(2026, 4, 5, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
def table(db: None) -> str:
    """A table for one test. The test's transaction rolls it back."""
    moment = "timestamp with time zone" if connection.vendor == "postgresql" else "datetime"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {TABLE} (id integer PRIMARY KEY, made_at {moment})")
    return TABLE


def test_reads_and_writes_rows(table: str) -> None:
    insert = f"INSERT INTO {table} (id) VALUES (%s), (%s), (%s)"  # noqa: S608  # a constant
    assert db.execute(insert, [1, 2, 3]) == 3
    select = f"SELECT id FROM {table} WHERE id > %(low)s ORDER BY id"  # noqa: S608  # a constant
    assert db.fetch_rows(select, {"low": 1}) == [(2,), (3,)]
    assert db.fetch_row(select, {"low": 1}) == (2,)
    assert db.fetch_row(select, {"low": 3}) is None
    assert db.fetch_rows(select, {"low": 3}) == []
    assert db.execute(f"UPDATE {table} SET id = id + 10 WHERE id > %s", [9]) == 0  # noqa: S608


def test_times_survive_the_database_to_the_microsecond(table: str) -> None:
    insert = f"INSERT INTO {table} (id, made_at) VALUES (1, %s)"  # noqa: S608  # a constant
    db.execute(insert, [db.param(NOON)])
    row = db.fetch_row(f"SELECT made_at FROM {table}", [])  # noqa: S608  # a constant
    assert row is not None
    assert db.time_value(row[0]) == NOON


def test_times_compare_in_the_database_as_they_do_here(table: str) -> None:
    """SQLite compares text: whole seconds, microseconds, and other zones must sort as times."""
    whole = NOON.replace(microsecond=0)
    elsewhere = (whole + timedelta(seconds=2)).astimezone(timezone(timedelta(hours=-7)))
    moments = [whole, whole + timedelta(microseconds=1), whole + timedelta(seconds=1), elsewhere]
    for number, moment in enumerate(moments):
        insert = f"INSERT INTO {table} (id, made_at) VALUES (%s, %s)"  # noqa: S608  # a constant
        db.execute(insert, [number, db.param(moment)])
    for number, moment in enumerate(moments):
        row = db.fetch_row(
            f"SELECT COUNT(*) FROM {table} WHERE made_at > %s",  # noqa: S608  # a constant
            [db.param(moment)],
        )
        assert row == (len(moments) - 1 - number,)


def test_times_given_back_as_text_or_naive_are_utc() -> None:
    assert db.time_value("2026-04-05 12:00:00.123456") == NOON
    assert db.time_value("2026-04-05 14:00:00.123456+02:00") == NOON
    assert db.time_value(NOON.replace(tzinfo=None)) == NOON
    assert db.time_value(NOON) is NOON


@pytest.mark.django_db
def test_a_connection_inside_a_transaction_is_kept() -> None:
    with transaction.atomic():
        held = connection.connection
        db.release_connection()
        assert connection.connection is held


@pytest.mark.django_db(transaction=True)
def test_a_free_connection_goes_back_to_the_pool_where_there_is_one() -> None:
    connection.ensure_connection()
    db.release_connection()
    assert (connection.connection is None) is (connection.vendor == "postgresql")
    assert db.fetch_row("SELECT 1", []) == (1,)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no pool")
@pytest.mark.django_db(transaction=True)
def test_a_statement_by_itself_borrows_a_connection_for_itself_alone() -> None:
    db.release_connection()
    assert db.fetch_rows("SELECT 1", []) == [(1,)]
    assert connection.connection is None
    with pytest.raises(DatabaseError):
        db.fetch_row("SELECT 1 / 0", [])
    assert db.fetch_row("SELECT 2", []) == (2,)
    assert connection.connection is None


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no pool")
@pytest.mark.django_db(transaction=True)
def test_a_statement_in_a_transaction_is_part_of_it() -> None:
    select = "SELECT pg_current_xact_id_if_assigned() IS NULL"
    with transaction.atomic():
        db.execute("CREATE TEMPORARY TABLE here (id integer) ON COMMIT DROP", [])
        assert db.fetch_row(select, []) == (False,)
    assert db.fetch_row(select, []) == (True,)


@pytest.mark.django_db
def test_a_value_is_found_among_others() -> None:
    condition = db.among("n.value", "wanted")
    select = f"SELECT n.value FROM (SELECT 2 AS value UNION SELECT 3) n WHERE {condition}"  # noqa: S608
    assert db.fetch_rows(select, {"wanted": db.list_param([1, 2])}) == [(2,)]
    assert db.fetch_rows(select, {"wanted": db.list_param([])}) == []


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no pool")
@pytest.mark.django_db(transaction=True)
def test_the_first_statement_of_a_process_opens_the_pool() -> None:
    wrapper: Any = connection
    wrapper.close()
    wrapper.close_pool()
    assert wrapper.pool.closed
    assert db.fetch_rows("SELECT 1", {}) == [(1,)]
    assert not wrapper.pool.closed


@pytest.mark.django_db(transaction=True)
def test_triggers_that_cannot_be_counted_are_no_number() -> None:
    assert db.count_triggers("no_such_table", {}) is None
    broken = {connection.vendor: "SELECT COUNT(*) FROM no_such_table"}
    assert db.count_triggers("django_migrations", broken) is None
    assert db.count_triggers("django_migrations", {connection.vendor: "SELECT 3"}) == 3
