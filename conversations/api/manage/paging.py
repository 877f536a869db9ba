"""Lists in pages. A cursor says after which row to go on, so new rows move nothing.

It holds only values that the caller has already seen, and each list is filtered by account.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import orjson
from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from common.errors import InvalidRequest
from conversations.api.manage.base import read_query

MOST_ROWS = 100
LONGEST_CURSOR = 500

Row = TypeVar("Row", bound=Model)


def list_page(
    request: Request,
    rows: QuerySet[Row],
    describe: Callable[[Row], dict[str, Any]],
    *,
    by: tuple[str, ...] = ("id",),
    is_descending: bool = False,
) -> Response:
    """Return a page of rows in the order of the fields `by`, which are unique together.

    Raises InvalidRequest for a wrong limit or cursor.
    """
    query = read_query(request)
    fields: dict[str, str] = {}
    limit = _read_limit(query.get("limit"), fields)
    after = _read_cursor(rows.model, by, query.get("cursor"), fields)
    if fields:
        raise InvalidRequest(fields=fields)
    sign, beyond = ("-", "lt") if is_descending else ("", "gt")
    if after is not None:
        rows = rows.filter(_is_after(by, after, beyond))
    found = list(rows.order_by(*(f"{sign}{name}" for name in by))[: limit + 1])
    shown = found[:limit]
    has_more = len(found) > limit
    return Response(
        {
            "data": [describe(row) for row in shown],
            "next_cursor": _write_cursor(shown[-1], by) if has_more else None,
        }
    )


def _is_after(by: tuple[str, ...], after: list[Any], beyond: str) -> Q:
    """Return the condition for rows whose values come after these, compared from left to right."""
    condition, same = Q(), Q()
    for name, value in zip(by, after, strict=True):
        condition |= same & Q(**{f"{name}__{beyond}": value})
        same &= Q(**{name: value})
    return condition


def _read_limit(text: str | None, fields: dict[str, str]) -> int:
    if text is None:
        return MOST_ROWS
    if re.fullmatch("[0-9]{1,3}", text) and 1 <= int(text) <= MOST_ROWS:
        return int(text)
    fields["limit"] = f"Must be a whole number from 1 to {MOST_ROWS}."
    return MOST_ROWS


def _write_cursor(row: Model, by: tuple[str, ...]) -> str:
    values = [getattr(row, name) for name in by]
    return base64.urlsafe_b64encode(orjson.dumps([str(value) for value in values])).decode()


def _read_cursor(
    model: type[Model], by: tuple[str, ...], text: str | None, fields: dict[str, str]
) -> list[Any] | None:
    if text is None:
        return None
    try:
        if len(text) > LONGEST_CURSOR:
            raise ValueError
        stored = orjson.loads(base64.b64decode(text, altchars=b"-_", validate=True))
        if not isinstance(stored, list) or len(stored) != len(by):
            raise ValueError
        return [_parse(model, name, value) for name, value in zip(by, stored, strict=True)]
    except (ValueError, TypeError, binascii.Error, ValidationError):
        fields["cursor"] = "Must be the next_cursor of an earlier page of this list."
        return None


def _parse(model: type[Model], name: str, text: Any) -> Any:
    field: Any = model._meta.get_field(name)
    value = field.to_python(text)
    if not isinstance(text, str) or value is None:
        raise ValueError
    # Farther away, a database could not compare it.
    if isinstance(value, datetime) and not (value.tzinfo and 2000 <= value.year < 3000):
        raise ValueError
    return value
