"""GET and DELETE /api/history. Each calls one service."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from urllib.parse import parse_qsl

import orjson
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.translation import gettext_noop
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework.request import Request
from rest_framework.response import Response

from billing.throttling import CountedKey, ReadThrottle
from channels.authentication import ChannelIsEnabled, caller_of
from common.api.base import ApiView
from common.api.openapi import describe, errors
from common.errors import InvalidRequest
from conversations.api import schemas
from conversations.api.chat import check_session_id
from conversations.archive import retention
from conversations.chat import history
from conversations.chat.history import HistoryRow
from server.answers import Download

SESSION_ID = OpenApiParameter(
    "session_id",
    {"type": "string", "maxLength": 255, "pattern": schemas.SESSION_ID_PATTERN},
    required=True,
    description="The session id that its messages were sent with.",
)
MOST_MESSAGES = 500
LIMIT = OpenApiParameter(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": MOST_MESSAGES},
    description="How many of the latest messages to return. Without `limit` and `before`: all.",
)
BEFORE = OpenApiParameter(
    "before",
    uuid.UUID,
    description="The `id` of a message. Returns messages before it, at most 500 without `limit`.",
)


class HistoryView(ApiView):
    """Read the messages of a live session, or erase them for good."""

    authentication_classes = (CountedKey,)
    permission_classes = (ChannelIsEnabled,)
    throttle_classes = (ReadThrottle,)

    @describe(
        operation_id="history",
        summary=gettext_noop("Read a session, oldest message first"),
        parameters=[SESSION_ID, LIMIT, BEFORE],
        responses={200: schemas.HistorySchema} | errors(400, 401, 403, 405, 429, 500, 503),
    )
    def get(self, request: Request) -> HttpResponseBase:
        session_id, limit, before = read_history_query(request)
        caller = caller_of(request)
        pieces = history.read_history(
            caller=caller,
            session_id=session_id,
            now=timezone.now(),
            limit=limit,
            before=before,
        )
        first = next(pieces, ())  # before the headers, so that a failure is plain JSON
        body: Iterable[bytes] = render_history(chain([first] if first else [], pieces))
        if len(first) < history.MESSAGES_A_READ:
            return HttpResponse(b"".join(body), content_type="application/json")
        body = Download(body, caller.account_id)
        return StreamingHttpResponse(body, content_type="application/json")

    @describe(
        operation_id="erase_history",
        summary=gettext_noop("Erase a session's text for good"),
        parameters=[SESSION_ID],
        responses={204: OpenApiResponse(description="Erased, or there was nothing to erase.")}
        | errors(400, 401, 403, 405, 429, 500, 503),
    )
    def delete(self, request: Request) -> Response:
        retention.erase_history(caller=caller_of(request), session_id=read_session_id(request))
        return Response(status=204)


def read_session_id(request: Request) -> str:
    """Return the query string's session_id. Raises InvalidRequest."""
    fields: dict[str, str] = {}
    session_id = check_session_id(read_query(request), fields)
    if fields:
        raise InvalidRequest(fields=fields)
    return session_id


def read_history_query(request: Request) -> tuple[str, int | None, uuid.UUID | None]:
    """Return the query string's session_id, limit and before. Raises InvalidRequest."""
    fields: dict[str, str] = {}
    query = read_query(request)
    session_id = check_session_id(query, fields)
    limit_text, before_text = query.get("limit"), query.get("before")
    limit = before = None
    if limit_text is not None:
        if re.fullmatch("[0-9]{1,3}", limit_text) and 1 <= int(limit_text) <= MOST_MESSAGES:
            limit = int(limit_text)
        else:
            fields["limit"] = f"Must be a whole number from 1 to {MOST_MESSAGES}."
    if before_text is not None:
        limit = limit or MOST_MESSAGES
        try:
            before = uuid.UUID(before_text)
        except ValueError:
            fields["before"] = history.BEFORE_RULE
    if fields:
        raise InvalidRequest(fields=fields)
    return session_id, limit, before


def read_query(request: Request) -> dict[str, str]:
    """Return the query string. If a name comes twice, its last value counts."""
    try:
        # Strict, because Django's own parsing replaces wrong bytes with a replacement character.
        query = parse_qsl(
            request.META.get("QUERY_STRING", ""), keep_blank_values=True, errors="strict"
        )
    except ValueError:
        raise InvalidRequest(fields={"session_id": "Must be percent-encoded UTF-8."}) from None
    return dict(query)


def render_history(pieces: Iterable[Sequence[HistoryRow]]) -> Iterator[bytes]:
    """Yield the body of a history piece by piece. If it is cut short, it is not valid JSON."""
    yield b'{"messages":['
    separator = b""
    for rows in pieces:
        messages = [
            {"id": row.id, "role": row.role, "content": row.content, "created_at": row.created_at}
            for row in rows
        ]
        yield separator + orjson.dumps(messages, option=orjson.OPT_UTC_Z)[1:-1]
        separator = b","
    yield b"]}"
