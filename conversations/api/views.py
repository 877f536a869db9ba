"""POST /api/chat, GET and DELETE /api/history. Each calls one service."""

from __future__ import annotations

import re
import uuid
from itertools import chain
from typing import Any
from urllib.parse import parse_qsl

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.translation import gettext_noop
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework.request import Request
from rest_framework.response import Response

from billing.throttling import ChatThrottle, CountedKey, ReadThrottle
from channels.authentication import ChannelIsEnabled, caller_of, check_model
from channels.callers import Caller
from common.api.base import ApiView, read_object
from common.api.openapi import describe, errors
from common.errors import InvalidRequest
from common.logs import request_id_var
from conversations.api import serializers
from conversations.api.streams import stream_answer
from conversations.archive import retention
from conversations.chat import answer, failures, history
from conversations.chat.idempotency import Key
from conversations.chat.simulation import PROVIDER_BEHAVIOURS, REFUSALS, read_simulation

SESSION_ID = OpenApiParameter(
    "session_id",
    {"type": "string", "maxLength": 255, "pattern": serializers.SESSION_ID_PATTERN},
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
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="At most 255 characters. The same key and body get the same answer, charged once.",
)
SIMULATE = OpenApiParameter(
    "X-Simulate",
    str,
    OpenApiParameter.HEADER,
    enum=[*REFUSALS, *PROVIDER_BEHAVIOURS],
    description="With a test key: the answer to simulate, to test error handling.",
)


class AskingView(ApiView):
    """The base of views that ask a model. Records each wrong body that came with a valid key."""

    def handle_exception(self, exc: Exception) -> Response:
        caller = getattr(self.request, "_auth", None)
        if caller is not None and isinstance(exc, failures.MALFORMED):
            failures.record_failure(
                exc,
                caller=caller,
                request_id=request_id_var.get(),
                model_id=caller.model.model_id,
            )
        return super().handle_exception(exc)


class ChatView(AskingView):
    """Answer a visitor's message with an AI reply."""

    authentication_classes = (CountedKey,)
    permission_classes = (ChannelIsEnabled,)
    throttle_classes = (ChatThrottle,)

    @describe(
        operation_id="chat",
        summary=gettext_noop("Send a visitor's message, get an AI reply"),
        parameters=[IDEMPOTENCY_KEY, SIMULATE],
        request=serializers.ChatRequestSchema,
        responses={
            (200, "application/json"): OpenApiResponse(
                serializers.ChatResponseSchema,
                "The reply. With `stream`: events `delta`, then one `done` or one `error`; the "
                "schema of `text/event-stream` describes each event.",
            ),
            (200, "text/event-stream"): serializers.ChatEventSchema,
        }
        | errors(400, 401, 403, 405, 409, 411, 413, 415, 422, 429, 500, 503),
    )
    def post(self, request: Request) -> HttpResponseBase:
        caller = caller_of(request)
        if caller.allowed_models is not None:
            check_model(caller, caller.model.model_id)
        asked = serializers.parse_chat_request(*read_request(request, caller))
        if asked.is_stream:
            return stream_answer(caller, asked)
        return serializers.respond(
            answer.answer(caller=caller, asked=asked, request_id=request_id_var.get())
        )


def read_request(
    request: Request, caller: Caller, *, path: str = ""
) -> tuple[dict[str, Any], Key | None, str]:
    """Return the object in the body, the Idempotency-Key, and the word in X-Simulate.

    With `path`, the same key at another endpoint is another key. Raises InvalidRequest or
    UnsupportedMediaType, and the refusal that a test key simulates.
    """
    body, data = read_object(request)
    meta = request._request.META  # `request.headers` would parse all of them
    key, simulate = None, ""
    if header := meta.get("HTTP_IDEMPOTENCY_KEY"):
        key = serializers.read_idempotency_key(header, body, path=path)
    if header := meta.get("HTTP_X_SIMULATE"):
        simulate = read_simulation(caller, header)
    return data, key, simulate


class HistoryView(ApiView):
    """Read the messages of a live session, or erase them for good."""

    authentication_classes = (CountedKey,)
    permission_classes = (ChannelIsEnabled,)
    throttle_classes = (ReadThrottle,)

    @describe(
        operation_id="history",
        summary=gettext_noop("Read a session, oldest message first"),
        parameters=[SESSION_ID, LIMIT, BEFORE],
        responses={200: serializers.HistorySchema} | errors(400, 401, 403, 405, 429, 500, 503),
    )
    def get(self, request: Request) -> HttpResponseBase:
        session_id, limit, before = read_history_query(request)
        pieces = history.read_history(
            caller=caller_of(request),
            session_id=session_id,
            now=timezone.now(),
            limit=limit,
            before=before,
        )
        first = next(pieces, ())  # before the headers, so that a failure is plain JSON
        body = serializers.render_history(chain([first] if first else [], pieces))
        if len(first) < history.MESSAGES_A_READ:
            return HttpResponse(b"".join(body), content_type="application/json")
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
    session_id = serializers.check_session_id(read_query(request), fields)
    if fields:
        raise InvalidRequest(fields=fields)
    return session_id


def read_history_query(request: Request) -> tuple[str, int | None, uuid.UUID | None]:
    """Return the query string's session_id, limit and before. Raises InvalidRequest."""
    fields: dict[str, str] = {}
    query = read_query(request)
    session_id = serializers.check_session_id(query, fields)
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
