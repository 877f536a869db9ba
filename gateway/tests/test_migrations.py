"""A migration leaves the tables usable for processes of the release before it.

While an update rolls, both releases write to the same tables. The old one still names every column
it knows, and none of the new ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from django.db import migrations
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.models import NOT_PROVIDED, Field

APPS = ("billing", "channels", "conversations")
TAKEN_AWAY = (
    migrations.RemoveField,
    migrations.RenameField,
    migrations.AlterModelTable,
    migrations.DeleteModel,
    migrations.RenameModel,
)
# From before the first release. 0039 gives the second a default.
EARLIER = {
    "billing.0008 RenameField redemptioncode.code",
    "channels.0009 AddField account.requires_second_factor",
}


def harms(operations: Sequence[Operation]) -> Iterator[str]:
    """Yield the operations after which statements of the release before fail."""
    created = {op.name_lower for op in operations if isinstance(op, migrations.CreateModel)}
    for op in operations:
        if isinstance(op, migrations.SeparateDatabaseAndState):
            yield from harms(op.database_operations)
            continue
        model = getattr(op, "model_name_lower", getattr(op, "name_lower", ""))
        is_harm = isinstance(op, TAKEN_AWAY)
        if isinstance(op, migrations.AddField):
            is_harm = is_needed(op.field)
        if is_harm and model not in created:
            yield f"{type(op).__name__} {model}.{getattr(op, 'name', getattr(op, 'old_name', ''))}"


def is_needed(field: Field[object, object]) -> bool:
    """Return whether a row cannot be inserted without the field."""
    return not (field.null or field.many_to_many or field.db_default is not NOT_PROVIDED)


def test_the_release_before_can_go_on() -> None:
    found = {
        f"{app}.{name[:4]} {harm}"
        for (app, name), migration in MigrationLoader(None).disk_migrations.items()
        if app in APPS
        for harm in harms(migration.operations)
    }
    assert found == EARLIER


@pytest.mark.parametrize(
    ("operation", "harm"),
    [
        (migrations.RemoveField("channel", "name"), ["RemoveField channel.name"]),
        (migrations.DeleteModel("Channel"), ["DeleteModel channel.Channel"]),
        (migrations.SeparateDatabaseAndState([], [migrations.RemoveField("channel", "name")]), []),
    ],
)
def test_what_harms_is_found(operation: Operation, harm: list[str]) -> None:
    assert list(harms([operation])) == harm
