"""Storing messages: one INSERT by hand, as every turn ends with it.

Through the ORM the two rows of a turn cost half a millisecond of CPU, most of it for preparing
each field and for the array form that Django chooses for PostgreSQL.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from common import db
from conversations.models import Message

_COLUMNS = [field.attname for field in Message._meta.concrete_fields]
_ROW = f"({', '.join(['%s'] * len(_COLUMNS))})"


def insert_messages(messages: Sequence[Message]) -> None:
    """Insert rows in one statement; part of the caller's transaction."""
    statement = (
        f"INSERT INTO conversations_message ({', '.join(_COLUMNS)}) "  # noqa: S608  # our names
        f"VALUES {', '.join([_ROW] * len(messages))}"
    )
    db.execute(
        statement,
        [_param(getattr(message, column)) for message in messages for column in _COLUMNS],
    )


def _param(value: Any) -> Any:
    """Return a value as both databases take it."""
    if isinstance(value, uuid.UUID):
        return value.hex
    if isinstance(value, datetime):
        return db.time_param(value)
    return str(value) if isinstance(value, Message.Role) else value
