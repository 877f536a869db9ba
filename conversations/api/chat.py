"""POST /api/chat: its view, the checks of its body, and its answer, whole or as events.

The checks are hand-written, which costs a tenth of a serializer's, and never coerce: a number is
not a string. schemas.py describes the same for the OpenAPI document.
"""

from __future__ import annotations

import logging
from typing import Any

import orjson
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext_noop
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework.request import Request
from rest_framework.response import Response

from billing.throttling import ChatThrottle, CountedKey
from channels.authentication import ChannelIsEnabled, caller_of, check_model
from channels.callers import Caller
from channels.providers.base import Delta
from channels.providers.tokens import describe_usage
from common.api.base import ApiView, read_object
from common.api.openapi import describe, errors
from common.api.rendering import error_body, to_api_error
from common.errors import ApiError, InvalidRequest
from common.logs import request_id_var
from common.money import format_credits
from conversations.api import schemas
from conversations.api.schemas import MAX_MESSAGE, MAX_SESSION_ID, MAX_TITLE, MAX_URL
from conversations.api.streams import stream_answer
from conversations.chat import answer as chat
from conversations.chat import failures, streaming
from conversations.chat.calls import Answer, Begun, Replay
from conversations.chat.idempotency import Key, fingerprint
from conversations.chat.message import Incoming
from conversations.chat.simulation import PROVIDER_BEHAVIOURS, REFUSALS, read_simulation

logger = logging.getLogger("gateway.conversations")

MAX_IDEMPOTENCY_KEY = 255
# Answers carry a warning from four fifths of the daily quota on.
WARN_FROM_FIFTHS = 4
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
        request=schemas.ChatRequestSchema,
        responses={
            (200, "application/json"): OpenApiResponse(
                schemas.ChatResponseSchema,
                "The reply. With `stream`: events `delta`, then one `done` or one `error`; the "
                "schema of `text/event-stream` describes each event.",
            ),
            (200, "text/event-stream"): schemas.ChatEventSchema,
        }
        | errors(400, 401, 403, 405, 409, 411, 413, 415, 422, 429, 500, 503),
    )
    def post(self, request: Request) -> HttpResponseBase:
        caller = caller_of(request)
        if caller.allowed_models is not None:
            check_model(caller, caller.model.model_id)
        asked = parse_chat_request(*read_request(request, caller))
        if asked.is_stream:
            return stream_answer(caller, asked)
        return respond(chat.answer(caller=caller, asked=asked, request_id=request_id_var.get()))


# --- The request ---------------------------------------------------------------------------------


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
        key = read_idempotency_key(header, body, path=path)
    if header := meta.get("HTTP_X_SIMULATE"):
        simulate = read_simulation(caller, header)
    return data, key, simulate


def read_idempotency_key(header: str, body: bytes, *, path: str) -> Key:
    """Return the caller's Idempotency-Key with the request it came with. Raises InvalidRequest."""
    if len(header) > MAX_IDEMPOTENCY_KEY or not header.isprintable():
        rule = f"Must be 1 to {MAX_IDEMPOTENCY_KEY} printable characters."
        raise InvalidRequest(fields={"Idempotency-Key": rule})
    return Key(header, fingerprint(body, path=path))


def parse_chat_request(
    data: dict[str, Any], key: Key | None = None, simulate: str = ""
) -> AskedChat:
    """Return the validated message. Raises InvalidRequest naming every field that is wrong."""
    fields: dict[str, str] = {}
    message = check_text(data, "message", fields, limit=None, required=True).strip()
    if "message" not in fields and not 1 <= len(message) <= MAX_MESSAGE:
        fields["message"] = (
            f"Must be 1 to {MAX_MESSAGE:,} characters long, not counting white space at the ends; "
            f"this one has {len(message):,}."
        )
    session_id = check_session_id(data, fields)
    page_url = page_title = ""
    if (metadata := data.get("metadata")) is not None:
        page_url, page_title = _parse_page(metadata, fields)
    is_stream = data.get("stream")
    if is_stream is not None and not isinstance(is_stream, bool):
        fields["stream"] = "Must be true or false."
    if fields:
        raise InvalidRequest(fields=fields)
    return AskedChat(
        message=message,
        session_id=session_id,
        page_url=page_url,
        page_title=page_title,
        is_stream=bool(is_stream),
        idempotency_key=key,
        simulate=simulate,
    )


