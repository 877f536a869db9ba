"""Steps: the same SQL as one statement on PostgreSQL, and one after the other on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from channels.models import Plan
from common.db import Returned, Step, Steps, UnknownColumn, UnknownStep

pytestmark = pytest.mark.django_db(transaction=True)

RENAMED = Step(
    "renamed",
    ("id", "new_name"),
    "UPDATE channels_plan SET name = %(name)s WHERE name = 'first' RETURNING id, name",
)
LIMITED = Step(
    "limited",
    ("daily_quota",),
    """
UPDATE channels_plan SET daily_quota = %(quota)s
 WHERE name = 'second' AND EXISTS (SELECT 1 FROM renamed) RETURNING daily_quota
""",
)
STEPS = Steps(
    RENAMED,
    LIMITED,
    result="SELECT new_name, daily_quota FROM renamed LEFT JOIN limited ON TRUE",
)


@pytest.fixture(autouse=True)
def plans() -> None:
    for name in ("first", "second"):
        Plan.objects.create(name=name, daily_quota=5)


def state() -> list[Any]:
    return list(Plan.objects.order_by("id").values_list("name", "daily_quota"))


def test_a_step_reads_what_an_earlier_one_returned() -> None:
    assert STEPS.run({"name": "renamed", "quota": 7}) == [("renamed", 7)]
    assert state() == [("renamed", 5), ("second", 7)]


def test_what_hangs_on_a_refused_step_is_not_done() -> None:
    Plan.objects.filter(name="first").delete()
    assert STEPS.run({"name": "renamed", "quota": 7}) == []
    assert state() == [("second", 5)]


def test_a_step_that_fails_undoes_those_before_it() -> None:
    """Even without a transaction of the caller."""
    with pytest.raises(IntegrityError):
        STEPS.run({"name": "renamed", "quota": -1})
    assert state() == [("first", 5), ("second", 5)]


def test_steps_are_undone_with_the_callers_transaction() -> None:
    with transaction.atomic():
        STEPS.run({"name": "renamed", "quota": 7})
        transaction.set_rollback(True)
    assert state() == [("first", 5), ("second", 5)]


def test_postgresql_is_asked_once_and_in_no_transaction() -> None:
    with CaptureQueriesContext(connection) as captured:
        STEPS.run({"name": "renamed", "quota": 7})
    asked = [query["sql"].split()[0] for query in captured]
    assert asked == (
        ["WITH"]
        if connection.vendor == "postgresql"
        else ["BEGIN", "UPDATE", "WITH", "WITH", "COMMIT"]
    )


def test_a_single_write_opens_no_transaction() -> None:
    steps = Steps(RENAMED, result="SELECT new_name FROM renamed")
    with CaptureQueriesContext(connection) as captured:
        assert steps.run({"name": "renamed"}) == [("renamed",)]
    assert not any(query["sql"] == "BEGIN" for query in captured)


def test_nothing_is_asked_after_a_first_step_without_a_row() -> None:
    Plan.objects.filter(name="first").delete()
    steps = Steps(RENAMED, result="SELECT new_name FROM renamed")
    with CaptureQueriesContext(connection) as captured:
        assert steps.run({"name": "renamed"}) == []
    assert len(captured) == 1


@pytest.fixture
def _commits_wait() -> Iterator[None]:
    """Let commits wait for the disk, as on a production server; those of tests do not."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit TO on")
    yield
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("RESET synchronous_commit")


@pytest.mark.usefixtures("_commits_wait")
def test_what_need_not_wait_for_the_disk_leaves_later_transactions_as_they_were() -> None:
    steps = Steps(RENAMED, result="SELECT new_name FROM renamed", awaits_disk=False)
    with transaction.atomic():
        assert steps.run({"name": "renamed"}) == [("renamed",)]
        assert waits_for_the_disk() is (connection.vendor != "postgresql")
    assert waits_for_the_disk()
    assert state() == [("renamed", 5), ("second", 5)]


def waits_for_the_disk() -> bool:
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        return bool(cursor.fetchone() == ("on",))


# --- Putting a statement together -------------------------------------------------------------


def test_reading_a_step_that_is_not_there_is_refused_before_anything_runs() -> None:
    other = replace(RENAMED, name="other")
    with pytest.raises(UnknownStep, match="renamed"):
        Steps(other, LIMITED, result="SELECT new_name FROM other")


def test_a_step_cannot_read_one_that_comes_after_it() -> None:
    with pytest.raises(UnknownStep, match="renamed"):
        Steps(LIMITED, RENAMED, result="SELECT new_name FROM renamed")


def test_the_result_cannot_read_a_step_that_is_not_there() -> None:
    with pytest.raises(UnknownStep, match="limited"):
        Steps(RENAMED, result="SELECT new_name FROM renamed LEFT JOIN limited ON TRUE")


def test_reading_a_column_that_a_step_does_not_return_is_refused() -> None:
    with pytest.raises(UnknownColumn, match=r"renamed\.name"):
        Steps(RENAMED, result="SELECT renamed.name FROM renamed")


def test_tables_and_functions_are_no_steps() -> None:
    Steps(
        RENAMED,
        result="SELECT renamed.*, p.id FROM renamed JOIN channels_plan p ON p.id = renamed.id"
        " CROSS JOIN (SELECT value FROM unnest(ARRAY[1])) one",
    )


def test_a_constant_knows_the_columns_that_may_be_read() -> None:
    row = Returned("looked", ("has_quota",))
    assert f"{row['has_quota']} of {row}" == "has_quota of looked"
    with pytest.raises(UnknownColumn, match="has_room"):
        row["has_room"]