def check_session_id(data: Any, fields: dict[str, str]) -> str:
    """Return the session id unchanged. Adds what is wrong with it to `fields`."""
    session_id = check_text(data, "session_id", fields, limit=MAX_SESSION_ID, required=True)
    if "session_id" not in fields and not session_id.strip():
        fields["session_id"] = "Must not be empty or only white space."
    return session_id


def _parse_page(metadata: Any, fields: dict[str, str]) -> tuple[str, str]:
    """Return the page's address and title. Adds what is wrong with them to `fields`."""
    if not isinstance(metadata, dict):
        fields["metadata"] = "Must be an object."
        return "", ""
    return (
        check_text(metadata, "url", fields, limit=MAX_URL, path="metadata.url"),
        check_text(metadata, "title", fields, limit=MAX_TITLE, path="metadata.title"),
    )


def check_text(
    data: Any,
    name: str,
    fields: dict[str, str],
    *,
    limit: int | None,
    required: bool = False,
    path: str = "",
) -> str:
    """Return a string member. If it is wrong, adds the reason to `fields` and returns ''."""
    value = data.get(name)
    problem = ""
    if value is None:
        problem = "This field is required." if required else ""
    elif not isinstance(value, str):
        problem = "Must be a string."
    elif limit is not None and len(value) > limit:
        problem = f"Must be at most {limit:,} characters long; this one has {len(value):,}."
    elif "\x00" in value:
        problem = "Must not contain NUL characters."
    elif not value.isascii() and _has_surrogate(value):
        problem = "Must not contain lone surrogates (half of a character pair)."
    if problem:
        fields[path or name] = problem
    return "" if problem or value is None else str(value)


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


# --- The answer ----------------------------------------------------------------------------------


class AskedChat(Incoming):
    """A message to POST /api/chat, and how its answer looks."""

    __slots__ = ()

    def render(self, answer: Answer) -> bytes:
        body = {
            "reply": answer.completion.text,
            "session_id": self.session_id,
            "message_id": str(answer.call.hold.id),
            "model": answer.call.caller.model.model_id,
            "finish_reason": answer.completion.finish_reason,
            "usage": describe_usage(answer.usage),
            "credits": {
                "charged": format_credits(answer.settlement.charged_microcredits),
                "remaining": format_credits(answer.settlement.available_microcredits),
            },
        }
        return orjson.dumps(body)

    def events(self, caller: Caller, begun: Begun) -> ChatEvents:
        return ChatEvents(caller)

    def replay(self, body: bytes) -> list[bytes]:
        return [streaming.delta(orjson.loads(body)["reply"]), streaming.event("done", body)]


class ChatEvents:
    """Writes a stream as `delta` events and one `done` or `error`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._request_id = request_id_var.get()

    def delta(self, delta: Delta) -> bytes:
        assert isinstance(delta, str), "no tools were offered"
        return streaming.delta(delta)

    def end(self, answer: Answer) -> bytes:
        return streaming.event("done", answer.body)

    def error(self, error: Exception) -> bytes:
        body = error_body(
            stream_error(error),
            fallback_replies=self._caller.fallback_replies,
            request_id=self._request_id,
        )
        return streaming.event("error", orjson.dumps(body))


def respond(answer: Answer | Replay) -> HttpResponse:
    """Return an answer with the credits left, the provider, and a warning before a limit."""
    if isinstance(answer, Replay):
        headers = {"Idempotency-Replayed": "true"}
        return HttpResponse(answer.body, content_type="application/json", headers=headers)
    headers = {
        "X-Credits-Remaining": format_credits(answer.settlement.available_microcredits),
        "X-Gateway-Provider": answer.provider_name,
    }
    warnings = []
    used, quota = answer.call.hold.messages_today, answer.call.caller.daily_quota
    if 5 * used >= WARN_FROM_FIFTHS * quota:
        warnings.append(f"daily_quota; used={used}; limit={quota}")
    if answer.settlement.is_low:
        warnings.append("low_balance")
    if warnings:
        headers["X-Budget-Warning"] = ", ".join(warnings)
    return HttpResponse(answer.body, content_type="application/json", headers=headers)


def stream_error(exception: Exception) -> ApiError:
    """Return the error that ends a stream. Logs a crash here, because nobody else sees it."""
    error = to_api_error(exception)
    if not isinstance(exception, ApiError):
        logger.error("api.stream.failed", extra={"code": error.code}, exc_info=exception)
    return error
